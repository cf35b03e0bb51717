//! Ways past policies, tried by a pod's own program on its own link.
//!
//! Comes in: who the pod, its receiver and the pod that it claims to be are. Goes out: frames (`Intruder` sends them from
//! within the pod), and what each looks like where it arrives (`Attempt::is_in`). Nothing here knows of clusters.

mod attempt;
mod intruder;
mod neighbour;

pub use attempt::{Attempt, Link};
pub use intruder::Intruder;
pub use neighbour::Neighbour;
