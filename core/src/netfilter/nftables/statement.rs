//! What a rule asks and does.

use super::Field;
use crate::netfilter::Comment;

/// How a value is compared (enum nft_cmp_ops). Orders are those of bytes in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// The same.
    Equal,
    /// Another.
    Different,
    /// At most this.
    AtMost,
    /// At least this.
    AtLeast,
}

impl Comparison {
    /// All of them.
    pub const ALL: [Comparison; 4] =
        [Comparison::Equal, Comparison::Different, Comparison::AtMost, Comparison::AtLeast];
}

/// What the sender of a rejected packet gets (expression `reject`).
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

/// The longest comment of a rule, in bytes: NFTNL_UDATA_COMMENT_MAXLEN of libnftnl less its NUL.
const RULE_COMMENT_MAX: usize = 127;

/// The comment of a rule: text that `nft` quotes without escaping, of at most 127 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleComment(Box<str>);

impl RuleComment {
    /// Makes a comment of any text: a character that would need escaping becomes `?`, and the rest is cut.
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

/// Where a packet goes on, or what becomes of it (NF_DROP, NF_ACCEPT, enum nft_verdicts).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes on to the next hook.
    Accept,
    /// It ends here.
    Drop,
    /// It goes back to the calling chain, or gets the base chain's policy.
    Return,
    /// It goes on in a chain, and comes back here.
    Jump(Box<str>),
    /// It goes on in a chain, and from there to where this chain was called from.
    Goto(Box<str>),
}

/// One part of a rule. A rule's statements are asked in order; the first that does not hold ends the rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// A field, masked if there is a mask, compares so to a value of its length.
    Compare {
        /// The field.
        field: Field,
        /// The bits that are looked at.
        mask: Option<Box<[u8]>>,
        /// How.
        comparison: Comparison,
        /// The value.
        value: Box<[u8]>,
    },
    /// A set holds the fields, one after the other, each padded to four bytes.
    In {
        /// The fields.
        fields: Vec<Field>,
        /// The set.
        set: Box<str>,
        /// Whether it must not hold them.
        inverted: bool,
    },
    /// A map gives the verdict for the fields; without an element for them the rule ends.
    VerdictOf {
        /// The fields.
        fields: Vec<Field>,
        /// The map.
        map: Box<str>,
    },
    /// No more packets pass in a second than this, for each value of the fields; a dynamic set keeps count.
    Limit {
        /// The fields.
        fields: Vec<Field>,
        /// The dynamic set.
        set: Box<str>,
        /// Packets a second.
        per_second: u32,
        /// Packets at once.
        burst: u32,
    },
    /// Packets and bytes are counted, in the rule.
    Counter,
    /// Packets and bytes are counted in a counter of the table (expression `objref`).
    CountIn(Box<str>),
    /// A copy goes to the reader of a netlink group (NFLOG).
    Log {
        /// The group.
        group: u16,
        /// What the reader gets with the copy.
        prefix: Box<str>,
    },
    /// These bits of the packet mark are set.
    SetMark(u32),
    /// The rule's verdict.
    Verdict(Verdict),
    /// The packet ends here, and its sender learns of it. Not in a table of family bridge.
    Reject(RejectWith),
    /// What the rule is for. Always its last statement.
    Comment(RuleComment),
}

impl Statement {
    /// Whether this one asks for at least a value and the next for at most a value of the same field: together they ask for a range.
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

/// One rule of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule(pub Vec<Statement>);

impl Rule {
    /// A rule that does this to every packet.
    pub fn verdict(verdict: Verdict) -> Rule {
        Rule(vec![Statement::Verdict(verdict)])
    }

    /// A rule that asks nothing yet.
    pub fn when() -> Rule {
        Rule::default()
    }

    /// Also asks or does this.
    pub fn and(mut self, statement: Statement) -> Rule {
        self.0.push(statement);
        self
    }

    /// Also asks for this value of a field.
    pub fn is(self, field: Field, value: &[u8]) -> Rule {
        self.compare(field, Comparison::Equal, value)
    }

    /// Also asks for another value of a field.
    pub fn is_not(self, field: Field, value: &[u8]) -> Rule {
        self.compare(field, Comparison::Different, value)
    }

    /// Also asks for at most this value of a field.
    pub fn at_most(self, field: Field, value: &[u8]) -> Rule {
        self.compare(field, Comparison::AtMost, value)
    }

    /// Also asks for at least this value of a field.
    pub fn at_least(self, field: Field, value: &[u8]) -> Rule {
        self.compare(field, Comparison::AtLeast, value)
    }

    /// Also asks for a value of a field between these, both included.
    pub fn between(self, field: Field, first: &[u8], last: &[u8]) -> Rule {
        self.at_least(field, first).at_most(field, last)
    }

    /// Also asks whether a field of 32 bits in host byte order has any of these bits.
    pub fn any_bit(self, field: Field, bits: u32) -> Rule {
        self.masked_not(field, &bits.to_ne_bytes(), &[0; 4])
    }

    fn compare(self, field: Field, comparison: Comparison, value: &[u8]) -> Rule {
        self.and(Statement::Compare { field, mask: None, comparison, value: value.into() })
    }

    /// Also asks for these bits of a field.
    pub fn masked(self, field: Field, mask: &[u8], value: &[u8]) -> Rule {
        let mask = Some(mask.into());
        self.and(Statement::Compare { field, mask, comparison: Comparison::Equal, value: value.into() })
    }

    /// Also asks for other bits of a field than these.
    pub fn masked_not(self, field: Field, mask: &[u8], value: &[u8]) -> Rule {
        let mask = Some(mask.into());
        self.and(Statement::Compare { field, mask, comparison: Comparison::Different, value: value.into() })
    }

    /// Also asks whether a set holds fields.
    pub fn within(self, fields: &[Field], set: &str) -> Rule {
        self.and(Statement::In { fields: fields.into(), set: set.into(), inverted: false })
    }

    /// Also asks whether a set does not hold fields.
    pub fn outside(self, fields: &[Field], set: &str) -> Rule {
        self.and(Statement::In { fields: fields.into(), set: set.into(), inverted: true })
    }

    /// Accepts.
    pub fn accept(self) -> Rule {
        self.and(Statement::Verdict(Verdict::Accept))
    }

    /// Drops.
    pub fn drop(self) -> Rule {
        self.and(Statement::Verdict(Verdict::Drop))
    }

    /// Rejects.
    pub fn reject(self, with: RejectWith) -> Rule {
        self.and(Statement::Reject(with))
    }

    /// Counts in a counter of the table.
    pub fn count_in(self, counter: &str) -> Rule {
        self.and(Statement::CountIn(counter.into()))
    }

    /// Lets a map give the verdict for fields.
    pub fn verdict_of(self, fields: &[Field], map: &str) -> Rule {
        self.and(Statement::VerdictOf { fields: fields.into(), map: map.into() })
    }

    /// Says what the rule is for; nothing may be added behind it.
    pub fn comment(self, text: &str) -> Rule {
        self.and(Statement::Comment(RuleComment::new(text)))
    }

    /// Goes on in a chain and does not come back.
    pub fn goto(self, chain: &str) -> Rule {
        self.and(Statement::Verdict(Verdict::Goto(chain.into())))
    }

    /// Goes on in a chain and comes back.
    pub fn jump(self, chain: &str) -> Rule {
        self.and(Statement::Verdict(Verdict::Jump(chain.into())))
    }
}
