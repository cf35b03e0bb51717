//! The languages of the kernel's packet filters: chains, rules and sets, without the reason why they exist.

mod backend;
pub mod ipset;
pub mod iptables;
mod name;
pub mod nftables;
mod ruleset;

pub use backend::*;
pub use name::*;
pub use ruleset::*;
