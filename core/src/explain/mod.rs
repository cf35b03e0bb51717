//! What a policy means for one connection, and why.
//!
//! Comes in: a cluster and a flow. Goes out: a verdict and, for a denied flow, the rule that comes nearest to allowing
//! it. This room changes no state; its oracle knows the NetworkPolicy API and nothing of plans, chains or sets, so that
//! it can check the code that does.

mod answer;
mod case;
mod classes;
mod difference;
mod ends;
mod exact_selector;
mod fix;
mod lookup;
mod near_rule;
mod nearest;
pub mod oracle;
mod question;
mod snapshot_judge;

pub use answer::*;
pub use case::*;
pub use difference::*;
pub use ends::CaseMembers;
pub use fix::*;
pub use lookup::LookupError;
pub use near_rule::*;
pub use nearest::*;
pub use question::*;
pub use snapshot_judge::SnapshotJudge;
