//! Pods that send and receive from their first instruction on, and observers of what passed.
//!
//! - A *starting pod* runs one program (`StartingPod`), which sends to the observers and counts what it receives during
//!   a given lifetime.
//! - An *observer* (`Observer`) runs in a pod that exists before. It records and answers what arrives, and probes the
//!   address of every starting pod from the moment at which the pod's node has assigned it (`PodEvents`), before the
//!   pod's first process runs. So packets that crossed the pod's link are counted by the receiving side.
//! - A *sender* (`Sender`) is a starting pod that runs until its node reboots, and starts again after that.

mod arrival;
mod observer;
mod pod_events;
mod probe_datagram;
mod sender;
mod starting_pod;

pub use observer::{Observed, Observer, SentProbe};
pub use pod_events::PodEvents;
pub use probe_datagram::{Micros, ProbeDatagram, now};
pub use sender::{Sender, SenderRun};
pub use starting_pod::{Report, StartingPod};

/// The port on which observers and starting pods listen.
pub const PORT: u16 = 9000;
