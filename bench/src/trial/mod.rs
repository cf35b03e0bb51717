//! The measurements, one file each.
//!
//! Comes in: a setup, and controllers that run on it. Goes out: figures. A trial restores the cluster's initial state.

pub(crate) mod connections;
pub(crate) mod costly;
pub(crate) mod crowd;
pub(crate) mod life;
pub(crate) mod load;
pub(crate) mod lock;
pub(crate) mod packet;
pub(crate) mod pod_start;
pub(crate) mod policy;
pub(crate) mod reach;
pub(crate) mod remote;
pub(crate) mod verify;
pub(crate) mod wire;

use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// The interval of datagrams in a stream that times an event.
pub(crate) const PACE: Duration = Duration::from_micros(200);

/// The processor time of this thread so far, including the kernel's on its behalf.
pub(crate) fn worked() -> nix::Result<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from)
}

/// Milliseconds from one moment to another; negative if the other was before it.
pub(crate) fn milliseconds(from: Instant, to: Instant) -> f64 {
    let forward = to.saturating_duration_since(from).as_secs_f64();
    let backward = from.saturating_duration_since(to).as_secs_f64();
    (forward - backward) * 1e3
}
