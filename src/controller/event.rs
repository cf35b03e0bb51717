//! What the main loop reports to the reconciler.

use super::{Delivery, Done};
use crate::apply::KernelError;
use std::time::{Duration, Instant, SystemTime};

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A source has delivered facts.
    Delivery(Delivery),
    /// No source will deliver any more.
    SourcesEnded,
    /// The work that was started last has ended.
    Returned(WorkOutcome<Done>),
    /// The steps that were to be written have been, or one of them failed.
    Written(WorkOutcome<()>),
    /// Another program may have changed the kernel.
    ExternalChange,
    /// The time that was waited for has come.
    TimePassed,
    /// To be reported every second or so.
    Heartbeat,
}

/// How work in the kernel ended.
#[derive(Debug)]
pub struct WorkOutcome<D> {
    /// What came of it.
    pub done: Result<D, KernelError>,
    /// When it was handed over.
    pub started: Instant,
    /// How long the kernel took.
    pub took: Duration,
    /// When it ended, by the host's clock.
    pub at: SystemTime,
}
