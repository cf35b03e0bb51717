//! When to look for parts of policies that cannot be enforced, and where to report them.

use super::Enforcer;
use crate::compile::{Shortfall, shortfalls};
use crate::net::Family;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The shortest time between two searches. The result is for people.
const EVERY: Duration = Duration::from_secs(10);

/// Searches for shortfalls, if there is a listener.
#[derive(Debug, Default)]
pub(super) struct Shortfalls {
    listener: Option<watch::Sender<Vec<Shortfall>>>,
    families: Vec<Family>,
    /// The number of counts at the last search; `None` before it.
    seen: Option<u64>,
    last: Option<Instant>,
}

impl Shortfalls {
    /// For a node with these families.
    pub(super) fn new(families: Vec<Family>, listener: watch::Sender<Vec<Shortfall>>) -> Shortfalls {
        Shortfalls { listener: Some(listener), families, seen: None, last: None }
    }

    /// Searches if objects were counted since the last search, which means that something changed, and the last search
    /// was long enough ago.
    pub(super) fn look(&mut self, enforcer: &Enforcer, counts: u64, now: Instant) {
        let Some(listener) = &self.listener else { return };
        let rested = self.last.is_none_or(|last| now.duration_since(last) >= EVERY);
        if self.seen == Some(counts) || !rested {
            return;
        }
        (self.seen, self.last) = (Some(counts), Some(now));
        let found = shortfalls(enforcer.cluster(), enforcer.plan(), &self.families);
        listener.send_if_modified(|reported| {
            let differs = *reported != found;
            *reported = found;
            differs
        });
    }
}
