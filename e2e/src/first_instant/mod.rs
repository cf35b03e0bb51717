//! Pods that send and receive from their first instruction on, and witnesses of what passed.
//!
//! A *newborn* is a pod whose only program (`Newborn`) writes to witnesses, and counts what comes, from the moment it runs
//! until its time is over. A *witness* is a pod that was there before: it notes what arrives, answers it, and knocks at
//! every newborn's address from the moment a node has it (`Births`), before the newborn's first process runs. What crossed
//! the pod's wire is thus told by whoever received it.

mod arrival;
mod births;
mod letter;
mod newborn;
mod witness;

pub use births::Births;
pub use letter::{Letter, Micros, now};
pub use newborn::{Newborn, Report};
pub use witness::{Heard, Witness};

/// The port at which witnesses listen, and newborns too.
pub const PORT: u16 = 9000;
