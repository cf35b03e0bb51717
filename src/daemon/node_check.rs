//! Whether the node has what enforcement needs, looked at for as long as the daemon runs.

use crate::apply::host::preflight::{self, Check, Missing, Wanted};
use crate::controller::Takeover;
use crate::observe::{Health, Metrics};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often what others may undo is looked at.
const SYSCTLS_EVERY: Duration = Duration::from_secs(1);
/// How often everything is looked at, which starts programs.
const WHOLE_EVERY: Duration = Duration::from_secs(600);
/// The same while something is missing.
const WHOLE_AGAIN: Duration = Duration::from_secs(10);

/// The check that finds rules of ours in the other variant of iptables.
const OTHER_VARIANT: &str = "other-variant";

/// The check that finds rules of another controller.
const OTHER_CONTROLLER: &str = "other-controller";

/// Checks the node at the start and while anything is missing; once all is there, mostly what others may undo.
pub(super) async fn keep_checking(wanted: Wanted, takeover: Takeover, metrics: Metrics, health: Health) {
    let mut results: BTreeMap<&'static str, Result<String, Missing>> = BTreeMap::new();
    let mut next_whole = Instant::now();
    let mut told = String::new();
    loop {
        let whole = Instant::now() >= next_whole;
        // Until the first sync has ended, rules of an earlier daemon may still be in force where it left them.
        let synced = health.checks().contains(&("sync", Ok(())));
        let asked = wanted.clone();
        let look = move || if whole { preflight::check(&asked) } else { preflight::check_sysctls(&asked) };
        let checks = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let is_taken_over = |check: &Check| {
            check.name == OTHER_VARIANT || (check.name == OTHER_CONTROLLER && takeover == Takeover::On)
        };
        let early = |check: &Check| !synced && is_taken_over(check) && check.result.is_err();
        let (early, checks): (Vec<_>, Vec<_>) = checks.into_iter().partition(early);
        results.extend(checks.into_iter().map(|check| (check.name, check.result)));
        let missing = missing(&results);
        for (name, result) in &results {
            metrics.preflight(name, &result.as_ref().map(|_| ()));
        }
        if whole {
            let all_is_there = missing.is_empty() && early.is_empty();
            next_whole = Instant::now() + if all_is_there { WHOLE_EVERY } else { WHOLE_AGAIN };
        }
        if missing != told {
            match missing.is_empty() {
                true => tracing::info!("the node meets all requirements for enforcement"),
                false => tracing::error!(missing, "the node does not meet the requirements for enforcement"),
            }
        }
        health.set_check("preflight", if missing.is_empty() { Ok(()) } else { Err(missing.clone()) });
        told = missing;
        tokio::time::sleep(SYSCTLS_EVERY).await;
    }
}

fn missing(results: &BTreeMap<&'static str, Result<String, Missing>>) -> String {
    let missing = results.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
    let told = missing.map(|(name, missing)| format!("{name}: {} (cure: {})", missing.problem, missing.cure));
    told.collect::<Vec<_>>().join("; ")
}
