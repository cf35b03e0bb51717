//! The languages of the kernel's packet filters: chains, rules and sets, without the reason why they exist.

mod backend_name;
pub mod ipset;
pub mod iptables;
mod name;
pub mod nftables;
mod ruleset;

pub use backend_name::*;
pub use name::*;
pub use ruleset::*;
