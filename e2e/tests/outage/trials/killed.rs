//! The API server is killed, is away for a while, and comes back.

use super::PROMISED;
use crate::continuous_check::ContinuousCheck;
use crate::test::OutageTest;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::env;
use std::time::Duration;
use support::control_plane::PORT;

pub(crate) fn show(test: &mut OutageTest) -> Result<()> {
    test.watch(PORT)?;
    let mut after = test.cluster.clone();
    // One pod loses an allowed connection, and another gains one. Whatever the order in which the agents read these changes,
    // the verdicts of all other pairs stay.
    after.relabel("shop/far", "stranger");
    after.relabel("bank/audit", "clerk");
    after.add_policy(
        "shop/cache",
        json!({"podSelector": {"matchLabels": {"app": "cache"}}, "policyTypes": ["Ingress"]}),
    );
    let (steady, changed) = after.compare(&test.cluster);
    let guard = ContinuousCheck::over(&test.testbed, steady)?;
    let held = test.held()?;
    let writes = writes(test)?;

    test.control_plane.kill_server();
    let away = away()?;
    test.wait_through_outage(away)?;
    ensure!(held == test.held()?, "rules or sets changed while the API server was away");
    let written = self::writes(test)? - writes;
    ensure!(written == 0.0, "the kernels were written to {written} times while the API server was away");

    test.control_plane.start_server()?;
    let back = test.control_plane.wait_until_ready()?;
    test.apply(&after)?;
    let written_after = back.elapsed();
    let enforced = test.settle(&changed, PROMISED)?.duration_since(back);
    let asked = guard.end()?;
    test.settle(&test.cluster.questions(), PROMISED)?;
    let lists: Vec<_> = test.agents.iter().map(|agent| agent.lists()).collect::<Result<_>>()?;
    for lists in &lists {
        ensure!(lists.iter().all(|count| *count <= 2.0), "more than one new list of a resource: {lists:?}");
    }
    test.note(&format!(
        "killed for {} s: back, {} ms later changes were written, and {} ms later enforced; {asked} answers were right \
         meanwhile; lists of namespaces, policies, pods: {lists:?}",
        away.as_secs(),
        written_after.as_millis(),
        enforced.as_millis(),
    ))?;
    ensure!(enforced <= PROMISED, "enforced only {enforced:?} after the API server was ready");
    test.is_as_the_server_says()
}

/// How long the API server is down.
fn away() -> Result<Duration> {
    let seconds = env::var("BRIDGEWARDEN_E2E_OUTAGE_SECONDS").unwrap_or_else(|_| "20".to_owned());
    let seconds = seconds.parse().with_context(|| format!("BRIDGEWARDEN_E2E_OUTAGE_SECONDS={seconds}"))?;
    Ok(Duration::from_secs(seconds))
}

fn writes(test: &OutageTest) -> Result<f64> {
    test.agents.iter().map(|agent| agent.writes()).sum()
}
