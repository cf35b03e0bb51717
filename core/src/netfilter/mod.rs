//! The languages the kernel's packet filter speaks. Chains and sets, but not why they are there.

mod backend;
pub mod ipset;
pub mod iptables;
mod name;
pub mod nftables;
mod ruleset;

pub use backend::*;
pub use name::*;
pub use ruleset::*;
