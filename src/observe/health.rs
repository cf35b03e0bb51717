//! Whether the daemon is alive, and whether it enforces.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long the loop may stay silent before the daemon counts as dead. A sync that is slow, or fails, or waits
/// for the API server is not death: being killed for it would only lose what was done.
pub const SILENCE: Duration = Duration::from_secs(30);

/// For how long the loop may be at one piece of work before the daemon counts as dead. To kill it for work that takes long would
/// have it begin the same work again, for ever; what it enforces stays in force meanwhile.
pub const WORK: Duration = Duration::from_secs(600);

/// What is known of the daemon's health. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    beat: Instant,
    /// Whether the loop has been at work since then, and does not wait.
    is_at_work: bool,
    checks: Vec<(&'static str, Result<(), String>)>,
    /// By check and what they are about.
    remarks: BTreeMap<(&'static str, &'static str), String>,
}

impl Health {
    /// A daemon just born: alive, and ready once each of `checks` was set to `Ok`.
    pub fn new(checks: &[&'static str]) -> Health {
        let checks = checks.iter().map(|name| (*name, Err("not done yet".to_owned()))).collect();
        let state = State { beat: Instant::now(), is_at_work: false, checks, remarks: BTreeMap::new() };
        Health { state: Arc::new(Mutex::new(state)) }
    }

    /// Tells that the loop still turns, and waits for what comes next. It should be heard at least once a second.
    pub fn beat(&self) {
        let mut state = self.state();
        (state.beat, state.is_at_work) = (Instant::now(), false);
    }

    /// Tells that the loop begins a piece of work, which may take long.
    pub fn work(&self) {
        let mut state = self.state();
        (state.beat, state.is_at_work) = (Instant::now(), true);
    }

    /// Whether the loop still turned at `now`, or not so long before that it must be dead: [`SILENCE`] if it was waiting, and
    /// [`WORK`] if it was at work. Fails with the reason.
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

    /// Sets the outcome of a check, with the reason if it failed. A name not heard before is added behind the others.
    pub fn set_check(&self, name: &'static str, outcome: Result<(), String>) {
        let mut state = self.state();
        match state.checks.iter_mut().find(|(own, _)| *own == name) {
            Some((_, own)) => *own = outcome,
            None => state.checks.push((name, outcome)),
        }
    }

    /// Adds to a check what whoever reads it should know of `about`, though it does not fail; `None` takes it back.
    pub fn remark(&self, check: &'static str, about: &'static str, remark: Option<String>) {
        let mut state = self.state();
        match remark {
            Some(remark) => state.remarks.insert((check, about), remark),
            None => state.remarks.remove(&(check, about)),
        };
    }

    /// What was remarked of a check.
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newborn_daemon_is_alive_but_not_ready() {
        let health = Health::new(&["manifests", "sync"]);
        assert_eq!(health.live(Instant::now()), Ok(()));
        let reason = "not done yet".to_owned();
        assert_eq!(health.ready(), Err(vec![("manifests", reason.clone()), ("sync", reason)]));
    }

    #[test]
    fn a_daemon_without_checks_is_ready() {
        assert_eq!(Health::new(&[]).ready(), Ok(()));
    }

    #[test]
    fn every_check_must_pass_before_the_daemon_is_ready() {
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
    fn remarks_stay_with_their_check_until_taken_back_and_fail_nothing() {
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
    fn clones_share_what_they_know() {
        let health = Health::new(&["sync"]);
        health.clone().set_check("sync", Ok(()));
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn only_a_silence_of_thirty_seconds_is_death() {
        let health = Health::new(&[]);
        let before = Instant::now();
        health.beat();
        let after = Instant::now();
        assert_eq!(health.live(before + SILENCE - Duration::from_millis(1)), Ok(()));
        let dead = health.live(after + SILENCE).unwrap_err();
        assert_eq!(dead, "the loop has been silent for 30 s");
    }

    #[test]
    fn work_that_takes_long_is_not_death_but_work_without_end_is() {
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
    fn a_beat_brings_back_to_life() {
        let health = Health::new(&[]);
        health.beat();
        assert!(health.live(Instant::now() + SILENCE).is_err());
        health.beat();
        assert_eq!(health.live(Instant::now()), Ok(()));
    }
}
