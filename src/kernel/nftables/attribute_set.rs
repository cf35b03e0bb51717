//! The attributes of one object or expression. A reader takes each that it knows, so that none that changes a meaning is
//! overlooked.

use crate::kernel::netlink::{attributes, exact};
use std::collections::BTreeMap;

pub(super) struct AttributeSet<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> AttributeSet<'a> {
    /// `None` if an attribute is cut short, or there twice.
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

    /// Whether an attribute is there.
    pub(super) fn has(&self, kind: u16) -> bool {
        self.0.contains_key(&kind)
    }

    /// An attribute that is there and 32 bits in network byte order.
    pub(super) fn number(&mut self, kind: u16) -> Option<u32> {
        self.take(kind).and_then(exact).map(u32::from_be_bytes)
    }

    /// The same, and 0 if it is not there.
    pub(super) fn number_or_zero(&mut self, kind: u16) -> Option<u32> {
        if self.has(kind) { self.number(kind) } else { Some(0) }
    }

    /// An attribute that is there and 64 bits in network byte order.
    pub(super) fn long(&mut self, kind: u16) -> Option<u64> {
        self.take(kind).and_then(exact).map(u64::from_be_bytes)
    }

    /// The text of an attribute: all of it up to the NUL that ends it.
    pub(super) fn text(&mut self, kind: u16) -> Option<Box<str>> {
        let [text @ .., 0] = self.take(kind)? else { return None };
        std::str::from_utf8(text).ok().filter(|text| !text.contains('\0')).map(Into::into)
    }

    /// Whether an attribute of 32 bits has a value; one that is not there is 0.
    pub(super) fn is(&mut self, kind: u16, value: u32) -> bool {
        match self.take(kind) {
            None => value == 0,
            Some(bytes) => exact(bytes).map(u32::from_be_bytes) == Some(value),
        }
    }

    /// Leaves out attributes that say nothing of what packets meet.
    pub(super) fn ignore(&mut self, kinds: &[u16]) {
        self.0.retain(|kind, _| !kinds.contains(kind));
    }

    /// `None` if an attribute was not taken.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// The same, without those that Linux 6.18 does not have: later ones report more of an object.
    pub(super) fn end_of_object(self, last_known: u16) -> Option<()> {
        self.0.keys().all(|kind| *kind > last_known).then_some(())
    }
}
