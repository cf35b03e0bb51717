//! How iptables and ipset say what must hold: from `Plan` to `Ruleset`, and from `Delta` to `Edit`.
//!
//! The only room that knows both policies and chains. It decides every name and the place of every rule, and reads
//! and writes nothing.

mod allowed;
mod binding;
mod dispatch;
mod hook;
mod name;
mod options;
mod pod;
mod policy;
mod renderer;
mod set;

pub use allowed::*;
pub use binding::DROP_REASONS;
pub use name::*;
pub use options::*;
pub use renderer::*;
