//! Renders the plan for iptables and ipset: from `Plan` to `Ruleset`, and from `Delta` to `Edit`.

mod allowed;
mod audit;
mod dispatch;
mod hook;
mod pod;
mod policy;
mod renderer;
mod set;

pub use allowed::*;
pub use renderer::*;
