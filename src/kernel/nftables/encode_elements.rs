//! Encodes elements of sets as netlink messages.

use super::wire::*;
use crate::kernel::netlink::Message;
use crate::netfilter::nftables::{Elements, Verdict};

/// From this length on, in bytes, a message is full: the attribute of all its elements may have 64 KiB, and one element
/// has less than 1.
const LONG_ENOUGH: usize = 48 * 1024;

/// Passes the messages for the elements to `push`, as many as needed; `request` creates each of them.
pub(super) fn put_all(
    elements: &Elements,
    request: impl Fn() -> Message,
    put: impl Fn(&mut Message, &[u8], Option<&Verdict>),
    mut push: impl FnMut(Message),
) {
    let mut rest = elements.iter().peekable();
    while rest.peek().is_some() {
        let mut message = request();
        message.nest(ELEMENTS, |list| {
            while list.len() < LONG_ENOUGH
                && let Some((key, verdict)) = rest.next()
            {
                put(list, key, verdict);
            }
        });
        push(message);
    }
}

/// Adds a key with its verdict, if it has one.
pub(super) fn put_element(list: &mut Message, key: &[u8], verdict: Option<&Verdict>) {
    list.nest(LIST_ELEMENT, |element| {
        element.nest(ELEMENT_KEY, |data| data.put(DATA_VALUE, key));
        if let Some(verdict) = verdict {
            element.nest(ELEMENT_DATA, |data| put_verdict(data, verdict));
        }
    });
}

/// Adds a range: its first key, and the key after its last one, if there is one.
pub(super) fn put_range(list: &mut Message, range: &[u8], _: Option<&Verdict>) {
    let (first, last) = range.split_at(range.len() / 2);
    put_element(list, first, None);
    if let Some(end) = successor(last) {
        list.nest(LIST_ELEMENT, |element| {
            element.nest(ELEMENT_KEY, |data| data.put(DATA_VALUE, &end));
            element.put(ELEMENT_FLAGS, &ELEMENT_ENDS_RANGE.to_be_bytes());
        });
    }
}

/// The next key; `None` after the last.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// Adds a verdict as a data attribute.
pub(super) fn put_verdict(data: &mut Message, verdict: &Verdict) {
    data.nest(DATA_VERDICT, |nested| {
        let (code, chain) = verdict_code(verdict);
        nested.put(VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            nested.put_text(VERDICT_CHAIN, chain);
        }
    });
}

fn verdict_code(verdict: &Verdict) -> (i32, Option<&str>) {
    match verdict {
        Verdict::Drop => (NF_DROP, None),
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    }
}
