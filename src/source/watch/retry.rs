//! How long to wait before a server is asked again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answered. Asking costs nobody much, and the first answer should not be missed for long.
    Unreachable,
    /// The server answered that it will not, or cannot now.
    Refused,
}

impl Failure {
    /// Its name in logs and in the label `reason`.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Failure::Unreachable => "unreachable",
            Failure::Refused => "refused",
        }
    }

    fn longest(self) -> Duration {
        match self {
            Failure::Unreachable => Duration::from_secs(2),
            Failure::Refused => Duration::from_secs(30),
        }
    }
}

/// The failures since the last success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    last: Option<Failure>,
    times: u32,
}

impl Retry {
    /// The server did as it was asked.
    pub(super) fn succeeded(&mut self) {
        *self = Retry::default();
    }

    /// A request failed. Says how long to wait: twice as long each time, and of that at least half, the rest being
    /// `dice` (0 to 1), so that not all nodes ask at once.
    pub(super) fn failed(&mut self, failure: Failure, dice: f64) -> Duration {
        self.times = if self.last == Some(failure) { self.times.saturating_add(1) } else { 0 };
        self.last = Some(failure);
        let doubled = FIRST.saturating_mul(1 << self.times.min(16));
        doubled.min(failure.longest()).mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(failure: Failure, dice: f64) -> Vec<u128> {
        let mut retry = Retry::default();
        (0..12).map(|_| retry.failed(failure, dice).as_millis()).collect()
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let unreachable = [100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000, 2000, 2000, 2000];
        assert_eq!(waits(Failure::Unreachable, 1.0), unreachable);
        let refused = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000];
        assert_eq!(waits(Failure::Refused, 1.0), refused);
    }

    #[test]
    fn half_of_a_wait_is_left_to_chance() {
        assert_eq!(waits(Failure::Unreachable, 0.0)[..3], [50, 100, 200]);
    }

    #[test]
    fn success_and_another_kind_of_failure_begin_anew() {
        let mut retry = Retry::default();
        for _ in 0..9 {
            retry.failed(Failure::Unreachable, 1.0);
        }
        assert_eq!(retry.failed(Failure::Refused, 1.0), FIRST);
        assert_eq!(retry.failed(Failure::Refused, 1.0), 2 * FIRST);
        retry.succeeded();
        assert_eq!(retry.failed(Failure::Refused, 1.0), FIRST);
    }
}
