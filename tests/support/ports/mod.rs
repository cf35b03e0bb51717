//! What may come and go by the ports of a node's bridge, by the text of SECURITY.md and ARCHITECTURE.md.
//!
//! Comes in: what a node received, and frames in the terms of their protocols. Goes out: whether they pass, and where
//! a kernel differs. Nothing here knows how `compile` joins ports with pods, or what `render` makes of that.

mod behind;
mod crossing;
mod frames;
mod judge;

pub use behind::{Behind, Ports, Protected};
pub use crossing::{Crossing, crosses, differing};
pub use frames::{Carried, Message, Sent, random_frame};
