//! A token bucket, which limits how often something is done.

use std::time::Duration;

/// A bucket that holds a number of tokens, and gets one after each interval until it is full.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// How many tokens are missing at most while there is one.
    spare: u32,
    every: Duration,
    /// When it will be full if none is taken before.
    full: Duration,
}

impl Budget {
    /// A full bucket.
    pub fn new(tokens: u32, every: Duration) -> Budget {
        Budget { spare: tokens.saturating_sub(1), every, full: Duration::ZERO }
    }

    /// A full bucket that gets so many tokens in a second, and holds as many.
    pub fn per_second(tokens: u32) -> Budget {
        Budget::new(tokens, Duration::from_secs(1) / tokens)
    }

    /// Takes one token, if there is one. `now` is the time since any fixed moment.
    pub fn take(&mut self, now: Duration) -> bool {
        let may = self.next(now) <= now;
        if may {
            self.full = self.full.max(now) + self.every;
        }
        may
    }

    /// When the next token will be available, if none is taken before; `now` if one is available.
    pub fn next(&self, now: Duration) -> Duration {
        now.max(self.full.saturating_sub(self.every * self.spare))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_are_had_in_a_second_however_often_is_asked() {
        let mut budget = Budget::per_second(10);
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
