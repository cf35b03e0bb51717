//! Whose connections to look at, and when: pure, the time is passed in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long to wait between two looks: each makes the kernel walk its whole table of connections, even an empty one.
const PAUSE: Duration = Duration::from_millis(100);

/// How long changes may go first, when they come without a pause.
const PATIENCE: Duration = Duration::from_secs(1);

/// Addresses some of whose connections may have lost what allowed them.
///
/// Changes of rules go first, so that what is waited for is in force soon, and so that one look serves many changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Revoked {
    addresses: BTreeSet<IpAddr>,
    /// When the first of them came.
    since: Option<Instant>,
    /// When their connections were last looked at.
    last_look: Option<Instant>,
}

impl Revoked {
    /// Takes in addresses.
    pub(super) fn add(&mut self, addresses: BTreeSet<IpAddr>, now: Instant) {
        if !addresses.is_empty() {
            self.since = self.since.or(Some(now));
            self.addresses.extend(addresses);
        }
    }

    /// When their connections may be looked at; `None` when there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(self.last_look.map_or(since, |last| since.max(last + PAUSE)))
    }

    /// Whether to look now, given whether there is nothing else to do.
    pub(super) fn is_due(&self, now: Instant, idle: bool) -> bool {
        let overdue = self.since.is_some_and(|since| since + PATIENCE <= now);
        (idle || overdue) && self.due().is_some_and(|due| due <= now)
    }

    /// Hands them over to be looked at.
    pub(super) fn take(&mut self, now: Instant) -> BTreeSet<IpAddr> {
        self.since = None;
        self.last_look = Some(now);
        std::mem::take(&mut self.addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revoked(now: Instant) -> Revoked {
        let mut revoked = Revoked::default();
        revoked.add(BTreeSet::from([IpAddr::from([10, 0, 0, 1])]), now);
        revoked
    }

    #[test]
    fn first_look_is_taken_at_once_when_idle() {
        let now = Instant::now();
        assert!(!Revoked::default().is_due(now, true));
        assert!(revoked(now).is_due(now, true));
    }

    #[test]
    fn changes_go_first_but_not_for_ever() {
        let now = Instant::now();
        let revoked = revoked(now);
        assert!(!revoked.is_due(now + PATIENCE / 2, false));
        assert!(revoked.is_due(now + PATIENCE, false));
    }

    #[test]
    fn looks_are_apart_and_serve_all_that_came() {
        let now = Instant::now();
        let mut revoked = revoked(now);
        assert_eq!(revoked.take(now).len(), 1);
        assert_eq!(revoked.due(), None);
        for host in [2, 3] {
            revoked.add(BTreeSet::from([IpAddr::from([10, 0, 0, host])]), now + PAUSE / 2);
        }
        assert!(!revoked.is_due(now + PAUSE / 2, true));
        assert_eq!(revoked.due(), Some(now + PAUSE));
        assert_eq!(revoked.take(now + PAUSE).len(), 2);
    }
}
