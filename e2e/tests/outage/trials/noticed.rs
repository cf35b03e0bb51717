//! What the other trials rely on to notice, notices.

use super::PROMISED;
use crate::guard::Guard;
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use support::control_plane::PORT;
use support::program::output;

pub(crate) fn show(stage: &mut Stage) -> Result<()> {
    stage.watch(PORT)?;
    let right = stage.town.questions();
    let held = stage.daemons[0].held()?;
    ensure!(held.elements() > 5_000, "the sets hold only {} elements", held.elements());
    let lists = stage.daemons[0].lists()?;
    ensure!(lists == [1.0; 3], "a new daemon counts {lists:?} lists");

    // Enforcement is taken away under the guard's eyes.
    let guard = Guard::over(&stage.testbed, right.clone())?;
    stage.daemons.clear();
    let program = stage.program().display().to_string();
    let node = stage.testbed.node_namespace("node-a").context("there is no node-a")?;
    output(node, &[&program, "cleanup"])?;
    let open = stage.settle(&right, Duration::from_millis(500)).map(drop).map_err(|error| error.to_string());
    ensure!(
        open.is_err_and(|told| told.contains("should be refused and is open")),
        "what opened was not seen"
    );
    let seen = guard.end().map_err(|error| error.to_string());
    ensure!(seen.is_err_and(|told| told.contains("should be refused and is open")), "the guard saw nothing");

    // It comes back: a new daemon has something to do, and the kernel holds what it held.
    stage.watch(PORT)?;
    ensure!(stage.daemons[0].writes()? > 0.0, "a daemon that had everything to do wrote nothing");
    ensure!(stage.daemons[0].held()? == held, "rules and sets are not what they were");
    let mut other = stage.town.clone();
    other.relabel("shop/far", "somebody");
    other.relabel("shop/web", "client");
    stage.tell(&other)?;
    stage.settle(&stage.town.questions(), PROMISED)?;
    ensure!(stage.daemons[0].held()? != held, "rules and sets that changed look alike");

    // Somebody refuses what is allowed.
    let guard = Guard::over(&stage.testbed, stage.town.questions())?;
    let node = stage.testbed.node_namespace("node-b").context("there is no node-b")?;
    let refuse = ["FORWARD", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"];
    output(node, &[["iptables-legacy", "-I"].as_slice(), &refuse].concat())?;
    while !guard.has_ended() {
        std::thread::sleep(Duration::from_millis(10));
    }
    output(node, &[["iptables-legacy", "-D"].as_slice(), &refuse].concat())?;
    let seen = guard.end().map_err(|error| error.to_string());
    ensure!(
        seen.is_err_and(|told| told.contains("should be open and is refused")),
        "the guard saw no refusal"
    );
    Ok(())
}
