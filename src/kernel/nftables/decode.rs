//! Decodes the kernel's messages about a table. If they contain anything that this program does not write, the table is
//! foreign.

use super::attribute_set::AttributeSet;
use super::decode_elements::ReadElements;
use super::decode_rule::{ReadRule, rule};
use super::numbers::{hook_number, key_type};
use super::wire::*;
use crate::apply::{TableOwner, TableRead};
use crate::kernel::netlink::{find, text};
use crate::netfilter::iptables::Count;
use crate::netfilter::nftables::{
    Chain, Elements, Hook, HookPoint, KeyPart, Set, SetKind, SetPurpose, Table,
};
use std::collections::BTreeMap;

/// Builds a table from the messages about it: messages about chains must come before those about rules, and messages
/// about sets before those about elements. Messages about other tables are ignored.
pub(super) struct TableReader {
    table: Table,
    /// The netlink port that is to own the table; nothing if none is to.
    wanted_owner: Option<u32>,
    /// Nothing until a message said it.
    owner: Option<TableOwner>,
    foreign: bool,
    counted: BTreeMap<Box<str>, u64>,
    elements: BTreeMap<Box<str>, ReadElements>,
}

impl TableReader {
    /// Begins with a table that has nothing in it. `wanted_owner` is the netlink port that is to own it, if one is to.
    pub(super) fn new(table: Table, wanted_owner: Option<u32>) -> TableReader {
        let (counted, elements) = (BTreeMap::new(), BTreeMap::new());
        TableReader { table, wanted_owner, owner: None, foreign: false, counted, elements }
    }

    fn is_of(&self, message: &[u8]) -> bool {
        find(message, OF_TABLE).and_then(text) == Some(&self.table.name)
    }

    /// Decodes a message about a table.
    pub(super) fn table(&mut self, message: &[u8]) {
        if self.is_of(message) {
            let owner = table_owner(message, self.wanted_owner);
            self.foreign |= owner.is_none();
            self.owner = Some(owner.unwrap_or_default());
        }
    }

    /// Whether there was a message about the table itself.
    pub(super) fn is_there(&self) -> bool {
        self.owner.is_some()
    }

    /// Decodes a message about a chain.
    pub(super) fn chain(&mut self, message: &[u8]) {
        if self.is_of(message) {
            match chain(message) {
                Some((name, chain)) => drop(self.table.chains.insert(name, chain)),
                None => self.foreign = true,
            }
        }
    }

    /// Decodes a message about a rule.
    pub(super) fn rule(&mut self, message: &[u8]) {
        if !self.is_of(message) {
            return;
        }
        let read = rule(message).and_then(|read| Some((self.table.chains.get_mut(&read.chain)?, read)));
        match read {
            Some((place, ReadRule { chain, rule, counted })) => {
                place.rules.push(rule);
                *self.counted.entry(chain).or_default() += counted;
            }
            None => self.foreign = true,
        }
    }

    /// Decodes a message about a set.
    pub(super) fn set(&mut self, message: &[u8]) {
        if self.is_of(message) {
            match set(message) {
                Some((name, kind)) => {
                    self.table.sets.insert(name, Set { kind, elements: Elements::new() });
                }
                None => self.foreign = true,
            }
        }
    }

    /// The sets whose elements this program writes.
    pub(super) fn asked_sets(&self) -> Vec<Box<str>> {
        let is_asked = |set: &Set| !matches!(set.kind.purpose, SetPurpose::Dynamic { .. });
        let sets = self.table.sets.iter().filter(|(_, set)| is_asked(set));
        sets.map(|(name, _)| name.clone()).collect()
    }

    /// Decodes a message about elements of a set.
    pub(super) fn elements(&mut self, message: &[u8]) {
        if self.is_of(message) {
            let set = find(message, ELEMENTS_SET).and_then(text).unwrap_or_default();
            self.foreign |= self.elements.entry(set.into()).or_default().add(message).is_none();
        }
    }

    /// Decodes a message about a counter or another object.
    pub(super) fn object(&mut self, message: &[u8]) {
        if self.is_of(message) {
            match counter(message) {
                Some((name, _)) => drop(self.table.counters.insert(name)),
                None => self.foreign = true,
            }
        }
    }

    /// The complete table.
    pub(super) fn end(mut self) -> TableRead {
        let Some(owner) = self.owner else { return TableRead::Absent };
        for (name, read) in self.elements {
            let place = self.table.sets.get_mut(&name);
            match place.and_then(|place| Some((read.of(&place.kind)?, place))) {
                Some((elements, place)) => place.elements = elements,
                None => self.foreign = true,
            }
        }
        if self.foreign {
            return TableRead::Foreign;
        }
        TableRead::Ours { table: self.table, counted: self.counted, owner }
    }
}

/// What the owner of a table is to the process that reads it. `None` if the table has flags that this program does not give it, such
/// as that of a table that is not in force (NFT_TABLE_F_DORMANT).
fn table_owner(message: &[u8], wanted: Option<u32>) -> Option<TableOwner> {
    let mut all = AttributeSet::of(message)?;
    all.ignore(&[OF_TABLE, TABLE_USE, TABLE_HANDLE, TABLE_PADDING]);
    let flags = all.number_or_zero(TABLE_FLAGS)?;
    let owner = all.number_or_zero(TABLE_OWNER)?;
    all.end_of_object(TABLE_LAST_KNOWN).filter(|()| flags & !(TABLE_IS_OWNER | TABLE_PERSISTS) == 0)?;
    Some(match wanted {
        None => TableOwner::Settled,
        Some(wanted) if flags & TABLE_IS_OWNER != 0 && owner == wanted => TableOwner::Settled,
        Some(_) if flags != 0 => TableOwner::Ended,
        Some(_) => TableOwner::Nobody,
    })
}

fn chain(message: &[u8]) -> Option<(Box<str>, Chain)> {
    let mut all = AttributeSet::of(message)?;
    all.ignore(&[OF_TABLE, CHAIN_HANDLE, CHAIN_USE, CHAIN_PADDING]);
    let name = all.text(CHAIN_NAME)?;
    let flags = all.number_or_zero(CHAIN_FLAGS)?;
    let base = match all.take(CHAIN_HOOK) {
        None => None,
        Some(hook) => {
            let mut hook = AttributeSet::of(hook)?;
            let wanted = hook.number(HOOK_NUMBER)?;
            let point = HookPoint::ALL.into_iter().find(|point| hook_number(*point) == wanted)?;
            let priority = hook.number(HOOK_PRIORITY)?.cast_signed();
            hook.end()?;
            let is_filter = all.text(CHAIN_TYPE).as_deref() == Some("filter");
            let accepts = all.number(CHAIN_POLICY) == Some(NF_ACCEPT.cast_unsigned());
            Some(Hook { point, priority }).filter(|_| is_filter && accepts).map(Some)?
        }
    };
    let plain = flags == 0 || base.is_some() && flags == CHAIN_IS_BASE;
    all.end_of_object(CHAIN_LAST_KNOWN).filter(|()| plain)?;
    Some((name, Chain { base, rules: Vec::new() }))
}

fn set(message: &[u8]) -> Option<(Box<str>, SetKind)> {
    let mut all = AttributeSet::of(message)?;
    all.ignore(&[
        OF_TABLE,
        SET_DATA_LENGTH,
        SET_POLICY,
        SET_ID,
        SET_USERDATA,
        SET_PADDING,
        SET_HANDLE,
        SET_TYPE,
        SET_COUNT,
    ]);
    let name = all.text(SET_NAME)?;
    let purpose = match all.number_or_zero(SET_FLAGS)? {
        0 => SetPurpose::Set,
        SET_HAS_INTERVALS => SetPurpose::Intervals,
        SET_IS_MAP if all.number(SET_DATA_TYPE) == Some(DATA_IS_VERDICT) => SetPurpose::VerdictMap,
        flags if flags == SET_HAS_TIMEOUT | SET_IS_DYNAMIC => {
            SetPurpose::Dynamic { timeout_ms: all.long(SET_TIMEOUT)? }
        }
        _ => return None,
    };
    let mut description = AttributeSet::of(all.take(SET_DESCRIPTION).unwrap_or_default())?;
    let size = description.number_or_zero(DESCRIPTION_SIZE)?;
    description.ignore(&[DESCRIPTION_OF_PARTS]);
    description.end()?;
    let (wanted, length) = (all.number(SET_KEY_TYPE)?, all.number(SET_KEY_LENGTH)?);
    all.end_of_object(SET_LAST_KNOWN)?;
    let kind = SetKind { key: key_parts(wanted)?, purpose, size };
    (length == kind.key_length() && key_type(&kind) == wanted).then_some((name, kind))
}

/// The parts of a key, from the number of its type.
fn key_parts(number: u32) -> Option<Vec<KeyPart>> {
    let parts = (0..4).rev().map(|place| number >> (6 * place) & 0x3f).skip_while(|part| *part == 0);
    parts.map(|part| KeyPart::ALL.into_iter().find(|own| own.number() == part)).collect()
}

/// The name of a counter and its count. `None` for another kind of object.
pub(super) fn counter(message: &[u8]) -> Option<(Box<str>, Count)> {
    let mut all = AttributeSet::of(message)?;
    all.ignore(&[OF_TABLE, OBJECT_USE, OBJECT_HANDLE, OBJECT_PADDING, OBJECT_USERDATA]);
    let (name, is_counter) = (all.text(OBJECT_NAME)?, all.is(OBJECT_TYPE, OBJECT_IS_COUNTER));
    let mut data = AttributeSet::of(all.take(OBJECT_DATA)?)?;
    let count = Count { packets: data.long(COUNTER_PACKETS)?, bytes: data.long(COUNTER_BYTES)? };
    all.end_of_object(OBJECT_LAST_KNOWN).filter(|()| is_counter)?;
    Some((name, count))
}

/// The number of the last transaction of this network namespace.
pub(super) fn generation(message: &[u8]) -> Option<u32> {
    AttributeSet::of(message)?.number(GENERATION_ID)
}
