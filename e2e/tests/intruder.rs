//! What a pod's own program can do past policies on its node's bridge, on a cluster: `e2e/intruder` runs it. Elsewhere it is
//! listed as ignored. What was counted is noted in `target/tmp/intruder/figures`.

use anyhow::{Result, ensure};
use bridgewarden::flow::Record;
use bridgewarden_e2e::intrusion::Attempt;
use bridgewarden_e2e::kind::IntrusionTrial;
use bridgewarden_e2e::trials::{Promise, TestCluster, note, play};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PROMISES: [Promise; 2] = [
    ("program_of_a_pod_gets_nothing_past_isolation_and_each_attempt_is_reported", nothing_passes),
    ("what_passes_where_pods_are_not_bound_to_their_ports_is_noticed", noticed_unbound),
];
/// A pod that nothing isolates, and one that is isolated for ingress; and the other way round for egress.
const ISOLATED: [(&str, &str); 2] = [("free-sender", "receiver"), ("sender", "free-receiver")];
/// Two pods that nothing isolates.
const FREE: (&str, &str) = ("free-sender", "free-receiver");
/// How old the counts of dropped frames may be: the agents look at the kernel every minute.
const AUDIT: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    play(&PROMISES, "real nodes are on kind only")
}

fn nothing_passes(cluster: &TestCluster) -> Result<()> {
    let trial = IntrusionTrial::open(&cluster.environment, &cluster.image)?;
    let before = trial.dropped()?;
    let mut differing = Vec::new();
    let (from, to) = FREE;
    let outcome = trial.attempt(from, to)?;
    let honest: BTreeSet<Attempt> = Attempt::ALL.into_iter().filter(|attempt| attempt.is_honest()).collect();
    if outcome.arrived != honest {
        differing.push(format!("{from} -> {to}, which nothing isolates: arrived {:?}", outcome.arrived));
    }
    for (from, to) in ISOLATED {
        let outcome = trial.attempt(from, to)?;
        if !outcome.arrived.is_empty() {
            differing.push(format!("{from} -> {to}: arrived {:?}", outcome.arrived));
        }
        if outcome.neighbour[0] != outcome.neighbour[1] {
            differing.push(format!("{from} -> {to}: its ARP table moved: {:?}", outcome.neighbour));
        }
        let flows = trial.flows()?;
        let unreported = Attempt::ALL
            .into_iter()
            .filter(|attempt| !flows.iter().any(|flow| reports(flow, from, *attempt)));
        let unreported: Vec<Attempt> = unreported.collect();
        if !unreported.is_empty() {
            let reported: Vec<String> = flows.iter().map(ToString::to_string).collect();
            differing.push(format!(
                "{from} -> {to}: no flow reports {unreported:?}; reported:\n{}",
                reported.join("\n")
            ));
        }
    }
    let (grown, took) = counted(&trial, &before)?;
    if !reaches(&grown, &expected()) {
        let wanted = expected();
        differing.push(format!("bridgewarden_dropped_frames_total grew by {grown:?}, and not by {wanted:?}"));
    }
    let arrived = if differing.is_empty() { "nothing past isolation arrived" } else { "not as promised" };
    note(&figures(), &format!("{arrived}; frames dropped, by reason: {grown:?}, counted after {took:.0?}"))?;
    trial.close()?;
    ensure!(differing.is_empty(), "{}", differing.join("\n"));
    Ok(())
}

fn noticed_unbound(cluster: &TestCluster) -> Result<()> {
    let trial = IntrusionTrial::open(&cluster.environment, &cluster.image)?;
    trial.bind(false)?;
    let outcomes: Result<Vec<_>> = ISOLATED.iter().map(|(from, to)| trial.attempt(from, to)).collect();
    trial.bind(true)?;
    for ((from, to), outcome) in ISOLATED.iter().zip(outcomes?) {
        let missing: Vec<Attempt> = Attempt::ALL
            .into_iter()
            .filter(|attempt| *attempt != Attempt::Own && !outcome.arrived.contains(attempt))
            .collect();
        note(
            &figures(),
            &format!(
                "not bound, {from} -> {to}: arrived {:?}; ARP table {:?}",
                outcome.arrived, outcome.neighbour
            ),
        )?;
        ensure!(missing.is_empty(), "{from} -> {to}: {missing:?} did not arrive: can this test notice it?");
        ensure!(outcome.neighbour[0] != outcome.neighbour[1], "{from} -> {to}: its ARP table did not move");
    }
    trial.close()
}

/// Whether a flow reports an attempt, and the pod that made it.
fn reports(flow: &Record, from: &str, attempt: Attempt) -> bool {
    let (reason, protocol, _) = attempt.report();
    let account = &flow.account;
    account.source.pod.as_deref() == Some(from) && account.reason == reason && account.protocol == protocol
}

/// How many frames must have been dropped, by reason.
fn expected() -> BTreeMap<String, f64> {
    let dishonest = Attempt::ALL.into_iter().filter(|attempt| !attempt.is_honest());
    let isolated = ISOLATED.iter().flat_map(|_| Attempt::ALL);
    let mut expected = BTreeMap::new();
    for reason in dishonest.chain(isolated).filter_map(|attempt| attempt.report().2) {
        *expected.entry(reason.to_owned()).or_default() += f64::from(IntrusionTrial::ROUNDS);
    }
    expected
}

/// Whether so many were counted, of each reason.
fn reaches(grown: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>) -> bool {
    expected.iter().all(|(reason, count)| grown.get(reason).is_some_and(|by| by >= count))
}

/// By how much the counts of dropped frames have grown once all were counted, and after how long.
fn counted(
    trial: &IntrusionTrial,
    before: &BTreeMap<String, f64>,
) -> Result<(BTreeMap<String, f64>, Duration)> {
    let start = Instant::now();
    loop {
        let now = trial.dropped()?;
        let by =
            |(reason, count): (&String, &f64)| (reason.clone(), count - before.get(reason).unwrap_or(&0.0));
        let grown: BTreeMap<String, f64> = now.iter().map(by).collect();
        if reaches(&grown, &expected()) || start.elapsed() > AUDIT {
            return Ok((grown, start.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn figures() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("intruder")
}
