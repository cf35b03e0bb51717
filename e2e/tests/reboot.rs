//! What passes while a node reboots, on a cluster: `e2e/reboot` runs it. Elsewhere it is listed as ignored.
//!
//! How often the node reboots, BRIDGEWARDEN_E2E_REBOOTS says (1), and how many of its pods are denied everything,
//! BRIDGEWARDEN_E2E_PODS (20). With BRIDGEWARDEN_E2E_UNGUARDED=1 the agents do without CNI results, and packets must be seen
//! to pass. With BRIDGEWARDEN_E2E_NETWORK_AT_ONCE=1 the node's pods need not wait for flannel. What was counted is noted in `target/tmp/reboot/figures`.

use anyhow::{Context, Result, ensure};
use bridgewarden_e2e::first_instant::Micros;
use bridgewarden_e2e::kind::{Network, PodTraffic, Reboot, RebootTrial};
use bridgewarden_e2e::trials::{Promise, TestCluster, note, number, play};
use std::path::Path;
use std::process::ExitCode;

/// How many pods are allowed to talk with the observer.
const ALLOWED: usize = 3;
/// How long an allowed pod may wait once the agent enforces and the pod runs.
const PROMPT: Micros = 1_000_000;

const GUARDED: Promise = ("node_that_reboots_opens_no_pod_and_closes_none_that_is_allowed", nothing_passes);
const UNGUARDED: Promise = ("what_passes_after_a_reboot_without_the_guard_is_noticed", noticed_unguarded);

fn main() -> ExitCode {
    let unguarded = std::env::var_os("BRIDGEWARDEN_E2E_UNGUARDED").is_some();
    play(&[if unguarded { UNGUARDED } else { GUARDED }], "a node reboots on kind only")
}

fn open(cluster: &TestCluster) -> Result<RebootTrial> {
    RebootTrial::open(&cluster.environment, &cluster.image, number("BRIDGEWARDEN_E2E_PODS", 20)?, ALLOWED)
}

fn network() -> Network {
    match std::env::var_os("BRIDGEWARDEN_E2E_NETWORK_AT_ONCE") {
        Some(_) => Network::AtOnce,
        None => Network::AfterFlannel,
    }
}

fn nothing_passes(cluster: &TestCluster) -> Result<()> {
    let mut trial = open(cluster)?;
    let mut differing = Vec::new();
    for count in 1..=number("BRIDGEWARDEN_E2E_REBOOTS", 1)? {
        let reboot = trial.reboot(network())?;
        record(&format!("reboot {count}"), &reboot)?;
        differing.extend(opened(&reboot).map(|pod| format!("reboot {count}: packets passed: {pod:#?}")));
        for pod in reboot.pods.iter().filter(|pod| pod.allowed) {
            let waited = waited(&reboot, pod)?;
            // Without flannel no pod reaches the other node, whatever policies say.
            if network() == Network::AfterFlannel && waited > PROMPT {
                differing.push(format!("reboot {count}: {} waited {}: {pod:#?}", pod.name, ms(waited)));
            }
        }
    }
    trial.close()?;
    ensure!(differing.is_empty(), "{}", differing.join("\n"));
    Ok(())
}

fn noticed_unguarded(cluster: &TestCluster) -> Result<()> {
    let mut trial = open(cluster)?;
    trial.guard(false)?;
    let reboot = trial.reboot(network());
    trial.guard(true)?;
    let reboot = reboot?;
    record("without the guard", &reboot)?;
    trial.close()?;
    ensure!(opened(&reboot).next().is_some(), "nothing passed: can this test notice anything?");
    Ok(())
}

/// Pods that are denied everything, and had a packet through while the agent was there.
fn opened(reboot: &Reboot) -> impl Iterator<Item = &PodTraffic> {
    let since = since(reboot);
    denied(reboot).filter(move |pod| pod.datagrams + left(pod, since) > 0 || pod.received() > 0)
}

/// From when on packets of pods count. Without flannel, nothing keeps pods from starting before the agent's process does.
fn since(reboot: &Reboot) -> Micros {
    match network() {
        Network::AtOnce => reboot.denied.unwrap_or_default(),
        Network::AfterFlannel => 0,
    }
}

/// How many datagrams that left the node a pod sent after this time.
fn left(pod: &PodTraffic, since: Micros) -> u32 {
    pod.left.iter().map(|sent| u32::from(*sent > since)).sum()
}

fn denied(reboot: &Reboot) -> impl Iterator<Item = &PodTraffic> {
    reboot.pods.iter().filter(|pod| !pod.allowed)
}

/// How long an allowed pod waited after its own start and the agent's first sync, whichever was later.
fn waited(reboot: &Reboot, pod: &PodTraffic) -> Result<Micros> {
    let began =
        pod.runs.iter().map(|run| run.began).min().with_context(|| format!("{} never ran", pod.name))?;
    let worked =
        pod.worked().with_context(|| format!("{} never reached the observer and was reached", pod.name))?;
    Ok(worked.saturating_sub(began.max(reboot.enforced)))
}

fn record(what: &str, reboot: &Reboot) -> Result<()> {
    let began = |pod: &PodTraffic| pod.runs.first().map_or(0, |run| run.began);
    let since_up = |at: Micros| ms(at.saturating_sub(reboot.up));
    let (first, last) = (reboot.pods.iter().map(began).min(), reboot.pods.iter().map(began).max());
    let before = denied(reboot).filter(|pod| began(pod) < reboot.enforced).count();
    let sent: u32 = denied(reboot).flat_map(|pod| &pod.runs).map(|run| run.sent).sum();
    let probes: usize = denied(reboot).map(|pod| pod.probes).sum();
    let early: usize = denied(reboot).filter(|pod| pod.probes_before > 0).count();
    let out: u32 = denied(reboot).map(|pod| pod.datagrams + left(pod, since(reboot))).sum();
    let earlier: usize =
        denied(reboot).flat_map(|pod| &pod.left).filter(|sent| **sent <= since(reboot)).count();
    let into: u64 = denied(reboot).map(PodTraffic::received).sum();
    let waits: Result<Vec<String>> =
        reboot.pods.iter().filter(|pod| pod.allowed).map(|pod| waited(reboot, pod).map(ms)).collect();
    note(
        &Path::new(env!("CARGO_TARGET_TMPDIR")).join("reboot"),
        &format!(
            "{what}: {} denied pods, {} of them with packets beyond policy: {out} sent, {into} received; {earlier} sent before the agent ran\n  \
             tried: {sent} datagrams by them, {probes} to them; {early} had some before their first instruction\n  \
             after the node was up: first pod began {}, last {}, agent denied all {}, enforced {}; {before} denied pods began before that\n  \
             allowed pods worked after their start and the agent's first sync: {}",
            denied(reboot).count(),
            opened(reboot).count(),
            since_up(first.unwrap_or(0)),
            since_up(last.unwrap_or(0)),
            reboot.denied.map_or("never".to_owned(), since_up),
            since_up(reboot.enforced),
            waits?.join(", ")
        ),
    )
}

fn ms(micros: Micros) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}
