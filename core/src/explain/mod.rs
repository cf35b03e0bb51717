//! What a policy means for one connection, and why.
//!
//! Comes in: a cluster and a flow. Goes out: a verdict; for one that was refused, the rule that would almost have allowed
//! it. This room reads facts and changes none; its oracle knows the NetworkPolicy API and nothing of plans, chains or
//! sets, so that it can judge those who do.

mod nearest;
pub mod oracle;

pub use nearest::*;
