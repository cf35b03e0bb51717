//! What this node must enforce, independent of any backend.
//!
//! Comes in: `Cluster` and what a change touched. Goes out: `Plan`, and `Delta`, what changed in it. This room knows
//! what a policy means, and no chains.

mod allow;
mod audit;
mod binding;
mod by_address;
mod decision;
mod delta;
mod index;
mod isolation;
mod judgement;
mod limits;
mod locals;
mod membership;
mod plan;
mod policy;
mod rule_shares;
mod share;
mod shared_set;
mod shortfall;
mod staging;

pub use allow::*;
pub use audit::*;
pub use binding::*;
pub use decision::*;
pub use delta::*;
pub use isolation::*;
pub use judgement::*;
pub use limits::{LimitedResource, Limits, Surplus};
pub use plan::*;
pub use policy::*;
pub use shared_set::*;
pub use shortfall::*;
