//! Decides when to retry. The time is passed in.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// How long to wait before the kernel is read again while another controller's rules are in force.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Doubles the wait after each failure in a row, from 0.1 s up to 30 s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    failures: u32,
    not_before: Option<Instant>,
}

impl Pace {
    /// Called when an attempt failed.
    pub fn failed(&mut self, now: Instant) {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
    }

    /// Called when nothing may be written until another program changes the kernel. Returns `None`: there is nothing to
    /// do.
    pub fn waits<T>(&mut self, now: Instant) -> Option<T> {
        self.not_before = Some(now + LOOK_AGAIN);
        None
    }

    /// Called when an attempt succeeded.
    pub fn succeeded(&mut self) {
        *self = Pace::default();
    }

    /// When the next attempt may be made; `None` for at once.
    pub fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Whether an attempt may be made now.
    pub fn may_try(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|then| then <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_each_time_and_never_over_half_a_minute() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.may_try(now));
        let mut waits = Vec::new();
        for _ in 0..12 {
            pace.failed(now);
            waits.push(pace.not_before().unwrap() - now);
        }
        assert_eq!(waits[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert!(waits.is_sorted());
        assert_eq!(waits[11], LONGEST);
    }

    #[test]
    fn success_forgets_the_failures() {
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.failed(now);
        assert!(!pace.may_try(now));
        assert!(pace.may_try(now + FIRST));
        pace.succeeded();
        assert!(pace.may_try(now));
    }
}
