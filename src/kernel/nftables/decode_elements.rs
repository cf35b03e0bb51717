//! Decodes the kernel's elements of sets to keys and ranges; `None` for anything that this program does not write.

use super::attribute_set::AttributeSet;
use super::wire::*;
use crate::kernel::netlink::attributes;
use crate::netfilter::nftables::{Elements, SetKind, SetPurpose, Verdict};
use std::collections::BTreeSet;

/// The elements of a set, which the kernel sends in several messages, in any order.
#[derive(Default)]
pub(super) struct ReadElements {
    keys: Elements,
    /// The keys that end a range, exclusive.
    ends: BTreeSet<Box<[u8]>>,
}

impl ReadElements {
    /// Adds the elements of a message.
    pub(super) fn add(&mut self, message: &[u8]) -> Option<()> {
        let mut all = AttributeSet::of(message)?;
        all.ignore(&[OF_TABLE, ELEMENTS_SET]);
        let list = all.take(ELEMENTS)?;
        all.end_of_object(ELEMENTS_LAST_KNOWN)?;
        let mut length = 0;
        for element in attributes(list) {
            length += element.bytes.len().next_multiple_of(4);
            Some(element.kind).filter(|kind| *kind == LIST_ELEMENT)?;
            self.add_one(element.payload)?;
        }
        (length >= list.len()).then_some(())
    }

    fn add_one(&mut self, element: &[u8]) -> Option<()> {
        let mut all = AttributeSet::of(element)?;
        all.ignore(&[ELEMENT_USERDATA, ELEMENT_PADDING]);
        let key = value(all.take(ELEMENT_KEY)?)?;
        let verdict = match all.take(ELEMENT_DATA) {
            None => None,
            Some(data) => Some(verdict(data)?),
        };
        let ends_range = all.take(ELEMENT_FLAGS);
        all.end_of_object(ELEMENT_LAST_KNOWN)?;
        // While a set grows, the kernel may send an element twice.
        match ends_range {
            None | Some([0, 0, 0, 0]) => {
                let there = self.keys.insert(key, verdict.clone());
                there.is_none_or(|there| there == verdict).then_some(())
            }
            Some(flags) if flags == ELEMENT_ENDS_RANGE.to_be_bytes() && verdict.is_none() => {
                self.ends.insert(key);
                Some(())
            }
            Some(_) => None,
        }
    }

    /// All elements of the set, which is of this kind.
    pub(super) fn of(self, kind: &SetKind) -> Option<Elements> {
        let length = kind.key_length() as usize;
        let is_map = kind.purpose == SetPurpose::VerdictMap;
        let fit = self.keys.iter().all(|(key, verdict)| key.len() == length && verdict.is_some() == is_map)
            && self.ends.iter().all(|end| end.len() == length);
        match kind.purpose {
            _ if !fit => None,
            SetPurpose::Intervals => self.ranges(),
            SetPurpose::Set | SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => {
                self.ends.is_empty().then_some(self.keys)
            }
        }
    }

    /// The ranges: each first key with the last key before the next end.
    fn ranges(mut self) -> Option<Elements> {
        // nft adds this end marker to a set whose first range does not begin at zero.
        if self.ends.first().is_some_and(|end| end.iter().all(|byte| *byte == 0)) {
            self.ends.pop_first();
        }
        let (mut ranges, mut ends) = (Elements::new(), self.ends.into_iter());
        let mut firsts = self.keys.into_keys().peekable();
        while let Some(first) = firsts.next() {
            let last: Box<[u8]> = match (ends.next(), firsts.peek()) {
                (Some(end), next) if end > first && next.is_none_or(|next| *next >= end) => predecessor(&end),
                (None, None) => vec![0xff; first.len()].into(),
                (Some(_) | None, _) => return None,
            };
            ranges.insert([first, last].concat().into(), None);
        }
        ends.next().is_none().then_some(ranges)
    }
}

/// The key before this one, which is not zero.
fn predecessor(key: &[u8]) -> Box<[u8]> {
    let mut before: Box<[u8]> = key.into();
    for byte in before.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    before
}

/// The value in a data attribute.
pub(super) fn value(data: &[u8]) -> Option<Box<[u8]>> {
    let mut all = AttributeSet::of(data)?;
    let value = all.take(DATA_VALUE)?;
    all.end().map(|()| value.into())
}

/// The verdict in a data attribute.
pub(super) fn verdict(data: &[u8]) -> Option<Verdict> {
    let mut all = AttributeSet::of(data)?;
    let mut verdict = AttributeSet::of(all.take(DATA_VERDICT)?)?;
    all.end()?;
    let code = verdict.number(VERDICT_CODE)?.cast_signed();
    let chain = if verdict.has(VERDICT_CHAIN) { Some(verdict.text(VERDICT_CHAIN)?) } else { None };
    verdict.end()?;
    match (code, chain) {
        (NF_DROP, None) => Some(Verdict::Drop),
        (NF_ACCEPT, None) => Some(Verdict::Accept),
        (NFT_RETURN, None) => Some(Verdict::Return),
        (NFT_JUMP, Some(chain)) => Some(Verdict::Jump(chain)),
        (NFT_GOTO, Some(chain)) => Some(Verdict::Goto(chain)),
        _ => None,
    }
}
