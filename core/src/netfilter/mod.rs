//! The languages the kernel's packet filter speaks. Chains and sets, but not why they are there.

pub mod ipset;
pub mod iptables;
mod name;
pub mod nftables;
mod ruleset;

pub use name::*;
pub use ruleset::*;
