//! Rules as lists of statements: what a rule matches and what it does.

use super::Field;
use crate::netfilter::Comment;
use std::sync::Arc;

/// How a value is compared (enum nft_cmp_ops). `AtMost` and `AtLeast` compare bytes in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// The same value.
    Equal,
    /// Any other value.
    Different,
    /// At most this value.
    AtMost,
    /// At least this value.
    AtLeast,
}

impl Comparison {
    /// All of them.
    pub const ALL: [Comparison; 4] =
        [Comparison::Equal, Comparison::Different, Comparison::AtMost, Comparison::AtLeast];
}

/// The answer to the sender of a rejected packet (expression `reject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectWith {
    /// A TCP reset; for TCP only.
    TcpReset,
    /// ICMP or ICMPv6: port unreachable.
    PortUnreachable,
}

impl RejectWith {
    /// All of them.
    pub const ALL: [RejectWith; 2] = [RejectWith::TcpReset, RejectWith::PortUnreachable];
}

/// The longest comment of a rule, in bytes: NFTNL_UDATA_COMMENT_MAXLEN of libnftnl without its NUL.
const RULE_COMMENT_MAX: usize = 127;

/// The comment of a rule: at most 127 bytes of text that `nft` quotes without escaping.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleComment(Box<str>);

impl RuleComment {
    /// Makes a comment of any text: characters that would need escaping become `?`, and the rest beyond the maximum is
    /// cut off.
    pub fn new(text: &str) -> RuleComment {
        let safe = Comment::new(text);
        let cut: String = safe.as_str().chars().take(RULE_COMMENT_MAX).collect();
        RuleComment(cut.trim_end().into())
    }

    /// The comment.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The verdict on a packet (NF_DROP, NF_ACCEPT, enum nft_verdicts).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The base chain ends, and the packet continues with the next one.
    Accept,
    /// The packet is dropped.
    Drop,
    /// Returns to the calling chain, or applies the base chain's policy.
    Return,
    /// Continues in a chain, which returns to the next rule.
    Jump(Box<str>),
    /// Continues in a chain, which returns to the caller of this chain.
    Goto(Box<str>),
}

/// One part of a rule. A rule's statements are evaluated in order; the first that does not match ends the rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// Matches if a field, masked if there is a mask, compares in this way to a value of the field's length.
    Compare {
        /// The field.
        field: Field,
        /// The bits that are compared.
        mask: Option<Box<[u8]>>,
        /// The kind of comparison.
        comparison: Comparison,
        /// The value.
        value: Box<[u8]>,
    },
    /// Matches if a set contains the fields, which are concatenated and each padded to four bytes.
    In {
        /// The fields.
        fields: Vec<Field>,
        /// The set.
        set: Box<str>,
        /// Whether it matches if the set does not contain them.
        inverted: bool,
    },
    /// A map returns the verdict for the fields; if it has no element for them, the rule does not match.
    VerdictOf {
        /// The fields.
        fields: Vec<Field>,
        /// The map.
        map: Box<str>,
    },
    /// Matches at most this many packets per second for each value of the fields; a dynamic set keeps the counts.
    Limit {
        /// The fields.
        fields: Vec<Field>,
        /// The dynamic set.
        set: Box<str>,
        /// Packets per second.
        per_second: u32,
        /// Packets in one burst.
        burst: u32,
    },
    /// Counts packets and bytes in the rule.
    Counter,
    /// Counts packets and bytes in a counter of the table (expression `objref`).
    CountIn(Box<str>),
    /// Copies the packet to a netlink group (NFLOG).
    Log {
        /// The group.
        group: u16,
        /// The prefix of the copy.
        prefix: Box<str>,
    },
    /// Sets these bits of the packet mark.
    SetMark(u32),
    /// The rule's verdict.
    Verdict(Verdict),
    /// Drops the packet and answers its sender. Not in a table of family bridge.
    Reject(RejectWith),
    /// The comment of the rule. Always its last statement.
    Comment(RuleComment),
}

impl Statement {
    /// Whether this statement compares a field with its minimum and the next one the same field with its maximum:
    /// together they match a range.
    pub fn begins_range(&self, next: &Statement) -> bool {
        let end = |statement: &Statement| match statement {
            Statement::Compare { field, mask: None, comparison, .. } => Some((*field, *comparison)),
            Statement::Compare { .. }
            | Statement::In { .. }
            | Statement::VerdictOf { .. }
            | Statement::Limit { .. }
            | Statement::Counter
            | Statement::CountIn(_)
            | Statement::Log { .. }
            | Statement::SetMark(_)
            | Statement::Verdict(_)
            | Statement::Reject(_)
            | Statement::Comment(_) => None,
        };
        match (end(self), end(next)) {
            (Some((first, Comparison::AtLeast)), Some((second, Comparison::AtMost))) => first == second,
            _ => false,
        }
    }
}

/// One rule of a chain. Copies share its statements, because the renderer, the applier and the transaction each keep the rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule(Arc<Vec<Statement>>);

impl From<Vec<Statement>> for Rule {
    fn from(statements: Vec<Statement>) -> Rule {
        Rule(Arc::new(statements))
    }
}

impl Rule {
    /// A rule with this verdict on every packet.
    pub fn verdict(verdict: Verdict) -> Rule {
        vec![Statement::Verdict(verdict)].into()
    }

    /// Its statements, in the order of evaluation.
    pub fn statements(&self) -> &[Statement] {
        &self.0
    }

    /// A rule without statements.
    pub fn when() -> Rule {
        Rule::default()
    }

    /// Appends a statement.
    pub fn and(mut self, statement: Statement) -> Rule {
        Arc::make_mut(&mut self.0).push(statement);
        self
    }

    /// Also matches this value of a field.
    pub fn is(self, field: Field, value: &[u8]) -> Rule {
        self.compare(field, Comparison::Equal, value)
    }

    /// Also matches any other value of a field.
    pub fn is_not(self, field: Field, value: &[u8]) -> Rule {
        self.compare(field, Comparison::Different, value)
    }

    /// Also matches values of a field up to this one.
    pub fn at_most(self, field: Field, value: &[u8]) -> Rule {
        self.compare(field, Comparison::AtMost, value)
    }

    /// Also matches values of a field from this one on.
    pub fn at_least(self, field: Field, value: &[u8]) -> Rule {
        self.compare(field, Comparison::AtLeast, value)
    }

    /// Also matches values of a field between these, both included.
    pub fn between(self, field: Field, first: &[u8], last: &[u8]) -> Rule {
        self.at_least(field, first).at_most(field, last)
    }

    /// Also matches any of these bits of a field of 32 bits in host byte order.
    pub fn any_bit(self, field: Field, bits: u32) -> Rule {
        self.masked_not(field, &bits.to_ne_bytes(), &[0; 4])
    }

    fn compare(self, field: Field, comparison: Comparison, value: &[u8]) -> Rule {
        self.and(Statement::Compare { field, mask: None, comparison, value: value.into() })
    }

    /// Also matches this value of the masked bits of a field.
    pub fn masked(self, field: Field, mask: &[u8], value: &[u8]) -> Rule {
        let mask = Some(mask.into());
        self.and(Statement::Compare { field, mask, comparison: Comparison::Equal, value: value.into() })
    }

    /// Also matches any other value of the masked bits of a field.
    pub fn masked_not(self, field: Field, mask: &[u8], value: &[u8]) -> Rule {
        let mask = Some(mask.into());
        self.and(Statement::Compare { field, mask, comparison: Comparison::Different, value: value.into() })
    }

    /// Also matches fields that a set contains.
    pub fn within(self, fields: &[Field], set: &str) -> Rule {
        self.and(Statement::In { fields: fields.into(), set: set.into(), inverted: false })
    }

    /// Also matches fields that a set does not contain.
    pub fn outside(self, fields: &[Field], set: &str) -> Rule {
        self.and(Statement::In { fields: fields.into(), set: set.into(), inverted: true })
    }

    /// Accepts the packet.
    pub fn accept(self) -> Rule {
        self.and(Statement::Verdict(Verdict::Accept))
    }

    /// Drops the packet.
    pub fn drop(self) -> Rule {
        self.and(Statement::Verdict(Verdict::Drop))
    }

    /// Rejects the packet.
    pub fn reject(self, with: RejectWith) -> Rule {
        self.and(Statement::Reject(with))
    }

    /// Counts in a counter of the table.
    pub fn count_in(self, counter: &str) -> Rule {
        self.and(Statement::CountIn(counter.into()))
    }

    /// Looks up the verdict for fields in a map.
    pub fn verdict_of(self, fields: &[Field], map: &str) -> Rule {
        self.and(Statement::VerdictOf { fields: fields.into(), map: map.into() })
    }

    /// Adds a comment, after which nothing may be appended.
    pub fn comment(self, text: &str) -> Rule {
        self.and(Statement::Comment(RuleComment::new(text)))
    }

    /// Continues in a chain, which does not return here.
    pub fn goto(self, chain: &str) -> Rule {
        self.and(Statement::Verdict(Verdict::Goto(chain.into())))
    }

    /// Continues in a chain, which returns here.
    pub fn jump(self, chain: &str) -> Rule {
        self.and(Statement::Verdict(Verdict::Jump(chain.into())))
    }
}
