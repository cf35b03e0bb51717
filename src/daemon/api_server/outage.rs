//! The time during which the API server cannot be reached, or rejects a watch.

use std::time::{Duration, Instant};

/// An outage of this length fails readiness, so that a rollout stops and an operator looks. A restart of an API server takes
/// less.
const OUTAGE_LIMIT: Duration = Duration::from_secs(120);
/// An outage ends when the server has accepted a watch and not failed for this long, even without events.
const RECOVERED_AFTER: Duration = Duration::from_secs(3);

/// A server that cannot be reached, or rejects requests.
pub(super) struct Outage {
    pub(super) error: String,
    pub(super) began: Instant,
    pub(super) logged: Instant,
    /// When to try again.
    pub(super) until: Instant,
}

impl Outage {
    /// Whether the server, which last sent bytes at `last_bytes`, accepted the last request and has not failed since.
    pub(super) fn is_over(&self, last_bytes: Option<Instant>, now: Instant) -> bool {
        last_bytes.is_some_and(|at| at > self.until)
            && now.saturating_duration_since(self.until) >= RECOVERED_AFTER
    }

    pub(super) fn is_long(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= OUTAGE_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(began: Instant, until: Instant) -> Outage {
        Outage { error: "no route".to_owned(), began, logged: began, until }
    }

    #[test]
    fn outage_is_over_when_the_server_accepted_a_watch_and_did_not_fail_again() {
        let start = Instant::now();
        let asked = start + Duration::from_secs(10);
        let outage = outage(start, asked);
        let after = |seconds| asked + Duration::from_secs(seconds);
        assert!(!outage.is_over(None, after(9)));
        assert!(!outage.is_over(Some(start), after(9)), "these bytes are older");
        assert!(!outage.is_over(Some(after(1)), after(2)), "it may still fail");
        assert!(outage.is_over(Some(after(1)), after(3)));
    }

    #[test]
    fn outage_fails_readiness_when_it_is_longer_than_a_servers_restart() {
        let start = Instant::now();
        let outage = outage(start, start);
        assert!(!outage.is_long(start + Duration::from_secs(119)));
        assert!(outage.is_long(start + Duration::from_secs(120)));
    }
}
