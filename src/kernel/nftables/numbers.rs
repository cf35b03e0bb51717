//! The kernel's numbers for the terms of the language of tables (linux/netfilter/nf_tables.h, linux/netfilter.h).

use crate::netfilter::nftables::{
    Base, Comparison, ConnectionFact, HookPoint, Meta, RejectWith, SetKind, TableFamily,
};

/// The number of a family (NFPROTO_*).
pub(super) fn family_number(family: TableFamily) -> u8 {
    match family {
        TableFamily::Inet => 1,
        TableFamily::Bridge => 7,
    }
}

/// NF_INET_*, NF_BR_*.
pub(super) fn hook_number(point: HookPoint) -> u32 {
    match point {
        HookPoint::Prerouting => 0,
        HookPoint::Input => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
    }
}

/// NFT_PAYLOAD_*.
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
        Meta::NfProto => 15,
        Meta::InputName => 6,
        Meta::OutputName => 7,
    }
}

/// NFT_CMP_*.
pub(super) fn comparison_number(comparison: Comparison) -> u32 {
    match comparison {
        Comparison::Equal => 0,
        Comparison::Different => 1,
        Comparison::AtMost => 3,
        Comparison::AtLeast => 5,
    }
}

/// The types of the parts, six bits each, as `nft` packs a concatenation.
pub(super) fn key_type(kind: &SetKind) -> u32 {
    kind.key.iter().fold(0, |all, part| all << 6 | part.number())
}

/// NFT_CT_*.
pub(super) fn connection_number(fact: ConnectionFact) -> u32 {
    match fact {
        ConnectionFact::State => 0,
        ConnectionFact::Status => 2,
        ConnectionFact::Mark => 3,
    }
}

/// NFT_REJECT_*, and for ICMP NFT_REJECT_ICMPX_*.
pub(super) fn reject_numbers(with: RejectWith) -> (u32, Option<u8>) {
    match with {
        RejectWith::TcpReset => (1, None),
        RejectWith::PortUnreachable => (2, Some(1)),
    }
}
