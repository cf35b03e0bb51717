//! How long to wait before a failed request is sent again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchFailure {
    /// There was no response. Requests then cost little, and the first response should not be missed for long.
    Unreachable,
    /// The server rejected the request, or cannot answer it now.
    Refused,
}

impl WatchFailure {
    /// Its name in logs and in the label `reason`.
    pub(super) const fn word(self) -> &'static str {
        match self {
            WatchFailure::Unreachable => "unreachable",
            WatchFailure::Refused => "refused",
        }
    }

    fn longest(self) -> Duration {
        match self {
            WatchFailure::Unreachable => Duration::from_secs(2),
            WatchFailure::Refused => Duration::from_secs(30),
        }
    }
}

/// The failures since the last success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WatchBackoff {
    last: Option<WatchFailure>,
    times: u32,
}

impl WatchBackoff {
    /// Called when a request succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = WatchBackoff::default();
    }

    /// Called when a request failed. Returns how long to wait: the limit doubles each time, and `jitter` (0 to 1)
    /// chooses a wait between half of it and all of it, so that nodes do not all retry at once.
    pub(super) fn failed(&mut self, failure: WatchFailure, jitter: f64) -> Duration {
        self.times = if self.last == Some(failure) { self.times.saturating_add(1) } else { 0 };
        self.last = Some(failure);
        let doubled = FIRST.saturating_mul(1 << self.times.min(16));
        doubled.min(failure.longest()).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(failure: WatchFailure, jitter: f64) -> Vec<u128> {
        let mut backoff = WatchBackoff::default();
        (0..12).map(|_| backoff.failed(failure, jitter).as_millis()).collect()
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let unreachable = [100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000, 2000, 2000, 2000];
        assert_eq!(waits(WatchFailure::Unreachable, 1.0), unreachable);
        let refused = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000];
        assert_eq!(waits(WatchFailure::Refused, 1.0), refused);
    }

    #[test]
    fn half_of_a_wait_is_jitter() {
        assert_eq!(waits(WatchFailure::Unreachable, 0.0)[..3], [50, 100, 200]);
    }

    #[test]
    fn success_and_another_kind_of_failure_reset_the_wait() {
        let mut backoff = WatchBackoff::default();
        for _ in 0..9 {
            backoff.failed(WatchFailure::Unreachable, 1.0);
        }
        assert_eq!(backoff.failed(WatchFailure::Refused, 1.0), FIRST);
        assert_eq!(backoff.failed(WatchFailure::Refused, 1.0), 2 * FIRST);
        backoff.succeeded();
        assert_eq!(backoff.failed(WatchFailure::Refused, 1.0), FIRST);
    }
}
