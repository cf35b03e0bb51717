//! From kube-router to Bridgewarden and back, by the steps of docs/migrating.md.

use crate::kube_router::left_in;
use crate::test::{ChangeTest, CommandOutput, DEADLINE};
use anyhow::{Result, ensure};
use bridgewarden_e2e::connection_probes::{ChangeCounts, ChangeProbes};
use std::time::{Duration, Instant};

/// How long connections are attempted before and after each change, and between stopping the one controller and
/// starting the other.
const PAUSE: Duration = Duration::from_secs(3);
/// Fewer attempts of each kind would show little.
const ENOUGH: u64 = 2_000;

/// Changes over and back.
pub(crate) fn show(test: &mut ChangeTest) -> Result<()> {
    test.start_kube_router()?;
    test.settle()?;
    there(test)?;
    test.settle()?;
    back(test)?;
    test.settle()?;
    // Nothing of ours has come back with what kube-router wrote meanwhile.
    let done = test.migrate(&["--back"])?;
    ensure!(done.code == Some(0), "after the way back: {done:?}\n{}", test.logs());
    Ok(())
}

fn there(test: &mut ChangeTest) -> Result<()> {
    let mut probes = test.probe()?;
    std::thread::sleep(PAUSE);
    next_is(
        &test.migrate(&[])?,
        "Stop kube-router and keep its rules",
        "kubectl -n kube-system delete daemonset kube-router",
    )?;

    probes.mark("SIGTERM to kube-router");
    test.delete_kube_router()?;
    probes.mark("kube-router has ended");
    std::thread::sleep(PAUSE);
    next_is(&test.migrate(&[])?, "Install Bridgewarden", "--set takeover=true")?;

    probes.mark("the agent is started");
    test.start_agent(&["--takeover"])?;
    test.wait_until_ready()?;
    probes.mark("the agent is ready");
    wait_until_done(test, &[], |said| said.code == Some(0))?;
    probes.mark("migrate: Bridgewarden's rules alone are in force");
    let left = left_in(test.node()?)?;
    ensure!(left.is_empty(), "left of kube-router:\n{}", left.join("\n"));
    let verified = test.verify()?;
    ensure!(verified.code == Some(0), "verify does not agree: {verified:?}\n{}", test.logs());
    probes.mark("verify agrees");

    test.end_agent()?;
    test.start_agent(&[])?;
    test.wait_until_ready()?;
    probes.mark("an agent without takeover is ready");
    std::thread::sleep(PAUSE);
    judge(test, "there", probes)
}

fn back(test: &mut ChangeTest) -> Result<()> {
    let mut probes = test.probe()?;
    std::thread::sleep(PAUSE);
    let said = test.migrate(&["--back"])?;
    next_is(&said, "Install and start the other controller", "")?;

    probes.mark("kube-router is started");
    test.start_kube_router()?;
    wait_until_done(test, &["--back"], |said| said.stdout.contains("[done] 1."))?;
    probes.mark("migrate --back: the other controller enforces");
    // The chart's agents end before its clean-up starts.
    test.end_agent()?;
    probes.mark("the agent has ended");
    let cleaned = test.command(&["cleanup"])?;
    ensure!(cleaned.code == Some(0), "cleanup: {cleaned:?}");
    probes.mark("cleanup has ended");
    wait_until_done(test, &["--back"], |said| said.code == Some(0))?;
    probes.mark("migrate --back: nothing of Bridgewarden is left");
    std::thread::sleep(PAUSE);
    judge(test, "back", probes)
}

/// Checks that this is the next step, with its command.
fn next_is(said: &CommandOutput, step: &str, command: &str) -> Result<()> {
    let next = said.stdout.split_once("[next]").map_or("", |(_, rest)| rest);
    let (head, rest) = next.split_once('\n').unwrap_or((next, ""));
    let own = rest.split("\n[").next().unwrap_or_default();
    let is_it = said.code == Some(1) && head.contains(step) && own.contains(command);
    ensure!(is_it, "the next step should be `{step}` with `{command}`: {said:?}");
    Ok(())
}

fn wait_until_done(
    test: &ChangeTest,
    flags: &[&str],
    is_done: impl Fn(&CommandOutput) -> bool,
) -> Result<()> {
    let begun = Instant::now();
    loop {
        let said = test.migrate(flags)?;
        if is_done(&said) {
            return Ok(());
        }
        let late = begun.elapsed() > DEADLINE;
        ensure!(!late, "migrate {flags:?} after {DEADLINE:?}: {said:?}\n{}", test.logs());
    }
}

fn judge(test: &ChangeTest, way: &str, probes: ChangeProbes) -> Result<()> {
    let (counts, report) = probes.end()?;
    let ChangeCounts { allowed, wrongly_denied, denied, leaked } = counts;
    let sum = format!(
        "{way}: {denied} connections that policies deny, {leaked} let in; {allowed} that they allow, {wrongly_denied} denied"
    );
    test.note(way, &format!("{sum}\n{report}"))?;
    ensure!(leaked == 0 && wrongly_denied == 0, "{sum}\n{report}\n{}", test.logs());
    ensure!(allowed > ENOUGH && denied > ENOUGH, "too few connections were attempted: {sum}");
    Ok(())
}
