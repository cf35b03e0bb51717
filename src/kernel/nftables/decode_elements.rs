//! Decodes the kernel's elements of sets to keys and ranges; `None` for anything that this program does not write.

use super::attribute_set::AttributeSet;
use super::wire::*;
use crate::kernel::netlink::attributes;
use crate::netfilter::nftables::{Elements, SetKind, SetPurpose, Verdict};

/// The elements of a set, which the kernel sends in several messages, in any order.
#[derive(Default)]
pub(super) struct ReadElements {
    keys: Keys,
    /// The verdict of each key, in a map.
    verdicts: Vec<Verdict>,
    /// The keys that end a range, exclusive.
    ends: Keys,
}

/// Keys of one length, in the order in which they were read.
#[derive(Default)]
struct Keys {
    length: usize,
    bytes: Vec<u8>,
}

impl Keys {
    /// Adds a key, unless it is empty or of another length.
    fn push(&mut self, key: &[u8]) -> Option<()> {
        if self.bytes.is_empty() {
            self.length = key.len();
        }
        (!key.is_empty() && key.len() == self.length).then(|| self.bytes.extend_from_slice(key))
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.length.max(1))
    }

    fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether each has this length.
    fn have_length(&self, length: usize) -> bool {
        self.bytes.is_empty() || self.length == length
    }

    /// In ascending order, each once.
    fn sorted(&self) -> Vec<&[u8]> {
        let mut sorted: Vec<_> = self.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        sorted
    }
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
        match ends_range {
            None | Some([0, 0, 0, 0]) => {
                self.keys.push(key)?;
                self.verdicts.extend(verdict);
                Some(())
            }
            Some(flags) if flags == ELEMENT_ENDS_RANGE.to_be_bytes() && verdict.is_none() => {
                self.ends.push(key)
            }
            Some(_) => None,
        }
    }

    /// All elements of the set, which is of this kind.
    pub(super) fn of(self, kind: &SetKind) -> Option<Elements> {
        let length = kind.key_length() as usize;
        if !self.keys.have_length(length) || !self.ends.have_length(length) {
            return None;
        }
        match kind.purpose {
            SetPurpose::Intervals => self.verdicts.is_empty().then(|| self.ranges())?,
            SetPurpose::VerdictMap => self.map(),
            SetPurpose::Set | SetPurpose::Dynamic { .. } => {
                let fits = self.ends.bytes.is_empty() && self.verdicts.is_empty();
                fits.then(|| self.keys.sorted().into_iter().map(|key| (key, None)).collect())
            }
        }
    }

    /// The keys with their verdicts. While a set grows, the kernel may send an element twice.
    fn map(self) -> Option<Elements> {
        if !self.ends.bytes.is_empty() || self.verdicts.len() != self.keys.len() {
            return None;
        }
        let mut elements = Elements::new();
        for (key, verdict) in self.keys.iter().zip(self.verdicts) {
            match elements.get(key).flatten() {
                Some(there) if *there != verdict => return None,
                Some(_) => {}
                None => elements.insert(key, Some(verdict)),
            }
        }
        Some(elements)
    }

    /// The ranges: each first key with the last key before the next end.
    fn ranges(self) -> Option<Elements> {
        let (mut ends, mut firsts) = (self.ends.sorted(), self.keys.sorted().into_iter().peekable());
        // nft adds this end marker to a set whose first range does not begin at zero.
        if ends.first().is_some_and(|end| end.iter().all(|byte| *byte == 0)) {
            ends.remove(0);
        }
        let (mut ranges, mut ends) = (Elements::new(), ends.into_iter());
        while let Some(first) = firsts.next() {
            let last: Box<[u8]> = match (ends.next(), firsts.peek()) {
                (Some(end), next) if end > first && next.is_none_or(|next| *next >= end) => predecessor(end),
                (None, None) => vec![0xff; first.len()].into(),
                (Some(_) | None, _) => return None,
            };
            ranges.insert(&[first, &*last].concat(), None);
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
pub(super) fn value(data: &[u8]) -> Option<&[u8]> {
    let mut all = AttributeSet::of(data)?;
    let value = all.take(DATA_VALUE)?;
    all.end().map(|()| value)
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
