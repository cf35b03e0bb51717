//! Events that the main loop reports to the reconciler.

use super::{Delivery, Done};
use crate::apply::KernelError;
use crate::verify::Verification;
use std::time::{Duration, Instant, SystemTime};

/// An event.
#[derive(Debug)]
pub enum Event {
    /// A source has delivered facts.
    Delivery(Delivery),
    /// No source will deliver any more.
    SourcesEnded,
    /// The work that was started last has returned.
    Returned(WorkOutcome<Done>),
    /// The members of sets that were to be written have been written, or one of the steps failed.
    Written(WorkOutcome<()>),
    /// What was to be compared has been.
    Verified {
        /// What came of it.
        verification: Verification,
        /// How long it took.
        took: Duration,
        /// When it ended, by the host's clock.
        at: SystemTime,
    },
    /// Another program may have changed the kernel.
    ExternalChange,
    /// The time has come until which the loop waited.
    TimePassed,
    /// Reported about every second.
    Heartbeat,
}

/// How work in the kernel ended.
#[derive(Debug)]
pub struct WorkOutcome<D> {
    /// Its result.
    pub done: Result<D, KernelError>,
    /// When it was started.
    pub started: Instant,
    /// How long the kernel took.
    pub took: Duration,
    /// When it ended, by the host's clock.
    pub at: SystemTime,
}
