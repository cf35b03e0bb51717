//! An upgrade of the chart and back, under connections that are attempted all the time: `e2e/upgrade` runs it. Elsewhere it is listed
//! as ignored. What was counted is noted in `target/tmp/upgrade/figures`.

use anyhow::{Context, Result, ensure};
use bridgewarden_e2e::connection_probes::{ChangeCounts, ChangeProbes};
use bridgewarden_e2e::kind::{ChartRelease, UpgradeTrial};
use bridgewarden_e2e::trials::{Promise, TestCluster, note, play};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const PROMISES: [Promise; 1] =
    [("upgrade_of_the_chart_and_its_rollback_let_in_nothing_and_deny_nothing_wrongly", there_and_back)];
/// How long connections are attempted before and after each change.
const PAUSE: Duration = Duration::from_secs(5);
/// Fewer attempts of each kind would show little.
const ENOUGH: u64 = 500;

fn main() -> ExitCode {
    play(&PROMISES, "charts are installed on kind only")
}

fn there_and_back(cluster: &TestCluster) -> Result<()> {
    let old = release("OLD")?;
    let new = release("NEW")?;
    let mut trial = UpgradeTrial::open(&cluster.environment, &old, &new)?;
    let changed = change(&mut trial, &old, &new);
    if changed.is_err() {
        trial.dump(&directory().join("failure"))?;
    }
    changed?;
    trial.close()
}

fn change(trial: &mut UpgradeTrial, old: &ChartRelease, new: &ChartRelease) -> Result<()> {
    during(trial, "helm upgrade", |trial| trial.upgrade(new, &[]))?;
    trial.start_pod().context("a pod that started after the upgrade")?;
    // 0.1.0 does not know the table that binds pods to their ports, and would leave it as it is.
    during(trial, "helm upgrade --set bindAddresses=off", |trial| {
        trial.upgrade(new, &["--set", "bindAddresses=off"])
    })?;
    during(trial, "helm rollback", |trial| trial.roll_back(old))?;
    trial.start_pod().context("a pod that started after the rollback")
}

/// Makes a change while connections are attempted, and counts what policies do not explain.
fn during(trial: &UpgradeTrial, what: &str, change: impl Fn(&UpgradeTrial) -> Result<()>) -> Result<()> {
    let mut probes: ChangeProbes = trial.probe()?;
    std::thread::sleep(PAUSE);
    probes.mark(what);
    change(trial)?;
    probes.mark("all agents are ready");
    std::thread::sleep(PAUSE);
    let (counts, report) = probes.end()?;
    let ChangeCounts { allowed, wrongly_denied, denied, leaked } = counts;
    let sum = format!(
        "{what}: {denied} connections that policies deny, {leaked} let in; {allowed} that they allow, {wrongly_denied} denied"
    );
    note(&directory(), &sum)?;
    fs::write(directory().join(what.replace(' ', "-")), &report)?;
    ensure!(leaked == 0 && wrongly_denied == 0, "{sum}\n{report}");
    ensure!(allowed > ENOUGH && denied > ENOUGH, "too few connections were attempted: {sum}");
    Ok(())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("upgrade")
}

fn release(which: &str) -> Result<ChartRelease> {
    let setting = |what: &str| {
        let name = format!("BRIDGEWARDEN_E2E_{which}_{what}");
        env::var(&name).with_context(|| format!("{name} is not set: e2e/upgrade sets it"))
    };
    Ok(ChartRelease { chart: setting("CHART")?.into(), image: setting("IMAGE")? })
}
