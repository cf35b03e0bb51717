//! The two variants of iptables, and the names of their programs.

use crate::net::Family;

/// The kernel's packet filter that the iptables binaries use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// nf_tables, by `iptables-nft-*`.
    Nft,
    /// x_tables, by `iptables-legacy-*`.
    Legacy,
}

impl Variant {
    /// Both variants.
    pub const BOTH: [Variant; 2] = [Variant::Nft, Variant::Legacy];

    /// The other variant.
    pub fn other(self) -> Variant {
        match self {
            Variant::Nft => Variant::Legacy,
            Variant::Legacy => Variant::Nft,
        }
    }

    /// Its name in those of the binaries: `nft` or `legacy`.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Nft => "nft",
            Variant::Legacy => "legacy",
        }
    }

    /// The binary that edits single rules of a family.
    pub fn edit(self, family: Family) -> &'static str {
        match (self, family) {
            (Variant::Nft, Family::V4) => "iptables-nft",
            (Variant::Nft, Family::V6) => "ip6tables-nft",
            (Variant::Legacy, Family::V4) => "iptables-legacy",
            (Variant::Legacy, Family::V6) => "ip6tables-legacy",
        }
    }

    /// The binary that prints the rules of a family.
    pub fn save(self, family: Family) -> &'static str {
        match (self, family) {
            (Variant::Nft, Family::V4) => "iptables-nft-save",
            (Variant::Nft, Family::V6) => "ip6tables-nft-save",
            (Variant::Legacy, Family::V4) => "iptables-legacy-save",
            (Variant::Legacy, Family::V6) => "ip6tables-legacy-save",
        }
    }

    /// The binary that changes the rules of a family in one transaction.
    pub fn restore(self, family: Family) -> &'static str {
        match (self, family) {
            (Variant::Nft, Family::V4) => "iptables-nft-restore",
            (Variant::Nft, Family::V6) => "ip6tables-nft-restore",
            (Variant::Legacy, Family::V4) => "iptables-legacy-restore",
            (Variant::Legacy, Family::V6) => "ip6tables-legacy-restore",
        }
    }
}
