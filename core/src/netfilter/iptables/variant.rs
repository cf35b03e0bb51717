//! The two variants of iptables, and what their programs are called.

use crate::net::Family;

/// Which of the kernel's two packet filters the iptables binaries speak to.
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

    /// The one that is not this.
    pub fn other(self) -> Variant {
        match self {
            Variant::Nft => Variant::Legacy,
            Variant::Legacy => Variant::Nft,
        }
    }

    /// Its name as the binaries spell it: `nft` or `legacy`.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Nft => "nft",
            Variant::Legacy => "legacy",
        }
    }

    /// The binary that edits a family's rules one by one.
    pub fn edit(self, family: Family) -> &'static str {
        match (self, family) {
            (Variant::Nft, Family::V4) => "iptables-nft",
            (Variant::Nft, Family::V6) => "ip6tables-nft",
            (Variant::Legacy, Family::V4) => "iptables-legacy",
            (Variant::Legacy, Family::V6) => "ip6tables-legacy",
        }
    }

    /// The binary that prints a family's rules.
    pub fn save(self, family: Family) -> &'static str {
        match (self, family) {
            (Variant::Nft, Family::V4) => "iptables-nft-save",
            (Variant::Nft, Family::V6) => "ip6tables-nft-save",
            (Variant::Legacy, Family::V4) => "iptables-legacy-save",
            (Variant::Legacy, Family::V6) => "ip6tables-legacy-save",
        }
    }

    /// The binary that changes a family's rules.
    pub fn restore(self, family: Family) -> &'static str {
        match (self, family) {
            (Variant::Nft, Family::V4) => "iptables-nft-restore",
            (Variant::Nft, Family::V6) => "ip6tables-nft-restore",
            (Variant::Legacy, Family::V4) => "iptables-legacy-restore",
            (Variant::Legacy, Family::V6) => "ip6tables-legacy-restore",
        }
    }
}
