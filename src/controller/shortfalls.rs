//! When to look for parts of policies that cannot be enforced, and where to report them.

use super::Enforcer;
use crate::compile::{Shortfall, shortfalls};
use crate::net::Family;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often is looked, at most: it is for people, who do not read faster.
const EVERY: Duration = Duration::from_secs(10);

/// Looks for shortfalls now and then, if anybody wants to know.
#[derive(Debug, Default)]
pub(super) struct Shortfalls {
    listener: Option<watch::Sender<Vec<Shortfall>>>,
    families: Vec<Family>,
    /// How often things had been counted at the last look; `None` before it.
    seen: Option<u64>,
    last: Option<Instant>,
}

impl Shortfalls {
    /// For a node that has these families.
    pub(super) fn new(families: Vec<Family>, listener: watch::Sender<Vec<Shortfall>>) -> Shortfalls {
        Shortfalls { listener: Some(listener), families, seen: None, last: None }
    }

    /// Looks, if things were counted since the last look, as they are after a change, and that was long enough ago.
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
