//! Checks for as long as the agent runs whether the node meets the requirements of enforcement.

use crate::controller::Takeover;
use crate::kernel::preflight::{self, Check, Missing, OTHER_CONTROLLER, OTHER_VARIANT, Wanted};
use crate::observe::{Health, Metrics};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often sysctls are checked, which other programs may change.
const SYSCTL_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often everything is checked, which starts programs.
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(600);
/// The same while a requirement is not met.
const FULL_CHECK_INTERVAL_WHILE_FAILING: Duration = Duration::from_secs(10);

/// Checks everything at the start and while a requirement is not met; otherwise mostly what other programs may change.
pub(super) async fn keep_checking(wanted: Wanted, takeover: Takeover, metrics: Metrics, health: Health) {
    let mut results: BTreeMap<&'static str, Result<String, Missing>> = BTreeMap::new();
    let mut next_full = Instant::now();
    let mut logged = String::new();
    loop {
        let full = Instant::now() >= next_full;
        // Until the first sync has ended, rules of an earlier agent may still be in force in the other variant.
        let synced = health.checks().contains(&("sync", Ok(())));
        let asked = wanted.clone();
        let look = move || if full { preflight::check(&asked) } else { preflight::check_sysctls(&asked) };
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
        if full {
            let all_is_there = missing.is_empty() && early.is_empty();
            next_full = Instant::now()
                + if all_is_there { FULL_CHECK_INTERVAL } else { FULL_CHECK_INTERVAL_WHILE_FAILING };
        }
        if missing != logged {
            match missing.is_empty() {
                true => tracing::info!("the node meets all requirements for enforcement"),
                false => tracing::error!(missing, "the node does not meet the requirements for enforcement"),
            }
        }
        health.set_check("preflight", if missing.is_empty() { Ok(()) } else { Err(missing.clone()) });
        logged = missing;
        tokio::time::sleep(SYSCTL_CHECK_INTERVAL).await;
    }
}

fn missing(results: &BTreeMap<&'static str, Result<String, Missing>>) -> String {
    let missing = results.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
    let problems =
        missing.map(|(name, missing)| format!("{name}: {} (cure: {})", missing.problem, missing.cure));
    problems.collect::<Vec<_>>().join("; ")
}
