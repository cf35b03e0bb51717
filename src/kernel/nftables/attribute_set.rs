//! The attributes of one object or expression. A reader takes each attribute that it knows, so that no attribute which
//! changes a meaning is overlooked.

use crate::kernel::netlink::{attributes, exact};
use std::collections::BTreeMap;

pub(super) struct AttributeSet<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> AttributeSet<'a> {
    /// `None` if an attribute is truncated, or occurs twice.
    pub(super) fn of(bytes: &'a [u8]) -> Option<AttributeSet<'a>> {
        let (mut all, mut length) = (BTreeMap::new(), 0);
        for attribute in attributes(bytes) {
            length += attribute.bytes.len().next_multiple_of(4);
            if all.insert(attribute.kind, attribute.payload).is_some() {
                return None;
            }
        }
        (length >= bytes.len()).then_some(AttributeSet(all))
    }

    /// The payload of an attribute.
    pub(super) fn take(&mut self, kind: u16) -> Option<&'a [u8]> {
        self.0.remove(&kind)
    }

    /// Whether an attribute exists.
    pub(super) fn has(&self, kind: u16) -> bool {
        self.0.contains_key(&kind)
    }

    /// A required attribute of 32 bits in network byte order.
    pub(super) fn number(&mut self, kind: u16) -> Option<u32> {
        self.take(kind).and_then(exact).map(u32::from_be_bytes)
    }

    /// The same, but 0 if it does not exist.
    pub(super) fn number_or_zero(&mut self, kind: u16) -> Option<u32> {
        if self.has(kind) { self.number(kind) } else { Some(0) }
    }

    /// A required attribute of 64 bits in network byte order.
    pub(super) fn long(&mut self, kind: u16) -> Option<u64> {
        self.take(kind).and_then(exact).map(u64::from_be_bytes)
    }

    /// The text of an attribute, without its terminating NUL.
    pub(super) fn text(&mut self, kind: u16) -> Option<Box<str>> {
        let [text @ .., 0] = self.take(kind)? else { return None };
        std::str::from_utf8(text).ok().filter(|text| !text.contains('\0')).map(Into::into)
    }

    /// Whether an attribute of 32 bits has a value; a missing one counts as 0.
    pub(super) fn is(&mut self, kind: u16, value: u32) -> bool {
        match self.take(kind) {
            None => value == 0,
            Some(bytes) => exact(bytes).map(u32::from_be_bytes) == Some(value),
        }
    }

    /// Skips attributes that do not affect packets.
    pub(super) fn ignore(&mut self, kinds: &[u16]) {
        self.0.retain(|kind, _| !kinds.contains(kind));
    }

    /// `None` if an attribute was not taken.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// The same, except for attributes that Linux 6.18 does not have: later kernels may report more about an object.
    pub(super) fn end_of_object(self, last_known: u16) -> Option<()> {
        self.0.keys().all(|kind| *kind > last_known).then_some(())
    }
}
