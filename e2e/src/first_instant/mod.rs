//! Pods that send and receive from their first instruction on, and witnesses of what passed.
//!
//! A *newborn* is a pod whose only program (`Newborn`) writes to witnesses, and counts what comes, from the moment it runs
//! until its time is over. A *witness* is a pod that was there before: it notes what arrives, answers it, and knocks at
//! every newborn's address from the moment a node has it (`Births`), before the newborn's first process runs. What crossed
//! the pod's wire is thus told by whoever received it. A *sender* (`Sender`) is a newborn that goes on until its node reboots, and
//! begins anew after that.

mod arrival;
mod births;
mod letter;
mod newborn;
mod sender;
mod witness;

pub use births::Births;
pub use letter::{Letter, Micros, now};
pub use newborn::{Newborn, Report};
pub use sender::{Run, Sender};
pub use witness::{Heard, Knock, Witness};

/// The port at which witnesses listen, and newborns too.
pub const PORT: u16 = 9000;
