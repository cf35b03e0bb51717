//! Encodes changes of a table as netlink messages (linux/netfilter/nf_tables.h).

use super::encode_elements::{put_all, put_element, put_range};
use super::encode_rule::put_rule;
use super::numbers::{family_number, hook_number, key_type};
use super::wire::*;
use super::writer::TableFlags;
use crate::kernel::netlink::{ACKNOWLEDGE, CREATE, DUMP, Datagram, Message};
use crate::netfilter::nftables::{Batch, Change, Hook, SetKind, SetPurpose, TableFamily};

/// A transaction with its begin and end messages.
pub(super) struct Transaction<'a> {
    /// Its messages.
    pub(super) requests: Datagram,
    /// The change that each of them makes, except for the first and the last message.
    pub(super) changes: Vec<(&'a Batch, &'a Change)>,
}

/// One transaction with all batches.
pub(super) fn transaction(batches: &[Batch], flags: TableFlags) -> Transaction<'_> {
    let boundary = |kind| Message::new(0, kind, 0, 0).about(u16::from(SUBSYSTEM));
    let (mut requests, mut changes) = (Datagram::from(boundary(BATCH_BEGIN)), Vec::new());
    for batch in batches {
        for change in &batch.changes {
            put_change(batch, change, flags, |message| requests.push(&message));
            changes.resize(requests.count() - 1, (batch, change));
        }
    }
    // Only new kernels acknowledge the end itself.
    if !changes.is_empty() {
        requests.demand_acknowledgement();
    }
    requests.push(&boundary(BATCH_END));
    Transaction { requests, changes }
}

/// Passes the messages of a change to `push`.
fn put_change(batch: &Batch, change: &Change, flags: TableFlags, mut push: impl FnMut(Message)) {
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
            match flags {
                TableFlags::Open => {}
                TableFlags::Owned => {
                    message.put(TABLE_FLAGS, &(TABLE_IS_OWNER | TABLE_PERSISTS).to_be_bytes());
                }
                TableFlags::Temporary => message.put(TABLE_FLAGS, &TABLE_IS_OWNER.to_be_bytes()),
            }
            push(message);
        }
        // Without flags, the first changes no table that is there. NFT_MSG_DESTROYTABLE exists only since Linux 6.3.
        Change::DeleteTable => {
            push(table(NEW_TABLE, CREATE));
            push(table(DELETE_TABLE, 0));
        }
        Change::AddChain(name, base) => {
            let mut message = named(NEW_CHAIN, CREATE, CHAIN_NAME, name);
            if let Some(base) = base {
                put_hook(&mut message, base);
            }
            push(message);
        }
        Change::FlushChain(name) => push(named(DELETE_RULE, 0, RULE_CHAIN, name)),
        Change::DeleteChain(name) => push(named(DELETE_CHAIN, 0, CHAIN_NAME, name)),
        Change::AddRule(chain, rule) => {
            let mut message = named(NEW_RULE, CREATE | APPEND, RULE_CHAIN, chain);
            put_rule(&mut message, rule);
            push(message);
        }
        Change::AddSet(name, kind) => {
            let mut message = named(NEW_SET, CREATE, SET_NAME, name);
            put_set_kind(&mut message, kind);
            push(message);
        }
        Change::DeleteSet(name) => push(named(DELETE_SET, 0, SET_NAME, name)),
        Change::FlushSet(set) => push(named(DELETE_ELEMENTS, 0, ELEMENTS_SET, set)),
        Change::AddElements(set, elements) => {
            put_all(elements, || named(NEW_ELEMENTS, CREATE, ELEMENTS_SET, set), put_element, push);
        }
        Change::AddRanges(set, elements) => {
            put_all(elements, || named(NEW_ELEMENTS, CREATE, ELEMENTS_SET, set), put_range, push);
        }
        Change::DeleteElements(set, elements) => {
            put_all(elements, || named(DELETE_ELEMENTS, 0, ELEMENTS_SET, set), put_element, push);
        }
        Change::DeleteRanges(set, elements) => {
            put_all(elements, || named(DELETE_ELEMENTS, 0, ELEMENTS_SET, set), put_range, push);
        }
        Change::AddCounter(name) => {
            let mut message = named(NEW_OBJECT, CREATE, OBJECT_NAME, name);
            message.put(OBJECT_TYPE, &OBJECT_IS_COUNTER.to_be_bytes());
            message.nest(OBJECT_DATA, |_| {});
            push(message);
        }
        Change::DeleteCounter(name) => {
            let mut message = named(DELETE_OBJECT, 0, OBJECT_NAME, name);
            message.put(OBJECT_TYPE, &OBJECT_IS_COUNTER.to_be_bytes());
            push(message);
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
