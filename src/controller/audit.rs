//! Decides when to read the kernel and compare it with what must hold. The time is passed in.

use crate::flow::Budget;
use std::time::{Duration, Instant};

/// How long to wait at least between two reads because of changes by other programs, and on average if they never end.
const SHORTEST: Duration = Duration::from_millis(100);
const AVERAGE: Duration = Duration::from_millis(300);

/// How many reads may follow each other after the shortest wait.
const BURST: u32 = 10;

/// How long the agent's own work may delay a read if it comes without a pause.
const PATIENCE: Duration = Duration::from_secs(1);

/// When to read the kernel: at an interval, and soon after another program has changed it.
///
/// The first read after a reported change is due at once. If a firewall manager flushes and loads in several steps, the
/// kernel is also read between them; if it never stops, three times a second. A flush every second is repaired at once,
/// though the kernel may report one flush in several parts.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    every: Duration,
    /// When the kernel was last read.
    last: Instant,
    /// When the first change since then was reported.
    news: Option<Instant>,
    /// When the kernel was last read because of a reported change.
    last_news: Option<Instant>,
    /// How many such reads may follow now, counted from the beginning.
    budget: Budget,
    begin: Instant,
}

impl Audit {
    /// Reads at this interval, counted from now.
    pub(super) fn every(every: Duration, now: Instant) -> Audit {
        Audit {
            every,
            last: now,
            news: None,
            last_news: None,
            budget: Budget::new(BURST, AVERAGE),
            begin: now,
        }
    }

    /// Another program changed the kernel.
    pub(super) fn changed(&mut self, now: Instant) {
        self.news = self.news.or(Some(now));
    }

    /// When to read because of a reported change; `None` if there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        let news = self.news?;
        let soonest = self.last_news.map_or(news, |last| news.max(last + SHORTEST));
        Some(self.begin + self.budget.next(soonest.duration_since(self.begin)))
    }

    /// Whether to read now; `idle` means that there is nothing else to do.
    pub(super) fn is_due(&self, now: Instant, idle: bool) -> bool {
        let overdue = self.news.is_some_and(|news| news + PATIENCE <= now);
        let after_a_change = (idle || overdue) && self.due().is_some_and(|due| due <= now);
        after_a_change || idle && now.duration_since(self.last) >= self.every
    }

    /// Called when the kernel is being read.
    pub(super) fn looks(&mut self, now: Instant) {
        self.last = now;
        if self.news.take().is_some() {
            self.budget.take(now.duration_since(self.begin));
            self.last_news = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn without_news_it_comes_every_so_often_when_idle() {
        let now = Instant::now();
        let mut audit = Audit::every(HOUR, now);
        assert!(!audit.is_due(now + HOUR / 2, true));
        assert!(audit.is_due(now + HOUR, true) && !audit.is_due(now + HOUR, false));
        audit.looks(now + HOUR);
        assert!(!audit.is_due(now + HOUR, true));
    }

    #[test]
    fn first_look_comes_at_once_and_serves_all_that_was_heard() {
        let now = Instant::now();
        let mut audit = Audit::every(HOUR, now);
        audit.changed(now);
        audit.changed(now);
        assert!(audit.is_due(now, true));
        audit.looks(now);
        assert_eq!((audit.due(), audit.is_due(now, true)), (None, false));
    }

    #[test]
    fn own_changes_go_first_but_not_for_ever() {
        let now = Instant::now();
        let mut audit = Audit::every(HOUR, now);
        audit.changed(now);
        assert!(!audit.is_due(now + PATIENCE / 2, false));
        assert!(audit.is_due(now + PATIENCE, false));
    }

    /// When it reads while changes are reported at these milliseconds of a minute.
    fn looks_while(is_change: impl Fn(u64) -> bool) -> Vec<Duration> {
        let start = Instant::now();
        let mut audit = Audit::every(HOUR, start);
        let mut reads_at = |millisecond: &u64| {
            let now = start + Duration::from_millis(*millisecond);
            if is_change(*millisecond) {
                audit.changed(now);
            }
            let is_due = audit.is_due(now, true);
            if is_due {
                audit.looks(now);
            }
            is_due
        };
        (0..60_000).filter(|millisecond| reads_at(millisecond)).map(Duration::from_millis).collect()
    }

    #[test]
    fn changes_that_never_end_cost_three_reads_a_second() {
        let looks = looks_while(|_| true);
        let apart: Vec<_> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(apart[..10].iter().all(|apart| *apart == SHORTEST), "{apart:?}");
        assert!(apart[20..].iter().all(|apart| *apart == AVERAGE), "{apart:?}");
    }

    #[test]
    fn change_every_second_is_read_at_once_even_if_it_is_reported_in_parts() {
        let looks = looks_while(|millisecond| [0, 10, 150].contains(&(millisecond % 1000)));
        let at_once = looks.iter().filter(|look| look.as_millis() % 1000 == 0).count();
        assert_eq!(at_once, 60, "{looks:?}");
    }

    #[test]
    fn reads_without_reported_changes_delay_no_other() {
        let start = Instant::now();
        let mut audit = Audit::every(Duration::from_secs(1), start);
        for second in 0..100 {
            audit.looks(start + Duration::from_secs(second));
        }
        let later = start + Duration::from_secs(100);
        audit.changed(later);
        assert!(audit.is_due(later, true));
        audit.looks(later);
        audit.changed(later);
        assert_eq!(audit.due(), Some(later + SHORTEST));
    }
}
