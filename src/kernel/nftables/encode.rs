//! Encodes changes of a table as netlink messages (linux/netfilter/nf_tables.h).

use super::encode_elements::{element_messages, put_element, put_range};
use super::encode_rule::put_rule;
use super::numbers::{family_number, hook_number, key_type};
use super::wire::*;
use super::writer::TableFlags;
use crate::kernel::netlink::{ACKNOWLEDGE, CREATE, DUMP, Message};
use crate::netfilter::nftables::{Batch, Change, Hook, SetKind, SetPurpose, TableFamily};

/// A transaction with its begin and end messages.
pub(super) struct Transaction<'a> {
    /// Its messages.
    pub(super) messages: Vec<Message>,
    /// The change that each of them makes, except for the first and the last message.
    pub(super) changes: Vec<(&'a Batch, &'a Change)>,
}

/// One transaction with all batches.
pub(super) fn transaction(batches: &[Batch], flags: TableFlags) -> Transaction<'_> {
    let boundary = |kind| Message::new(0, kind, 0, 0).about(u16::from(SUBSYSTEM));
    let (mut messages, mut changes) = (vec![boundary(BATCH_BEGIN)], Vec::new());
    for batch in batches {
        for change in &batch.changes {
            messages.extend(change_messages(batch, change, flags));
            changes.resize(messages.len() - 1, (batch, change));
        }
    }
    // Only new kernels acknowledge the end itself.
    if let [_, .., last] = messages.as_mut_slice() {
        last.demand_acknowledgement();
    }
    messages.push(boundary(BATCH_END));
    Transaction { messages, changes }
}

fn change_messages(batch: &Batch, change: &Change, flags: TableFlags) -> Vec<Message> {
    let request = |command, flags| Message::new(SUBSYSTEM, command, flags, family_number(batch.family));
    let table = |command, flags| {
        let mut message = request(command, flags);
        message.put_text(OF_TABLE, &batch.table);
        message
    };
    let named = |command, flags, kind, name: &str| {
        let mut message = table(command, flags);
        message.put_text(kind, name);
        message
    };
    match change {
        Change::AddTable => {
            let mut message = table(NEW_TABLE, CREATE);
            if flags == TableFlags::Owned {
                message.put(TABLE_FLAGS, &(TABLE_IS_OWNER | TABLE_PERSISTS).to_be_bytes());
            }
            vec![message]
        }
        // Without flags, the first changes no table that is there. NFT_MSG_DESTROYTABLE exists only since Linux 6.3.
        Change::DeleteTable => vec![table(NEW_TABLE, CREATE), table(DELETE_TABLE, 0)],
        Change::AddChain(name, base) => {
            let mut message = named(NEW_CHAIN, CREATE, CHAIN_NAME, name);
            if let Some(base) = base {
                put_hook(&mut message, base);
            }
            vec![message]
        }
        Change::FlushChain(name) => vec![named(DELETE_RULE, 0, RULE_CHAIN, name)],
        Change::DeleteChain(name) => vec![named(DELETE_CHAIN, 0, CHAIN_NAME, name)],
        Change::AddRule(chain, rule) => {
            let mut message = named(NEW_RULE, CREATE | APPEND, RULE_CHAIN, chain);
            put_rule(&mut message, rule);
            vec![message]
        }
        Change::AddSet(name, kind) => {
            let mut message = named(NEW_SET, CREATE, SET_NAME, name);
            put_set_kind(&mut message, kind);
            vec![message]
        }
        Change::DeleteSet(name) => vec![named(DELETE_SET, 0, SET_NAME, name)],
        Change::FlushSet(set) => vec![named(DELETE_ELEMENTS, 0, ELEMENTS_SET, set)],
        Change::AddElements(set, elements) => {
            element_messages(elements, || named(NEW_ELEMENTS, CREATE, ELEMENTS_SET, set), put_element)
        }
        Change::AddRanges(set, elements) => {
            element_messages(elements, || named(NEW_ELEMENTS, CREATE, ELEMENTS_SET, set), put_range)
        }
        Change::DeleteElements(set, elements) => {
            element_messages(elements, || named(DELETE_ELEMENTS, 0, ELEMENTS_SET, set), put_element)
        }
        Change::DeleteRanges(set, elements) => {
            element_messages(elements, || named(DELETE_ELEMENTS, 0, ELEMENTS_SET, set), put_range)
        }
        Change::AddCounter(name) => {
            let mut message = named(NEW_OBJECT, CREATE, OBJECT_NAME, name);
            message.put(OBJECT_TYPE, &OBJECT_IS_COUNTER.to_be_bytes());
            message.nest(OBJECT_DATA, |_| {});
            vec![message]
        }
        Change::DeleteCounter(name) => {
            let mut message = named(DELETE_OBJECT, 0, OBJECT_NAME, name);
            message.put(OBJECT_TYPE, &OBJECT_IS_COUNTER.to_be_bytes());
            vec![message]
        }
    }
}

fn put_hook(message: &mut Message, base: &Hook) {
    message.nest(CHAIN_HOOK, |hook| {
        hook.put(HOOK_NUMBER, &hook_number(base.point).to_be_bytes());
        hook.put(HOOK_PRIORITY, &base.priority.to_be_bytes());
    });
    message.put(CHAIN_POLICY, &NF_ACCEPT.to_be_bytes());
    message.put_text(CHAIN_TYPE, "filter");
}

fn put_set_kind(message: &mut Message, kind: &SetKind) {
    let flags = match kind.purpose {
        SetPurpose::Set => 0,
        SetPurpose::Intervals => SET_HAS_INTERVALS,
        SetPurpose::VerdictMap => SET_IS_MAP,
        SetPurpose::Dynamic { .. } => SET_HAS_TIMEOUT | SET_IS_DYNAMIC,
    };
    message.put(SET_FLAGS, &flags.to_be_bytes());
    message.put(SET_KEY_TYPE, &key_type(kind).to_be_bytes());
    message.put(SET_KEY_LENGTH, &kind.key_length().to_be_bytes());
    match kind.purpose {
        SetPurpose::Set | SetPurpose::Intervals => {}
        SetPurpose::VerdictMap => {
            message.put(SET_DATA_TYPE, &DATA_IS_VERDICT.to_be_bytes());
            // The length that nft uses: that of a verdict's code and a chain.
            message.put(SET_DATA_LENGTH, &16u32.to_be_bytes());
        }
        SetPurpose::Dynamic { timeout_ms } => message.put(SET_TIMEOUT, &timeout_ms.to_be_bytes()),
    }
    if kind.size != 0 {
        message.nest(SET_DESCRIPTION, |description| {
            description.put(DESCRIPTION_SIZE, &kind.size.to_be_bytes());
        });
    }
    // The kernel requires a number by which rules of the same transaction could refer to the set; these rules use its
    // name.
    message.put(SET_ID, &1u32.to_be_bytes());
}

/// A request for all objects of a kind in a table. For tables, the kernel returns all of the family.
pub(super) fn dump(command: u8, family: TableFamily, table: &str) -> Message {
    let mut message = Message::new(SUBSYSTEM, command, DUMP, family_number(family));
    message.put_text(OF_TABLE, table);
    message
}

/// A request for the number of the last transaction.
pub(super) fn generation() -> Message {
    Message::new(SUBSYSTEM, GET_GENERATION, ACKNOWLEDGE, 0)
}
