//! Ways past policies, tried by a pod's own program on its own link.
//!
//! Comes in: the addresses of the pod, of its receiver and of the pod that it claims to be. Goes out: frames
//! (`Intruder` sends them from within the pod), and how to recognise each where it arrives (`Attempt::is_in`). Nothing
//! here depends on a cluster.

mod attempt;
mod intruder;
mod neighbour;

pub use attempt::{Attempt, Link};
pub use intruder::Intruder;
pub use neighbour::Neighbour;
