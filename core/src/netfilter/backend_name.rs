//! The packet filters with which policies can be enforced.

use super::iptables::Variant;

/// A packet filter, and the interface by which it is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendName {
    /// ipset, and iptables over nf_tables.
    #[default]
    IptablesNft,
    /// ipset, and iptables over x_tables.
    IptablesLegacy,
    /// One table of nf_tables, by netlink.
    Nftables,
}

impl BackendName {
    /// All of them.
    pub const ALL: [BackendName; 3] =
        [BackendName::IptablesNft, BackendName::IptablesLegacy, BackendName::Nftables];

    /// As the flag `--backend` takes it.
    pub fn name(self) -> &'static str {
        match self {
            BackendName::IptablesNft => "iptables-nft",
            BackendName::IptablesLegacy => "iptables-legacy",
            BackendName::Nftables => "nftables",
        }
    }

    /// The variant of iptables to which it writes, if any.
    pub fn variant(self) -> Option<Variant> {
        match self {
            BackendName::IptablesNft => Some(Variant::Nft),
            BackendName::IptablesLegacy => Some(Variant::Legacy),
            BackendName::Nftables => None,
        }
    }
}

impl From<Variant> for BackendName {
    fn from(variant: Variant) -> BackendName {
        match variant {
            Variant::Nft => BackendName::IptablesNft,
            Variant::Legacy => BackendName::IptablesLegacy,
        }
    }
}
