//! Encodes rules as the kernel's expressions, and assigns registers to statements.

use super::encode_elements::put_verdict;
use super::numbers::{base_number, comparison_number, connection_number, meta_number, reject_numbers};
use super::wire::*;
use crate::kernel::netlink::Message;
use crate::netfilter::nftables::{Comparison, Field, Meta, Rule, RuleComment, Statement};

/// Adds the expressions of a rule, and its comment.
pub(super) fn put_rule(message: &mut Message, rule: &Rule) {
    message.nest(RULE_EXPRESSIONS, |list| {
        let mut before = None;
        for statement in rule.statements() {
            put_statement(list, statement, before);
            before = Some(statement);
        }
    });
    for statement in rule.statements() {
        if let Statement::Comment(comment) = statement {
            message.put(RULE_USERDATA, &userdata(comment));
        }
    }
}

/// A comment as `nft` stores it in a rule's user data: type, length, and text with a NUL.
fn userdata(comment: &RuleComment) -> Vec<u8> {
    let text = comment.as_str().as_bytes();
    let length = u8::try_from(text.len() + 1).expect("a comment has at most 127 bytes");
    [&[USERDATA_COMMENT, length], text, &[0]].concat()
}

fn put_statement(list: &mut Message, statement: &Statement, before: Option<&Statement>) {
    match statement {
        // The upper end of a range, whose field is already in the register.
        Statement::Compare { value, .. } if before.is_some_and(|before| before.begins_range(statement)) => {
            put_comparison(list, Comparison::AtMost, value);
        }
        Statement::Compare { field, mask, comparison, value } => {
            put_load(list, *field, FIRST_REGISTER);
            if let Some(mask) = mask {
                put_bitwise(list, mask, &vec![0; mask.len()]);
            }
            put_comparison(list, *comparison, value);
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
        Statement::CountIn(counter) => put_expression(list, "objref", |data| {
            data.put(OBJECT_REFERENCE_TYPE, &OBJECT_IS_COUNTER.to_be_bytes());
            data.put_text(OBJECT_REFERENCE_NAME, counter);
        }),
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
        Statement::Reject(with) => put_expression(list, "reject", |data| {
            let (kind, code) = reject_numbers(*with);
            data.put(REJECT_TYPE, &kind.to_be_bytes());
            if let Some(code) = code {
                data.put(REJECT_CODE, &[code]);
            }
        }),
        // It is not an expression.
        Statement::Comment(_) => {}
    }
}

fn put_comparison(list: &mut Message, comparison: Comparison, value: &[u8]) {
    put_expression(list, "cmp", |data| {
        data.put(CMP_SOURCE, &FIRST_REGISTER.to_be_bytes());
        data.put(CMP_OPERATOR, &comparison_number(comparison).to_be_bytes());
        data.nest(CMP_DATA, |nested| nested.put(DATA_VALUE, value));
    });
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

/// Loads fields into consecutive registers.
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
        Field::Connection(fact) => put_expression(list, "ct", |data| {
            data.put(CONNECTION_DESTINATION, &register.to_be_bytes());
            data.put(CONNECTION_KEY, &connection_number(fact).to_be_bytes());
        }),
        Field::SourceAddressType => put_expression(list, "fib", |data| {
            data.put(FIB_DESTINATION, &register.to_be_bytes());
            data.put(FIB_RESULT, &FIB_ADDRESS_TYPE.to_be_bytes());
            data.put(FIB_FLAGS, &FIB_OF_SOURCE.to_be_bytes());
        }),
    }
    if field == Field::Meta(Meta::Length) {
        // The kernel compares bytes in memory order, but has the number in host byte order.
        put_expression(list, "byteorder", |data| {
            data.put(BYTEORDER_SOURCE, &register.to_be_bytes());
            data.put(BYTEORDER_DESTINATION, &register.to_be_bytes());
            data.put(BYTEORDER_OPERATION, &BYTEORDER_HTON.to_be_bytes());
            data.put(BYTEORDER_LENGTH, &4u32.to_be_bytes());
            data.put(BYTEORDER_SIZE, &4u32.to_be_bytes());
        });
    }
}
