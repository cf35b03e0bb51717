//! How packet filters say what must hold: iptables with ipset, and the table of family bridge.
//!
//! The only room that knows both policies and chains. It decides every name and the place of every rule, and reads
//! and writes nothing.

mod binding;
pub mod iptables;
mod name;
mod options;

pub use binding::DROP_REASONS;
pub use name::*;
pub use options::*;
