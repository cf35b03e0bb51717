//! Which frames may pass the ports of a node's bridge, according to the text of SECURITY.md and ARCHITECTURE.md.
//!
//! Comes in: what was reported to a node, and frames in the terms of their protocols. Goes out: whether they pass, and
//! where a kernel differs. Nothing here depends on how `compile` joins ports with pods, or on what `render` writes for
//! that.

mod behind;
mod crossing;
mod frames;
mod judge;

pub use behind::{Behind, Ports, Protected};
pub use crossing::{Crossing, crosses, differing};
pub use frames::{Carried, Message, Sent, random_frame};
