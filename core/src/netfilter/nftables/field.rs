//! The fields of a packet that rules compare.

/// A field of a packet that rules compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Bytes of the frame (expression `payload`, linux/netfilter/nf_tables.h).
    Payload {
        /// The header from which the offset counts.
        base: Base,
        /// The offset of the first byte.
        offset: u8,
        /// The number of bytes: 1 to 16.
        length: u8,
    },
    /// A property of the packet that is not in its bytes (expression `meta`).
    Meta(Meta),
    /// A property of the packet's connection (expression `ct`). Not in a table of family bridge.
    Connection(ConnectionFact),
    /// The type of the source address on this host (expression `fib` with `saddr type`): RTN_*, 32 bits in host byte
    /// order. Not in a table of family bridge.
    SourceAddressType,
}

/// The header from which an offset into a frame counts (enum nft_payload_bases).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// The Ethernet header. A VLAN tag that the kernel removed counts as if it were still there.
    Link,
    /// The header after it: IPv4, IPv6 or ARP.
    Network,
    /// The transport header. A packet that has none, such as a later fragment, does not match.
    Transport,
}

impl Base {
    /// All of them.
    pub const ALL: [Base; 3] = [Base::Link, Base::Network, Base::Transport];
}

/// A property of a packet (enum nft_meta_keys).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meta {
    /// The length in bytes from the network header on, 32 bits in network byte order.
    Length,
    /// The packet mark, 32 bits in host byte order.
    Mark,
    /// The index of the device by which the packet arrived, in host byte order; in a table of family bridge, of the
    /// port.
    InputIndex,
    /// The index of the device by which the packet leaves, in host byte order.
    OutputIndex,
    /// The transport protocol after all IPv6 extension headers, one byte.
    TransportProtocol,
    /// The packet type by the frame's destination (PACKET_HOST, _BROADCAST, _MULTICAST, _OTHERHOST), one byte.
    PacketType,
    /// The family of the packet (NFPROTO_IPV4, NFPROTO_IPV6), one byte.
    NfProto,
    /// The name of the device by which the packet arrived, padded with zeros to sixteen bytes (IFNAMSIZ).
    InputName,
    /// The name of the device by which the packet leaves, padded in the same way.
    OutputName,
}

/// A property of the connection of a packet (enum nft_ct_keys). Each is 32 bits in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionFact {
    /// One of [`state`]: every packet has one.
    State,
    /// Bits of [`status`]. A packet without a connection does not match.
    Status,
    /// The connection mark. A packet without a connection does not match.
    Mark,
}

/// The states of a connection, one bit each (NF_CT_STATE_*, linux/netfilter/nf_conntrack_common.h).
pub mod state {
    /// The packet has no connection, although conntrack saw it.
    pub const INVALID: u32 = 1;
    /// Packets were seen in both directions.
    pub const ESTABLISHED: u32 = 1 << 1;
    /// Another connection expected it, or it is an ICMP error about one.
    pub const RELATED: u32 = 1 << 2;
    /// The first packet of a connection.
    pub const NEW: u32 = 1 << 3;
    /// The packet has no connection, because conntrack did not track it.
    pub const UNTRACKED: u32 = 1 << 6;
}

/// Bits of a connection's status (IPS_*, linux/netfilter/nf_conntrack_common.h).
pub mod status {
    /// Its destination was translated (IPS_DST_NAT).
    pub const DESTINATION_TRANSLATED: u32 = 1 << 5;
}

/// The type of an address of this host (RTN_LOCAL, linux/rtnetlink.h), as [`Field::SourceAddressType`] gives it.
pub const LOCAL_ADDRESS: u32 = 2;
/// NFPROTO_IPV4, as [`Meta::NfProto`] gives it.
pub const NFPROTO_IPV4: u8 = 2;
/// NFPROTO_IPV6.
pub const NFPROTO_IPV6: u8 = 10;

impl Meta {
    /// All of them.
    pub const ALL: [Meta; 9] = [
        Meta::Length,
        Meta::Mark,
        Meta::InputIndex,
        Meta::OutputIndex,
        Meta::TransportProtocol,
        Meta::PacketType,
        Meta::NfProto,
        Meta::InputName,
        Meta::OutputName,
    ];

    /// The length of the value in bytes.
    pub fn length(self) -> u8 {
        match self {
            Meta::Length | Meta::Mark | Meta::InputIndex | Meta::OutputIndex => 4,
            Meta::TransportProtocol | Meta::PacketType | Meta::NfProto => 1,
            Meta::InputName | Meta::OutputName => 16,
        }
    }
}

impl ConnectionFact {
    /// All of them.
    pub const ALL: [ConnectionFact; 3] =
        [ConnectionFact::State, ConnectionFact::Status, ConnectionFact::Mark];
}

impl Field {
    /// The length of the value in bytes.
    pub fn length(self) -> u8 {
        match self {
            Field::Payload { length, .. } => length,
            Field::Meta(meta) => meta.length(),
            Field::Connection(_) | Field::SourceAddressType => 4,
        }
    }
}
