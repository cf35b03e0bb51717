//! What a rule asks and does.

/// What a packet is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Bytes of the frame (expression `payload`, linux/netfilter/nf_tables.h).
    Payload {
        /// From where the offset counts.
        base: Base,
        /// The first byte.
        offset: u8,
        /// How many bytes: 1 to 16.
        length: u8,
    },
    /// A fact about the packet that is not in its bytes (expression `meta`).
    Meta(Meta),
}

/// From where an offset into a frame counts (enum nft_payload_bases).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// The Ethernet header. A VLAN tag that the kernel took off counts as if it were still there.
    Link,
    /// The header behind it: IPv4, IPv6 or ARP.
    Network,
    /// The transport header. A packet that has none, such as a later fragment, does not match.
    Transport,
}

/// A fact about a packet (enum nft_meta_keys).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meta {
    /// The length in bytes from the network header on, 32 bits in network byte order.
    Length,
    /// The packet mark, 32 bits in host byte order.
    Mark,
    /// The index of the device that the packet came in by, in host byte order: the port, in a table of the bridge family.
    InputIndex,
    /// The index of the device that the packet leaves by, in host byte order.
    OutputIndex,
    /// The transport protocol behind all IPv6 extension headers, one byte.
    TransportProtocol,
    /// Whom the frame is for by its Ethernet address (PACKET_HOST, _BROADCAST, _MULTICAST, _OTHERHOST), one byte.
    PacketType,
}

impl Meta {
    /// The length of the value in bytes.
    pub fn length(self) -> u8 {
        match self {
            Meta::Length | Meta::Mark | Meta::InputIndex | Meta::OutputIndex => 4,
            Meta::TransportProtocol | Meta::PacketType => 1,
        }
    }
}

impl Field {
    /// The length of the value in bytes.
    pub fn length(self) -> u8 {
        match self {
            Field::Payload { length, .. } => length,
            Field::Meta(meta) => meta.length(),
        }
    }
}

/// How a value is compared (enum nft_cmp_ops). Orders are those of bytes in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// The same.
    Equal,
    /// Another.
    Different,
    /// At most this.
    AtMost,
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
    /// Packets and bytes are counted.
    Counter,
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

    /// Goes on in a chain and does not come back.
    pub fn goto(self, chain: &str) -> Rule {
        self.and(Statement::Verdict(Verdict::Goto(chain.into())))
    }

    /// Goes on in a chain and comes back.
    pub fn jump(self, chain: &str) -> Rule {
        self.and(Statement::Verdict(Verdict::Jump(chain.into())))
    }
}
