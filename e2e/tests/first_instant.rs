//! What passes in a pod's first instants, on a cluster: `e2e/first-instant` runs it. Elsewhere it is listed as ignored.
//!
//! How many pods are started for each promise, BRIDGEWARDEN_E2E_STARTS says (20), and how many of them at once,
//! BRIDGEWARDEN_E2E_WAVE (20). What was counted is noted in
//! `target/tmp/first-instant/figures`.

use anyhow::{Context, Result, ensure};
use bridgewarden_e2e::first_instant::Micros;
use bridgewarden_e2e::kind::{PolicyUnderTest, StartedPod, StartupTest};
use bridgewarden_e2e::trials::{self, Promise, TestCluster, number};
use std::path::Path;
use std::process::ExitCode;

const PROMISES: [Promise; 3] = [
    ("denied_pod_sends_and_receives_nothing_from_its_first_instruction_on", |cluster| {
        keep(cluster, nothing_passes)
    }),
    ("allowed_pod_and_its_peers_wait_for_nothing_but_its_address", |cluster| keep(cluster, nobody_waits)),
    ("what_passes_without_the_guard_is_noticed", |cluster| keep(cluster, noticed_without_the_guard)),
];

fn main() -> ExitCode {
    trials::play(&PROMISES, "kubelets start pods on kind only")
}

fn keep(cluster: &TestCluster, promise: fn(&mut StartupTest, Starts) -> Result<()>) -> Result<()> {
    let starts = Starts {
        number: number("BRIDGEWARDEN_E2E_STARTS", 20)?,
        wave: number("BRIDGEWARDEN_E2E_WAVE", 20)?.max(1),
    };
    let mut test = StartupTest::open(&cluster.environment, &cluster.image)?;
    promise(&mut test, starts)?;
    test.close()
}

/// How many pods to start, and how many of them at once.
#[derive(Clone, Copy)]
struct Starts {
    number: usize,
    wave: usize,
}

/// What passed of one starting pod, in packets.
struct LeakedPackets {
    out: u32,
    into: u32,
    /// How long after its first instruction the last one arrived at an observer.
    last: Micros,
}

/// Counts what passed; each starting pod must have written, and been probed while it listened.
fn passed(pods: &[StartedPod]) -> Result<Vec<LeakedPackets>> {
    pods.iter()
        .map(|pod| {
            let report = &pod.report;
            ensure!(!report.sent.is_empty(), "{} sent nothing", pod.name);
            let probes = pod.observed.values().flat_map(|observed| &observed.probes);
            let tried = probes.filter(|probe| (report.began..report.ended).contains(&probe.sent)).count();
            ensure!(tried > 100, "{} was probed {tried} times only", pod.name);
            let last = pod.observed.values().map(|observed| observed.last).max().unwrap_or(0);
            Ok(LeakedPackets {
                out: pod.observed.values().map(|observed| observed.datagrams).sum(),
                into: report.probes,
                last: last.saturating_sub(report.began),
            })
        })
        .collect()
}

/// Notes what was counted.
fn note(figures: &str) -> Result<()> {
    trials::note(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("first-instant"), figures)
}

fn record(what: &str, passed: &[LeakedPackets]) -> Result<usize> {
    let through = passed.iter().filter(|one| one.out + one.into > 0);
    let (out, into) = passed.iter().fold((0, 0), |(out, into), one| (out + one.out, into + one.into));
    let mut last: Vec<Micros> = through.map(|one| one.last).collect();
    note(&format!(
        "{what}: {} starts, {} of them with packets beyond policy: {out} sent, {into} received; the last sent one {}",
        passed.len(),
        last.len(),
        spread(&mut last)
    ))?;
    Ok(last.len())
}

fn nothing_passes(test: &mut StartupTest, starts: Starts) -> Result<()> {
    let passed = passed(&test.run(starts.number, starts.wave, PolicyUnderTest::Denied)?)?;
    ensure!(record("with the guard", &passed)? == 0, "packets passed beyond policy");
    Ok(())
}

fn noticed_without_the_guard(test: &mut StartupTest, starts: Starts) -> Result<()> {
    test.guard(false)?;
    let pods = test.run(starts.number, starts.wave, PolicyUnderTest::Denied);
    test.guard(true)?;
    ensure!(
        record("without the guard", &passed(&pods?)?)? > 0,
        "nothing passed: can this test notice anything?"
    );
    Ok(())
}

fn nobody_waits(test: &mut StartupTest, starts: Starts) -> Result<()> {
    let pods = test.run(starts.number, starts.wave, PolicyUnderTest::Allowed)?;
    let (mut own, mut beside, mut afar) = (Vec::new(), Vec::new(), Vec::new());
    for pod in &pods {
        for (observer, observed) in &pod.observed {
            let (first, _) =
                observed.first.as_ref().with_context(|| format!("{} never reached {observer}", pod.name))?;
            ensure!(
                pod.report.answered.len() == pod.observed.len(),
                "{} was answered by {} of {} observers",
                pod.name,
                pod.report.answered.len(),
                pod.observed.len()
            );
            // All datagrams before the first that arrived were refused.
            let refused = pod.report.sent.get(..first.number as usize);
            let refused = refused.with_context(|| format!("{}'s report lacks datagrams", pod.name))?;
            let refused_for = |since: Micros| match refused.last() {
                Some(last) => (last.saturating_sub(since), first.sent.saturating_sub(since)),
                None => (0, 0),
            };
            let same_node = usize::from(observer.ends_with("far")) == pod.node;
            match (observer.starts_with("strict"), same_node) {
                (false, _) => own.push(refused_for(pod.report.began)),
                (true, true) => beside.push(refused_for(pod.report.began)),
                (true, false) => {
                    let reported =
                        pod.reported.with_context(|| format!("the API never reported of {}", pod.name))?;
                    afar.push(refused_for(reported));
                }
            }
        }
    }
    note(&format!(
        "allowed pods: {} starts; the last datagram that was refused, and the first after it, were sent\n  \
         to open observers, after its first instruction: {}\n  \
         to isolated ones of its node, after its first instruction: {}\n  \
         to isolated ones of the other node, after the API reported its address: {}",
        pods.len(),
        spreads(&own),
        spreads(&beside),
        spreads(&afar)
    ))
}

/// The shortest and the longest possible duration of denials.
fn spreads(refused: &[(Micros, Micros)]) -> String {
    let (mut least, mut most): (Vec<Micros>, Vec<Micros>) = refused.iter().copied().unzip();
    let any = most.iter().filter(|most| **most > 0).count();
    format!("{any} of {} refused at all; {}; then {}", refused.len(), spread(&mut least), spread(&mut most))
}

fn spread(times: &mut [Micros]) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    match (at(50), at(99), times.last()) {
        (Some(half), Some(most), Some(last)) => {
            let ms = |micros: &Micros| format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
            format!("p50 {}, p99 {}, at most {}", ms(half), ms(most), ms(last))
        }
        _ => "never".to_owned(),
    }
}
