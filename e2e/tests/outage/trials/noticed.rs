//! The checks that the other trials rely on detect failures.

use super::PROMISED;
use crate::continuous_check::ContinuousCheck;
use crate::test::OutageTest;
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use support::control_plane::PORT;
use support::program::output;

pub(crate) fn show(test: &mut OutageTest) -> Result<()> {
    test.watch(PORT)?;
    let right = test.cluster.questions();
    let held = test.agents[0].held()?;
    ensure!(held.elements() > 5_000, "the sets hold only {} elements", held.elements());
    let lists = test.agents[0].lists()?;
    ensure!(lists == [1.0; 3], "a new agent counts {lists:?} lists");

    // Enforcement is removed during the check.
    let guard = ContinuousCheck::over(&test.testbed, right.clone())?;
    test.agents.clear();
    let program = test.program().display().to_string();
    let node = test.testbed.node_namespace("node-a").context("there is no node-a")?;
    output(node, &[&program, "cleanup"])?;
    let open = test.settle(&right, Duration::from_millis(500)).map(drop).map_err(|error| error.to_string());
    ensure!(
        open.is_err_and(|error| error.contains("should be refused and is open")),
        "settle did not detect the open connections"
    );
    let seen = guard.end().map_err(|error| error.to_string());
    ensure!(
        seen.is_err_and(|error| error.contains("should be refused and is open")),
        "the continuous check detected nothing"
    );

    // A new agent restores the kernel's state.
    test.watch(PORT)?;
    ensure!(test.agents[0].writes()? > 0.0, "an agent that had everything to do wrote nothing");
    ensure!(test.agents[0].held()? == held, "rules and sets are not what they were");
    let mut other = test.cluster.clone();
    other.relabel("shop/far", "somebody");
    other.relabel("shop/web", "client");
    test.apply(&other)?;
    test.settle(&test.cluster.questions(), PROMISED)?;
    ensure!(test.agents[0].held()? != held, "rules and sets that changed look alike");

    // A foreign rule denies what is allowed.
    let guard = ContinuousCheck::over(&test.testbed, test.cluster.questions())?;
    let node = test.testbed.node_namespace("node-b").context("there is no node-b")?;
    let refuse = ["FORWARD", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"];
    output(node, &[["iptables-legacy", "-I"].as_slice(), &refuse].concat())?;
    while !guard.has_ended() {
        std::thread::sleep(Duration::from_millis(10));
    }
    output(node, &[["iptables-legacy", "-D"].as_slice(), &refuse].concat())?;
    let seen = guard.end().map_err(|error| error.to_string());
    ensure!(
        seen.is_err_and(|error| error.contains("should be open and is refused")),
        "the continuous check did not detect the denial"
    );
    Ok(())
}
