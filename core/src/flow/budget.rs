//! A token bucket, which limits how often something is done.

use std::time::Duration;

/// A bucket that is refilled at a number of tokens per second, and holds as many as one second adds.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    per_second: u32,
    left: f64,
    filled: Duration,
}

impl Budget {
    /// A full bucket.
    pub fn new(per_second: u32) -> Budget {
        Budget { per_second, left: f64::from(per_second), filled: Duration::ZERO }
    }

    /// Takes one token, if there is one. `now` is the time since any fixed moment.
    pub fn take(&mut self, now: Duration) -> bool {
        self.fill(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// When the next token will be available, if none is taken before; not later than `now` if one is available.
    pub fn next(&mut self, now: Duration) -> Duration {
        self.fill(now);
        now + Duration::from_secs_f64((1.0 - self.left).max(0.0) / f64::from(self.per_second))
    }

    fn fill(&mut self, now: Duration) {
        let rate = f64::from(self.per_second);
        let gained = now.saturating_sub(self.filled).as_secs_f64() * rate;
        self.left = (self.left + gained).min(rate);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_are_had_in_a_second_however_often_is_asked() {
        let mut budget = Budget::new(10);
        let taken = |budget: &mut Budget, now: u64| {
            (0..1000).filter(|_| budget.take(Duration::from_millis(now))).count()
        };
        assert_eq!(taken(&mut budget, 0), 10);
        assert_eq!(taken(&mut budget, 0), 0);
        assert_eq!(taken(&mut budget, 300), 3);
        assert_eq!(taken(&mut budget, 100), 0, "time that goes back gives nothing");
        assert_eq!(taken(&mut budget, 60_000), 10, "what was not used is not saved up");
    }
}
