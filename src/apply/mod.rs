//! The only hands: keeps the kernel equal to what was rendered. Knows chains and sets, never policies.
//!
//! Comes in: a `Ruleset` or an `Edit`. Goes out: `Step`s, in an order that is safe to stop after any of them, and a
//! `Kernel` that does them.

mod actual;
mod applier;
mod fake;
pub mod host;
mod kernel;
mod lane;
mod other_controller;
mod recognise;
mod transaction;

pub use actual::*;
pub use applier::*;
pub use fake::*;
pub use kernel::*;
pub use lane::*;
use other_controller::chains_of_kube_router;
pub use other_controller::*;
use recognise::own_chains;
