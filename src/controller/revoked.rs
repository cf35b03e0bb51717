//! Decides when to check the connections of which addresses. The time is passed in.

use super::Reconciler;
use crate::model::{Change, Handover};
use crate::render::OnRevoke;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The shortest and longest time between two checks. Each makes the kernel walk its whole connection table, even if it
/// is empty: this takes some milliseconds, and many on a busy host.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The wait after a check, as a multiple of the time that it took, so that continuous checks take a twentieth of a
/// core.
const REST: u32 = 20;

/// How long changes may delay a check if they come without a pause.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the check of addresses waits that no pod has any more: their connections have usually ended with the pod.
const GONE: Duration = Duration::from_secs(5);

impl Reconciler {
    /// The addresses whose connections are to be checked; none with `--on-revoke=keep`.
    pub(super) fn unless_kept(&self, revoked: BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        match self.enforcer.options().on_revoke {
            OnRevoke::Cut => revoked,
            OnRevoke::Keep => BTreeSet::new(),
        }
    }

    /// Schedules the deletion of connections of pods that have ended: before a new pod with such an address runs, or else in some
    /// seconds.
    pub(super) fn hand_over(&mut self, change: &Change, now: Instant) {
        if self.complete {
            let Handover { left, taken } = self.enforcer.cluster().handover(change);
            self.revoked.leave(left, now);
            self.revoked.reuse(&taken, now);
        }
    }

    /// Schedules a check of the connections of these addresses.
    pub(super) fn schedule_check(&mut self, revoked: BTreeSet<IpAddr>, now: Instant) {
        self.revoked.add(revoked, |address| self.enforcer.cluster().is_held(address), now);
    }
}

/// Addresses with connections that may no longer be allowed.
///
/// Changes of rules have priority, so that they are in force soon, and so that one check serves many changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Revoked {
    addresses: BTreeSet<IpAddr>,
    /// When the first address was added that a pod has, and the first that no pod has.
    since: Option<Instant>,
    gone_since: Option<Instant>,
    /// Addresses of pods that have ended, whose connections are to be deleted, and since when a new pod has one of them.
    left: BTreeSet<IpAddr>,
    reused_since: Option<Instant>,
    /// When connections were last checked, and how long to wait afterwards.
    last_look: Option<Instant>,
    rest: Duration,
}

impl Revoked {
    /// Adds addresses. `is_held` returns whether any pod has an address.
    pub(super) fn add(
        &mut self,
        addresses: BTreeSet<IpAddr>,
        is_held: impl Fn(IpAddr) -> bool,
        now: Instant,
    ) {
        for address in addresses {
            let since = if is_held(address) { &mut self.since } else { &mut self.gone_since };
            since.get_or_insert(now);
            self.addresses.insert(address);
        }
    }

    /// Adds addresses of pods that have ended.
    pub(super) fn leave(&mut self, addresses: BTreeSet<IpAddr>, now: Instant) {
        if !addresses.is_empty() {
            self.gone_since.get_or_insert(now);
            self.left.extend(addresses);
        }
    }

    /// Called when new pods have these addresses.
    pub(super) fn reuse(&mut self, addresses: &BTreeSet<IpAddr>, now: Instant) {
        if !self.left.is_disjoint(addresses) {
            self.reused_since.get_or_insert(now);
        }
    }

    /// Called when the connections of these addresses could not be listed. Meanwhile, new pods may have them.
    pub(super) fn reuse_unlisted(&mut self, left: BTreeSet<IpAddr>, now: Instant) {
        let again = left.clone();
        self.leave(left, now);
        self.reuse(&again, now);
    }

    /// When connections of an address that a pod has may be checked; `None` if there is no such address.
    pub(super) fn pressing(&self) -> Option<Instant> {
        self.since.map(|since| self.rested().map_or(since, |rested| since.max(rested)))
    }

    /// When any connections may be checked; `None` if there are none to check.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.pressing(), self.gone_due(), self.reused_since].into_iter().flatten().min()
    }

    /// Whether to check now; `idle` means that there is nothing else to do.
    pub(super) fn is_due(&self, now: Instant, idle: bool) -> bool {
        if self.reused_since.is_some_and(|since| idle || since + PAUSE <= now) {
            return true;
        }
        let since = self.since.into_iter().chain(self.gone_due()).min();
        let overdue = since.is_some_and(|since| since + PATIENCE <= now);
        (idle || overdue) && self.due().is_some_and(|due| due <= now)
    }

    /// Returns the addresses to check and those that pods have left, and removes them.
    pub(super) fn take(&mut self, now: Instant) -> [BTreeSet<IpAddr>; 2] {
        (self.since, self.gone_since, self.reused_since) = (None, None, None);
        self.last_look = Some(now);
        [std::mem::take(&mut self.addresses), std::mem::take(&mut self.left)]
    }

    /// Called with the time that a check took.
    pub(super) fn looked(&mut self, took: Duration) {
        self.rest = took.saturating_mul(REST);
    }

    fn gone_due(&self) -> Option<Instant> {
        self.gone_since.map(|since| since + GONE)
    }

    fn rested(&self) -> Option<Instant> {
        self.last_look.map(|last| last + self.rest.clamp(PAUSE, LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revoked(now: Instant) -> Revoked {
        let mut revoked = Revoked::default();
        revoked.add(BTreeSet::from([IpAddr::from([10, 0, 0, 1])]), |_| true, now);
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
        assert_eq!(revoked.take(now)[0].len(), 1);
        assert_eq!(revoked.due(), None);
        for host in [2, 3] {
            revoked.add(BTreeSet::from([IpAddr::from([10, 0, 0, host])]), |_| true, now + PAUSE / 2);
        }
        assert!(!revoked.is_due(now + PAUSE / 2, true));
        assert_eq!(revoked.due(), Some(now + PAUSE));
        assert_eq!(revoked.take(now + PAUSE)[0].len(), 2);
    }

    #[test]
    fn looks_that_take_long_are_further_apart() {
        let now = Instant::now();
        let mut revoked = revoked(now);
        revoked.take(now);
        for (took, pause) in [(PAUSE / 100, PAUSE), (PAUSE, PAUSE * REST), (PAUSE * 9, LONGEST_PAUSE)] {
            revoked.looked(took);
            revoked.add(BTreeSet::from([IpAddr::from([10, 0, 0, 1])]), |_| true, now);
            assert_eq!(revoked.due(), Some(now + pause));
        }
    }

    #[test]
    fn address_that_nobody_has_waits_and_is_looked_at_with_others() {
        let now = Instant::now();
        let (gone, held) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut revoked = Revoked::default();
        revoked.add(BTreeSet::from([gone]), |_| false, now);
        assert_eq!((revoked.pressing(), revoked.due()), (None, Some(now + GONE)));
        assert!(!revoked.is_due(now + GONE / 2, true) && revoked.is_due(now + GONE, true));
        revoked.add(BTreeSet::from([held]), |_| true, now);
        assert!(revoked.is_due(now, true));
        assert_eq!(revoked.take(now)[0], BTreeSet::from([gone, held]));
        assert_eq!(revoked.due(), None);
    }
    #[test]
    fn connections_of_a_pod_that_ended_wait_unless_a_new_pod_has_its_address() {
        let now = Instant::now();
        let [left, other] = [1, 2].map(|host| BTreeSet::from([IpAddr::from([10, 0, 0, host])]));
        let mut revoked = revoked(now);
        revoked.take(now);
        revoked.reuse(&left, now);
        assert_eq!(revoked.due(), None, "no pod has left it");
        revoked.leave(left.clone(), now);
        revoked.reuse(&other, now);
        assert_eq!(revoked.due(), Some(now + GONE));
        revoked.reuse(&left, now);
        assert!(revoked.is_due(now, true), "the pause after a check does not matter");
        assert!(!revoked.is_due(now, false), "the new pod is isolated first");
        assert!(revoked.is_due(now + PAUSE, false));
        assert_eq!(revoked.take(now), [BTreeSet::new(), left]);
        assert_eq!(revoked.due(), None);
    }
}
