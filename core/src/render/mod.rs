//! Renders the plan for packet filters: iptables with ipset, nf_tables, and the table of family bridge.
//!
//! The only room that knows both policies and chains. It decides every name and the position of every rule, and reads
//! and writes nothing.

mod binding;
pub mod iptables;
mod name;
pub mod nftables;
mod options;

pub use binding::{DROP_REASONS, bridge_batches, bridge_table, reserved_table};
pub use name::*;
pub use options::*;
