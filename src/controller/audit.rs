//! Decides when to read the kernel and compare it with what must hold. The time is passed in.

use std::time::{Duration, Instant};

/// How long to wait between two reads because of changes by other programs: at first, and at most while they continue.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(500);

/// How long no change must be reported before the wait is short again.
const CALM: Duration = Duration::from_secs(10);

/// How long the agent's own work may delay a read if it comes without a pause.
const PATIENCE: Duration = Duration::from_secs(1);

/// When to read the kernel: at an interval, and soon after another program has changed it.
///
/// The first read after a reported change is due at once. If a firewall manager flushes and loads in several steps, the
/// kernel is also read between them; if it never stops, twice a second. A flush
/// every second is repaired at once.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    every: Duration,
    /// When the kernel was last read.
    last: Instant,
    /// When the first change since then was reported.
    news: Option<Instant>,
    /// When the kernel was last read because of a reported change, and how many such reads followed each other without
    /// a calm period.
    last_news: Option<Instant>,
    looks: u32,
}

impl Audit {
    /// Reads at this interval, counted from now.
    pub(super) fn every(every: Duration, now: Instant) -> Audit {
        Audit { every, last: now, news: None, last_news: None, looks: 0 }
    }

    /// Another program changed the kernel.
    pub(super) fn changed(&mut self, now: Instant) {
        self.news = self.news.or(Some(now));
    }

    /// When to read because of a reported change; `None` if there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        let news = self.news?;
        let pause = SHORTEST.saturating_mul(1 << self.looks.min(16)).min(LONGEST);
        Some(self.last_news.map_or(news, |last| news.max(last + pause)))
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
            let calm = self.last_news.is_none_or(|last| last + CALM <= now);
            self.looks = if calm { 0 } else { self.looks.saturating_add(1) };
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

    #[test]
    fn changes_that_never_end_cost_two_reads_a_second() {
        let start = Instant::now();
        let mut audit = Audit::every(HOUR, start);
        let mut looks = Vec::new();
        for millisecond in 0..60_000 {
            let now = start + Duration::from_millis(millisecond);
            audit.changed(now);
            if audit.is_due(now, true) {
                audit.looks(now);
                looks.push(now);
            }
        }
        let apart: Vec<_> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(apart[..3], [SHORTEST, SHORTEST * 2, SHORTEST * 4]);
        assert!(apart[4..].iter().all(|apart| *apart == LONGEST), "{apart:?}");
    }

    #[test]
    fn calm_makes_the_next_look_soon_again_and_looks_without_news_do_not_disturb_it() {
        let start = Instant::now();
        let mut audit = Audit::every(Duration::from_secs(1), start);
        for second in 0..5 {
            audit.changed(start);
            audit.looks(start + Duration::from_secs(second));
        }
        let later = start + Duration::from_secs(4) + CALM;
        for second in 5..14 {
            audit.looks(start + Duration::from_secs(second));
        }
        audit.changed(later);
        assert!(audit.is_due(later, true));
        audit.looks(later);
        audit.changed(later);
        assert_eq!(audit.due(), Some(later + SHORTEST));
    }
}
