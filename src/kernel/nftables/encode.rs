//! Changes of a table as netlink messages (linux/netfilter/nf_tables.h): statements get their registers here.

use super::wire::*;
use crate::kernel::netlink::{ACKNOWLEDGE, CREATE, DUMP, Message};
use crate::netfilter::nftables::{
    Base, Batch, Change, Comparison, Elements, Field, Hook, HookPoint, Meta, Rule, SetKind, SetPurpose,
    Statement, TableFamily, Verdict,
};

/// How many elements go into one message: of the longest keys with verdicts some 60 bytes each, and an attribute may have
/// 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 500;

/// The number of a family (NFPROTO_*).
pub(super) fn family_number(family: TableFamily) -> u8 {
    match family {
        TableFamily::Bridge => 7,
    }
}

/// All messages of a transaction, from its begin to its end; and of each but these two, which change it is of.
pub(super) fn messages(batch: &Batch) -> (Vec<Message>, Vec<usize>) {
    let boundary = |kind| Message::new(0, kind, 0, 0).about(u16::from(SUBSYSTEM));
    let (mut messages, mut places) = (vec![boundary(BATCH_BEGIN)], Vec::new());
    for (place, change) in batch.changes.iter().enumerate() {
        messages.extend(change_messages(batch, change));
        places.resize(messages.len() - 1, place);
    }
    // The end itself is acknowledged by new kernels alone.
    if let [_, .., last] = messages.as_mut_slice() {
        last.demand_acknowledgement();
    }
    messages.push(boundary(BATCH_END));
    (messages, places)
}

fn change_messages(batch: &Batch, change: &Change) -> Vec<Message> {
    let request = |command, flags| Message::new(SUBSYSTEM, command, flags, family_number(batch.family));
    let named = |command, flags, kind, name: &str| {
        let mut message = request(command, flags);
        message.put_text(OF_TABLE, &batch.table);
        message.put_text(kind, name);
        message
    };
    match change {
        Change::AddTable => {
            let mut message = request(NEW_TABLE, CREATE);
            message.put_text(OF_TABLE, &batch.table);
            vec![message]
        }
        Change::DeleteTable => {
            let mut message = request(DELETE_TABLE, 0);
            message.put_text(OF_TABLE, &batch.table);
            vec![message]
        }
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
        Change::AddElements(set, elements) => {
            element_messages(elements, || named(NEW_ELEMENTS, CREATE, ELEMENTS_SET, set))
        }
        Change::FlushSet(set) => vec![named(DELETE_ELEMENTS, 0, ELEMENTS_SET, set)],
        Change::DeleteElements(set, elements) => {
            element_messages(elements, || named(DELETE_ELEMENTS, 0, ELEMENTS_SET, set))
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

/// NF_BR_* (linux/netfilter_bridge.h).
pub(super) fn hook_number(point: HookPoint) -> u32 {
    match point {
        HookPoint::Prerouting => 0,
        HookPoint::Input => 1,
        HookPoint::Forward => 2,
    }
}

fn put_set_kind(message: &mut Message, kind: &SetKind) {
    let flags = match kind.purpose {
        SetPurpose::Set => 0,
        SetPurpose::VerdictMap => SET_IS_MAP,
        SetPurpose::Dynamic { .. } => SET_HAS_TIMEOUT | SET_IS_DYNAMIC,
    };
    message.put(SET_FLAGS, &flags.to_be_bytes());
    message.put(SET_KEY_TYPE, &key_type(kind).to_be_bytes());
    message.put(SET_KEY_LENGTH, &kind.key_length().to_be_bytes());
    match kind.purpose {
        SetPurpose::Set => {}
        SetPurpose::VerdictMap => {
            message.put(SET_DATA_TYPE, &DATA_IS_VERDICT.to_be_bytes());
            // The length that nft gives: of a verdict's code and a chain.
            message.put(SET_DATA_LENGTH, &16u32.to_be_bytes());
        }
        SetPurpose::Dynamic { timeout_ms } => message.put(SET_TIMEOUT, &timeout_ms.to_be_bytes()),
    }
    message.nest(SET_DESCRIPTION, |description| {
        description.put(DESCRIPTION_SIZE, &kind.size.to_be_bytes());
    });
    // The kernel wants a number by which a rule of the same transaction could name the set; names do.
    message.put(SET_ID, &1u32.to_be_bytes());
}

/// Six bits for each part, as `nft` packs the types of a concatenation.
pub(super) fn key_type(kind: &SetKind) -> u32 {
    kind.key.iter().fold(0, |all, part| all << 6 | part.number())
}

fn element_messages(elements: &Elements, request: impl Fn() -> Message) -> Vec<Message> {
    let all: Vec<_> = elements.iter().collect();
    let pieces = all.chunks(ELEMENTS_PER_MESSAGE).map(|piece| {
        let mut message = request();
        message.nest(ELEMENTS, |list| {
            for (key, verdict) in piece {
                list.nest(LIST_ELEMENT, |element| {
                    element.nest(ELEMENT_KEY, |data| data.put(DATA_VALUE, key));
                    if let Some(verdict) = verdict {
                        element.nest(ELEMENT_DATA, |data| put_verdict(data, verdict));
                    }
                });
            }
        });
        message
    });
    pieces.collect()
}

fn put_verdict(data: &mut Message, verdict: &Verdict) {
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

fn put_rule(message: &mut Message, rule: &Rule) {
    message.nest(RULE_EXPRESSIONS, |list| rule.0.iter().for_each(|statement| put_statement(list, statement)));
}

fn put_statement(list: &mut Message, statement: &Statement) {
    match statement {
        Statement::Compare { field, mask, comparison, value } => {
            put_load(list, *field, FIRST_REGISTER);
            if let Some(mask) = mask {
                put_bitwise(list, mask, &vec![0; mask.len()]);
            }
            put_expression(list, "cmp", |data| {
                data.put(CMP_SOURCE, &FIRST_REGISTER.to_be_bytes());
                data.put(CMP_OPERATOR, &comparison_number(*comparison).to_be_bytes());
                data.nest(CMP_DATA, |nested| nested.put(DATA_VALUE, value));
            });
        }
        Statement::In { fields, set, inverted } => {
            put_key(list, fields);
            put_expression(list, "lookup", |data| {
                data.put_text(LOOKUP_SET, set);
                data.put(LOOKUP_SOURCE, &FIRST_REGISTER.to_be_bytes());
                if *inverted {
                    data.put(LOOKUP_FLAGS, &LOOKUP_IS_INVERTED.to_be_bytes());
                }
            });
        }
        Statement::VerdictOf { fields, map } => {
            put_key(list, fields);
            put_expression(list, "lookup", |data| {
                data.put_text(LOOKUP_SET, map);
                data.put(LOOKUP_SOURCE, &FIRST_REGISTER.to_be_bytes());
                data.put(LOOKUP_DESTINATION, &VERDICT_REGISTER.to_be_bytes());
            });
        }
        Statement::Limit { fields, set, per_second, burst } => {
            put_key(list, fields);
            put_expression(list, "dynset", |data| {
                data.put_text(DYNSET_SET, set);
                data.put(DYNSET_OPERATION, &DYNSET_UPDATE.to_be_bytes());
                data.put(DYNSET_KEY, &FIRST_REGISTER.to_be_bytes());
                data.nest(DYNSET_EXPRESSION, |nested| put_limit(nested, *per_second, *burst));
            });
        }
        Statement::Counter => put_expression(list, "counter", |_| {}),
        Statement::Log { group, prefix } => put_expression(list, "log", |data| {
            data.put(LOG_GROUP, &group.to_be_bytes());
            data.put_text(LOG_PREFIX, prefix);
        }),
        Statement::SetMark(bits) => {
            put_load(list, Field::Meta(Meta::Mark), FIRST_REGISTER);
            put_bitwise(list, &(!bits).to_ne_bytes(), &bits.to_ne_bytes());
            put_expression(list, "meta", |data| {
                data.put(META_KEY, &meta_number(Meta::Mark).to_be_bytes());
                data.put(META_SOURCE, &FIRST_REGISTER.to_be_bytes());
            });
        }
        Statement::Verdict(verdict) => put_expression(list, "immediate", |data| {
            data.put(IMMEDIATE_DESTINATION, &VERDICT_REGISTER.to_be_bytes());
            data.nest(IMMEDIATE_DATA, |nested| put_verdict(nested, verdict));
        }),
    }
}

fn put_expression(list: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    list.nest(LIST_ELEMENT, |expression| {
        expression.put_text(EXPRESSION_NAME, name);
        expression.nest(EXPRESSION_DATA, fill);
    });
}

fn put_limit(expression: &mut Message, per_second: u32, burst: u32) {
    expression.put_text(EXPRESSION_NAME, "limit");
    expression.nest(EXPRESSION_DATA, |data| {
        data.put(LIMIT_RATE, &u64::from(per_second).to_be_bytes());
        data.put(LIMIT_UNIT, &1u64.to_be_bytes());
        data.put(LIMIT_BURST, &burst.to_be_bytes());
        data.put(LIMIT_TYPE, &LIMIT_OF_PACKETS.to_be_bytes());
    });
}

fn put_bitwise(list: &mut Message, mask: &[u8], xor: &[u8]) {
    put_expression(list, "bitwise", |data| {
        data.put(BITWISE_SOURCE, &FIRST_REGISTER.to_be_bytes());
        data.put(BITWISE_DESTINATION, &FIRST_REGISTER.to_be_bytes());
        data.put(BITWISE_LENGTH, &(mask.len() as u32).to_be_bytes());
        data.nest(BITWISE_MASK, |nested| nested.put(DATA_VALUE, mask));
        data.nest(BITWISE_XOR, |nested| nested.put(DATA_VALUE, xor));
    });
}

/// Loads fields into registers, one after the other.
fn put_key(list: &mut Message, fields: &[Field]) {
    let mut word = 0;
    for field in fields {
        put_load(list, *field, register(word));
        word += u32::from(field.length()).div_ceil(4);
    }
}

fn put_load(list: &mut Message, field: Field, register: u32) {
    match field {
        Field::Payload { base, offset, length } => put_expression(list, "payload", |data| {
            data.put(PAYLOAD_DESTINATION, &register.to_be_bytes());
            data.put(PAYLOAD_BASE, &base_number(base).to_be_bytes());
            data.put(PAYLOAD_OFFSET, &u32::from(offset).to_be_bytes());
            data.put(PAYLOAD_LENGTH, &u32::from(length).to_be_bytes());
        }),
        Field::Meta(meta) => put_expression(list, "meta", |data| {
            data.put(META_KEY, &meta_number(meta).to_be_bytes());
            data.put(META_DESTINATION, &register.to_be_bytes());
        }),
    }
    if field == Field::Meta(Meta::Length) {
        // The kernel compares bytes from the first on, and has the number in its own order.
        put_expression(list, "byteorder", |data| {
            data.put(BYTEORDER_SOURCE, &register.to_be_bytes());
            data.put(BYTEORDER_DESTINATION, &register.to_be_bytes());
            data.put(BYTEORDER_OPERATION, &BYTEORDER_HTON.to_be_bytes());
            data.put(BYTEORDER_LENGTH, &4u32.to_be_bytes());
            data.put(BYTEORDER_SIZE, &4u32.to_be_bytes());
        });
    }
}

pub(super) fn base_number(base: Base) -> u32 {
    match base {
        Base::Link => 0,
        Base::Network => 1,
        Base::Transport => 2,
    }
}

/// NFT_META_*.
pub(super) fn meta_number(meta: Meta) -> u32 {
    match meta {
        Meta::Length => 0,
        Meta::Mark => 3,
        Meta::InputIndex => 4,
        Meta::OutputIndex => 5,
        Meta::TransportProtocol => 16,
        Meta::PacketType => 19,
    }
}

/// NFT_CMP_*.
pub(super) fn comparison_number(comparison: Comparison) -> u32 {
    match comparison {
        Comparison::Equal => 0,
        Comparison::Different => 1,
        Comparison::AtMost => 3,
    }
}

/// A request for all objects of a kind in a table.
pub(super) fn dump(command: u8, family: TableFamily, fill: impl FnOnce(&mut Message)) -> Message {
    let mut message = Message::new(SUBSYSTEM, command, DUMP, family_number(family));
    fill(&mut message);
    message
}

/// A request for the number of the last transaction.
pub(super) fn generation() -> Message {
    Message::new(SUBSYSTEM, GET_GENERATION, ACKNOWLEDGE, 0)
}
