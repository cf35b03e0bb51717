//! One suite, two worlds: scenarios whose steps change a cluster, and who reaches whom after each of them.
//!
//! Comes in: `e2e/scenarios/*.yaml`. Goes out: what differs from them, measured with real packets. The same files, the
//! same tables and the same prober serve a small network in namespaces and a real cluster made by kind; a `ScenarioWorld` is
//! what the two have in common.

pub mod cluster;
mod dns;
mod expectation;
pub mod first_instant;
mod guarded;
pub mod intrusion;
pub mod key;
pub mod kind;
mod link;
pub mod namespaces;
mod object;
pub mod play;
pub mod scenario;
pub mod trials;
pub mod verb;
pub mod world;
