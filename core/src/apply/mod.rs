//! Keeps the kernel equal to the rendered rules. Knows chains and sets, never policies.
//!
//! Comes in: a `Ruleset` or an `Edit`, and what the kernel holds. Goes out: `Step`s, in an order that is safe to stop
//! after any of them. `PacketFilter` and `Conntrack` are the operations that a kernel must offer; `Fake` implements
//! them in memory.

mod actual;
mod bridge_replacement;
mod conntrack;
mod error;
mod fake;
pub mod iptables;
mod leftovers;
pub mod nftables;
mod other_controller;
mod packet_filter;
mod recognise;
mod step;
mod table_owner;

pub use actual::*;
pub(crate) use bridge_replacement::BridgeReplacement;
pub use conntrack::*;
pub use error::*;
pub use fake::*;
pub(crate) use leftovers::leftovers;
pub use other_controller::*;
pub use packet_filter::*;
pub use recognise::own_chains;
pub use step::*;
pub use table_owner::*;
