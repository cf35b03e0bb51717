//! What the outside may learn about the daemon: metrics, health, the HTTP pages that serve them, and the log.
//!
//! Comes in: facts, as counts, durations and outcomes, handed over by the controller. Goes out: text for people and
//! for Prometheus, and Events. This room never asks for a fact, does not know what a policy means, and nothing that a client
//! does to its pages may slow the daemon down.

mod catalog;
mod events;
mod fact;
mod health;
mod journal;
mod kube_router;
mod log;
mod metrics;
mod page;
mod per_policy;
mod process;
mod series;
mod server;

pub use catalog::*;
pub use events::*;
pub use fact::*;
pub use health::*;
pub use journal::*;
pub use log::*;
pub use metrics::*;
pub use per_policy::*;
pub use server::*;
