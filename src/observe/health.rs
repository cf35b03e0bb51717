//! Whether the agent is alive, and whether it enforces.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long after its last heartbeat the waiting main loop counts as dead. A sync that is slow, or fails, or waits for the API
/// server is no reason to restart the agent: that would only lose its progress.
pub const SILENCE: Duration = Duration::from_secs(30);

/// How long one piece of work of the main loop may take before it counts as dead. If long work led to a restart, the agent would
/// begin the same work again, for ever; the rules in force stay in force meanwhile.
pub const WORK: Duration = Duration::from_secs(600);

/// The agent's health. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<HealthState>>,
}

#[derive(Debug)]
struct HealthState {
    beat: Instant,
    /// Whether the main loop has been working since then, and does not wait.
    is_at_work: bool,
    checks: Vec<(&'static str, Result<(), String>)>,
    /// By check and subject.
    remarks: BTreeMap<(&'static str, &'static str), String>,
}

impl Health {
    /// A starting agent: alive, and ready once each of `checks` was set to `Ok`.
    pub fn new(checks: &[&'static str]) -> Health {
        let checks = checks.iter().map(|name| (*name, Err("not done yet".to_owned()))).collect();
        let state = HealthState { beat: Instant::now(), is_at_work: false, checks, remarks: BTreeMap::new() };
        Health { state: Arc::new(Mutex::new(state)) }
    }

    /// The main loop runs, and waits for the next event. To be called at least once a second.
    pub fn beat(&self) {
        let mut state = self.state();
        (state.beat, state.is_at_work) = (Instant::now(), false);
    }

    /// The main loop begins a piece of work, which may take long.
    pub fn work(&self) {
        let mut state = self.state();
        (state.beat, state.is_at_work) = (Instant::now(), true);
    }

    /// Whether the main loop was alive at `now`: its last call is at most [`SILENCE`] ago if it waits, and [`WORK`] if it works.
    /// Fails with the reason.
    pub fn live(&self, now: Instant) -> Result<(), String> {
        let state = self.state();
        let silence = now.saturating_duration_since(state.beat);
        let (what, limit) =
            if state.is_at_work { ("at one piece of work", WORK) } else { ("silent", SILENCE) };
        if silence < limit {
            return Ok(());
        }
        Err(format!("the loop has been {what} for {} s", silence.as_secs()))
    }

    /// Sets the outcome of a check, with the reason if it failed. A new name is added behind the others.
    pub fn set_check(&self, name: &'static str, outcome: Result<(), String>) {
        let mut state = self.state();
        match state.checks.iter_mut().find(|(own, _)| *own == name) {
            Some((_, own)) => *own = outcome,
            None => state.checks.push((name, outcome)),
        }
    }

    /// Adds a remark about `about` to a check, which does not make it fail; `None` removes it.
    pub fn remark(&self, check: &'static str, about: &'static str, remark: Option<String>) {
        let mut state = self.state();
        match remark {
            Some(remark) => state.remarks.insert((check, about), remark),
            None => state.remarks.remove(&(check, about)),
        };
    }

    /// The remarks of a check.
    pub fn remarks(&self, check: &str) -> Vec<String> {
        let state = self.state();
        let own = state.remarks.iter().filter(|((of, _), _)| *of == check);
        own.map(|(_, remark)| remark.clone()).collect()
    }

    /// Every check with its outcome, in the order declared.
    pub fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        self.state().checks.clone()
    }

    /// Whether every check passes; otherwise those that fail, with their reasons.
    pub fn ready(&self) -> Result<(), Vec<(&'static str, String)>> {
        let failed: Vec<_> =
            self.checks().into_iter().filter_map(|(name, outcome)| Some((name, outcome.err()?))).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_agent_is_alive_but_not_ready() {
        let health = Health::new(&["manifests", "sync"]);
        assert_eq!(health.live(Instant::now()), Ok(()));
        let reason = "not done yet".to_owned();
        assert_eq!(health.ready(), Err(vec![("manifests", reason.clone()), ("sync", reason)]));
    }

    #[test]
    fn agent_without_checks_is_ready() {
        assert_eq!(Health::new(&[]).ready(), Ok(()));
    }

    #[test]
    fn every_check_must_pass_before_the_agent_is_ready() {
        let health = Health::new(&["manifests", "sync"]);
        health.set_check("manifests", Ok(()));
        assert!(health.ready().is_err());
        health.set_check("sync", Ok(()));
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn a_check_that_passed_may_fail_again() {
        let health = Health::new(&["sync"]);
        health.set_check("sync", Ok(()));
        health.set_check("sync", Err("the kernel refused".into()));
        assert_eq!(health.ready(), Err(vec![("sync", "the kernel refused".to_owned())]));
    }

    #[test]
    fn remarks_stay_with_their_check_until_removed_and_fail_nothing() {
        let health = Health::new(&["watch"]);
        health.set_check("watch", Ok(()));
        health.remark("watch", "pods", Some("stale".into()));
        health.remark("watch", "pods", Some("staler".into()));
        assert_eq!((health.ready(), health.remarks("watch")), (Ok(()), vec!["staler".to_owned()]));
        assert_eq!(health.remarks("sync"), Vec::<String>::new());
        health.remark("watch", "pods", None);
        assert_eq!(health.remarks("watch"), Vec::<String>::new());
    }

    #[test]
    fn a_check_not_declared_counts_once_it_is_set() {
        let health = Health::new(&[]);
        health.set_check("links", Err("no bridge".into()));
        assert_eq!(health.ready(), Err(vec![("links", "no bridge".to_owned())]));
    }

    #[test]
    fn clones_share_their_state() {
        let health = Health::new(&["sync"]);
        health.clone().set_check("sync", Ok(()));
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn only_thirty_seconds_without_a_heartbeat_fail_liveness() {
        let health = Health::new(&[]);
        let before = Instant::now();
        health.beat();
        let after = Instant::now();
        assert_eq!(health.live(before + SILENCE - Duration::from_millis(1)), Ok(()));
        let dead = health.live(after + SILENCE).unwrap_err();
        assert_eq!(dead, "the loop has been silent for 30 s");
    }

    #[test]
    fn long_work_does_not_fail_liveness_but_endless_work_does() {
        let health = Health::new(&[]);
        health.work();
        let after = Instant::now();
        assert_eq!(health.live(after + SILENCE * 2), Ok(()));
        assert_eq!(
            health.live(after + WORK).unwrap_err(),
            "the loop has been at one piece of work for 600 s"
        );
        health.beat();
        assert!(health.live(Instant::now() + SILENCE).is_err(), "it waits");
    }

    #[test]
    fn heartbeat_restores_liveness() {
        let health = Health::new(&[]);
        health.beat();
        assert!(health.live(Instant::now() + SILENCE).is_err());
        health.beat();
        assert_eq!(health.live(Instant::now()), Ok(()));
    }
}
