//! One suite for two worlds: scenarios whose steps change a cluster, and who reaches whom after each of them.
//!
//! Comes in: `e2e/scenarios/*.yaml`. Goes out: differences, measured with real packets. The same files, tables and
//! prober are used for a small network in namespaces and for a real cluster made by kind; `ScenarioWorld` is their
//! common interface.

pub mod cluster;
pub mod connection_probes;
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
