//! Log lines about syncs: one for each sync that changed policies or rules, at most one a second.

use super::Standing;
use crate::apply::{Actual, KernelError, OtherController};
use crate::netfilter::BackendName;
use crate::observe::timestamp;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

fn log_standing(now: &Standing) {
    match now {
        Standing::Alone => tracing::info!("no other NetworkPolicy controller filters packets any more"),
        Standing::Waits(others) => tracing::error!("{}", waits(others)),
        Standing::Keeps(others) => {
            let (others, cures) = names_and_fixes(others);
            tracing::error!(
                others,
                cures,
                "another NetworkPolicy controller filters packets, too: a packet that either denies is denied. This agent's \
                     rules were in force before and are kept up to date"
            );
        }
        Standing::Removes(others) => {
            tracing::warn!(
                others = names_and_fixes(others).0,
                "removing the leftovers of another NetworkPolicy controller"
            );
        }
        Standing::WrittenAgain(others) => {
            let (others, cures) = names_and_fixes(others);
            tracing::error!(
                others,
                cures,
                "another NetworkPolicy controller has restored its removed rules, so it runs: this agent leaves them alone from \
                     now on, and a packet that either denies is denied. Stop it and restart this agent"
            );
        }
    }
}

/// Why nothing is written, and what to do.
fn waits(others: &BTreeSet<OtherController>) -> String {
    let (others, cures) = names_and_fixes(others);
    format!(
        "nothing is written while another NetworkPolicy controller filters packets: {others}. Stop it: {cures}. If it no longer \
         runs, these are leftovers: --takeover removes those of kube-router, k3s and kube-network-policies once policies are in force"
    )
}

fn names_and_fixes(others: &BTreeSet<OtherController>) -> (String, String) {
    let names: Vec<_> = others.iter().map(|other| other.name()).collect();
    let cures: Vec<_> = others.iter().map(|other| other.cure(false)).collect();
    (names.join(", "), cures.join(" and "))
}

/// The shortest time between two lines. Syncs that end meanwhile are logged together.
const EVERY: Duration = Duration::from_secs(1);

/// A sync that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its number.
    pub(super) id: u64,
    /// How many changes it brought into force.
    pub(super) changes: usize,
    /// How many steps it took in the kernel.
    pub(super) steps: usize,
    /// How long it took.
    pub(super) took: Duration,
    /// When it ended.
    pub(super) at: SystemTime,
}

/// Syncs that are logged in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnloggedSyncs {
    /// The last of them, with the sums of all, and the duration of the longest.
    last: Ended,
    syncs: u64,
}

/// When a line was last written, and the syncs that were not logged yet.
#[derive(Debug, Default)]
pub(super) struct SyncLog {
    /// Whether a sync has succeeded.
    enforces: bool,
    written: Option<Instant>,
    unlogged: Option<UnloggedSyncs>,
    /// The last logged state of other controllers.
    standing: Standing,
}

impl SyncLog {
    /// Logs a change in how other controllers are treated, once. Returns why nothing is written, if nothing is.
    pub(super) fn other_controllers(&mut self, now: &Standing) -> Option<String> {
        if std::mem::replace(&mut self.standing, now.clone()) != *now {
            log_standing(now);
        }
        match now {
            Standing::Waits(others) => Some(waits(others)),
            Standing::Alone | Standing::Keeps(_) | Standing::Removes(_) | Standing::WrittenAgain(_) => None,
        }
    }

    /// Logs a sync that changed only elements of sets, at debug level: there may be thousands of them a second.
    pub(super) fn debug(&self, ended: Ended) {
        let Ended { id, changes, steps, took, at: _ } = ended;
        tracing::debug!(sync_id = id, changes, steps, duration_ms = milliseconds(took), "in force");
    }

    /// Logs a sync that changed policies or rules.
    pub(super) fn info(&mut self, ended: Ended, now: Instant) {
        if !std::mem::replace(&mut self.enforces, true) {
            tracing::info!("enforcing: the kernel holds the rules of all policies");
        }
        self.add(ended);
        self.write(now);
    }

    fn add(&mut self, ended: Ended) {
        let unlogged = self.unlogged.take();
        self.unlogged = Some(match unlogged {
            None => UnloggedSyncs { last: ended, syncs: 1 },
            Some(UnloggedSyncs { last, syncs }) => UnloggedSyncs {
                last: Ended {
                    id: ended.id,
                    changes: last.changes + ended.changes,
                    steps: last.steps + ended.steps,
                    took: last.took.max(ended.took),
                    at: ended.at,
                },
                syncs: syncs + 1,
            },
        });
    }

    /// Logs the syncs that were not logged yet, if it is time.
    pub(super) fn write(&mut self, now: Instant) {
        if let Some(UnloggedSyncs { last: Ended { id, changes, steps, took, at }, syncs }) = self.due(now) {
            // The line may be written up to a second after what it reports.
            let (duration_ms, since) = (milliseconds(took), timestamp(at));
            tracing::info!(sync_id = id, syncs, changes, steps, duration_ms, since, "in force");
        }
    }

    fn due(&mut self, now: Instant) -> Option<UnloggedSyncs> {
        let waits = self.written.is_some_and(|written| now.saturating_duration_since(written) < EVERY);
        let unlogged = self.unlogged.take_if(|_| !waits)?;
        self.written = Some(now);
        Some(unlogged)
    }
}

/// In milliseconds, to the microsecond.
fn milliseconds(took: Duration) -> f64 {
    took.as_micros() as f64 / 1e3
}

/// Logs that the kernel did not hold what was written to it, and how many steps repaired it.
pub(super) fn drifted(steps: usize) {
    tracing::warn!(steps, "another program changed the agent's chains or sets; repairing them");
}

/// The kernel holds what was written to it, and decides otherwise than policies, or cannot be evaluated.
pub(super) fn unverified(why: &str) {
    tracing::error!(why, "the kernel's rules were not verified");
}

/// Logs a failed sync, which is retried after this wait.
pub(super) fn failed(error: &KernelError, wait: Option<Duration>) {
    let retry_in_ms = wait.map(|wait| wait.as_millis() as u64);
    tracing::error!(%error, retry_in_ms, "cannot write to the kernel; the rules in force stay in force");
}

/// Logs what other backends left, as far as it could be read.
pub(super) fn leftovers(actual: &Actual, own: BackendName) {
    for error in &actual.unread {
        tracing::info!(error, "cannot look for rules of this agent in the other variant of iptables");
    }
    if actual.left_by_others(own.variant()).next().is_some() {
        tracing::info!(
            "the other variant of iptables holds rules of an earlier run; they are removed once the new rules are in force"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn ended(id: u64, milliseconds: u64) -> Ended {
        Ended { id, changes: 2, steps: 1, took: Duration::from_millis(milliseconds), at: at(id) }
    }

    #[test]
    fn ten_thousand_syncs_a_second_are_a_line_a_second_that_leaves_none_out() {
        let (mut log, start) = (SyncLog::default(), Instant::now());
        let mut lines = Vec::new();
        for number in 0..20_000 {
            let now = start + Duration::from_micros(100) * number;
            log.add(ended(number.into(), 1));
            lines.extend(log.due(now));
        }
        lines.extend(log.due(start + Duration::from_secs(2)));
        assert_eq!(lines.len(), 3);
        assert_eq!(lines.iter().map(|line| line.syncs).sum::<u64>(), 20_000);
        assert_eq!(log.due(start + Duration::from_secs(9)), None, "there is nothing left to log");
    }

    #[test]
    fn lone_sync_is_logged_at_once_and_others_are_added_up() {
        let (mut log, start) = (SyncLog::default(), Instant::now());
        log.info(ended(1, 5), start);
        assert_eq!(log.unlogged, None);
        log.info(ended(2, 9), start);
        log.info(ended(3, 7), start);
        let last = Ended { id: 3, changes: 4, steps: 2, took: Duration::from_millis(9), at: at(3) };
        assert_eq!(log.due(start + EVERY / 2), None);
        assert_eq!(log.due(start + EVERY), Some(UnloggedSyncs { last, syncs: 2 }));
    }
}
