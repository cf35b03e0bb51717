//! A pod of another node gets an address, and later other labels.

use super::{PACE, milliseconds};
use crate::controller::{ControllerKind, ControllerProcess};
use crate::figure::{Figures, Unit};
use crate::metrics::AgentMetrics;
use crate::setup::{BenchSetup, GUARDED};
use crate::udp_probe_stream::UdpProbeStream;
use anyhow::{Result, ensure};
use bridgewarden_bench::cluster::GeneratedPod;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A label with which a policy allows the pod, and one with which it does not.
pub(super) const CLIENT: (&str, &str) = ("bench", "client");
pub(super) const OTHER: (&str, &str) = ("bench", "other");
/// The figures for a pod that gets an address, and for one that gets other labels.
pub(crate) const UP: &str = "remote pod up → first packet passes";
pub(crate) const RELABELLED: &str = "remote pod relabelled → last packet passed";
/// The figure for the cost of one event.
const CPU: &str = "CPU for a remote pod's event";
/// The pause until earlier writes have been processed.
const PAUSE: Duration = Duration::from_millis(30);
/// How many pods change at a time, and how often, while only the cost is measured.
const AT_A_TIME: usize = 4;
const EVERY: Duration = Duration::from_millis(20);

/// Times events of these pods one by one: from the API server's response until datagrams of the pod pass, or no longer
/// pass.
pub(crate) fn time(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    pods: &[GeneratedPod],
    figures: &mut Figures,
) -> Result<()> {
    let (mut up, mut down, mut inside) = (Vec::new(), Vec::new(), Vec::new());
    let subject = controller.subject.clone();
    let (objects, into) = (setup.objects()?, setup.pod(&subject, GUARDED)?);
    controller.wait_until_idle()?;
    let worked = controller.cpu()?;
    for pod in pods {
        let pod = pod.clone().labelled(CLIENT.0, CLIENT.1);
        let object = pod.object();
        objects.create(&[pod.pending()])?;
        let stream =
            UdpProbeStream::start(setup.elsewhere(), pod.address, into, subject.address(GUARDED.host), PACE)?;
        std::thread::sleep(PAUSE);
        ensure!(!stream.has_passed(), "{} passed before it came up", pod.name);
        let before = counted(controller)?;
        objects.patch_status(&[(object.clone(), json!({"status": pod.status()}))])?;
        let answered = Instant::now();
        up.push(milliseconds(answered, stream.first(subject.patience())?));
        inside.extend(took(controller, before)?);
        let before = counted(controller)?;
        objects.patch(&[(object.clone(), labels(OTHER))])?;
        let answered = Instant::now();
        down.push(milliseconds(answered, stream.last(subject.patience())?));
        inside.extend(took(controller, before)?);
        drop(stream);
        objects.delete(&[object])?;
    }
    let name = subject.name.clone();
    figures.add_samples(&name, UP, Unit::Milliseconds, up);
    figures.add_samples(&name, RELABELLED, Unit::Milliseconds, down);
    match subject.kind {
        ControllerKind::Own => {
            let what = "remote pod's event: bytes read → last netlink ACK";
            figures.add_samples(&name, what, Unit::Milliseconds, inside);
        }
        // Three events for each pod: it gets an address, gets other labels, and is deleted.
        ControllerKind::Peer => {
            controller.wait_until_idle()?;
            let worked = (controller.cpu()? - worked).as_secs_f64() * 1e3 / (3 * pods.len()) as f64;
            figures.add(&name, CPU, Unit::Milliseconds, worked);
        }
    }
    Ok(())
}

/// The agent's metrics so far.
fn counted(controller: &ControllerProcess) -> Result<Option<AgentMetrics>> {
    match controller.subject.kind {
        ControllerKind::Own => controller.metrics().map(Some),
        ControllerKind::Peer => Ok(None),
    }
}

/// The agent's own measurement of how many milliseconds an event took, from reading its bytes to the end of writing it
/// to the kernel.
fn took(controller: &ControllerProcess, before: Option<AgentMetrics>) -> Result<Option<f64>> {
    let Some(before) = before else { return Ok(None) };
    let after = controller.wait_for_metrics(|metrics| metrics.enforced() > before.enforced())?;
    let seconds = after.growth(&before, "seen_to_enforced_seconds_sum");
    Ok(Some(seconds / (after.enforced() - before.enforced()) * 1e3))
}

/// What events cost the agent without probe traffic: four pods come up every 20 ms, and are relabelled later.
pub(crate) fn cost(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    pods: &[GeneratedPod],
    figures: &mut Figures,
) -> Result<()> {
    let objects = setup.objects()?;
    let pods: Vec<GeneratedPod> = pods.iter().map(|pod| pod.clone().labelled(CLIENT.0, CLIENT.1)).collect();
    let known: Vec<Value> = pods.iter().map(GeneratedPod::pending).collect();
    objects.create(&known)?;
    setup.settle(controller)?;
    let before = (controller.metrics()?, controller.cpu()?);
    let mut up = pods.iter().map(|pod| (pod.object(), json!({"status": pod.status()}))).collect::<Vec<_>>();
    for some in up.chunks(AT_A_TIME) {
        let begun = Instant::now();
        objects.patch_status(some)?;
        std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
    up.iter_mut().for_each(|(_, change)| *change = labels(OTHER));
    for some in up.chunks(AT_A_TIME) {
        let begun = Instant::now();
        objects.patch(some)?;
        std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
    setup.settle(controller)?;
    let after = (controller.metrics()?, controller.cpu()?);
    let events = (2 * pods.len()) as f64;
    let changes = after.0.growth(&before.0, "changes_total{kind=\"pod\"}");
    ensure!(changes >= events, "{changes} changes came in of {events}");
    let name = &controller.subject.name;
    let cpu = (after.1 - before.1).as_secs_f64() * 1e3;
    figures.add(name, CPU, Unit::Milliseconds, cpu / events);
    for (what, series) in
        [("set elements written", "set_elements_written_total"), ("forks", "processes_started_total")]
    {
        let count = after.0.growth(&before.0, series) / events;
        figures.add(name, &format!("{what} for a remote pod's event"), Unit::Count, count);
    }
    let writes = after.0.writes(&before.0) / events;
    figures.add(name, "kernel writes for a remote pod's event", Unit::Count, writes);
    objects.delete(&known)?;
    setup.settle(controller)
}

pub(super) fn labels((key, value): (&str, &str)) -> Value {
    json!({"metadata": {"labels": {key: value}}})
}
