//! A policy that is as expensive as one object can be, and another tenant's policy that is created at the same time.

use super::{PACE, milliseconds};
use crate::controller::ControllerProcess;
use crate::figure::{Figures, Unit};
use crate::setup::{BenchSetup, GUARDED, OPEN, SCENE, UNKNOWN_SENDER, scene_policy};
use crate::udp_probe_stream::UdpProbeStream;
use anyhow::Result;
use bridgewarden_bench::cluster::GeneratedPod;
use serde_json::{Value, json};
use std::time::Instant;

/// The number of pods with distinct labels.
const PODS: usize = 3_000;
/// The numbers of peers of the policies: many, and as many as fit into an object.
const PEERS: [usize; 2] = [2_000, 12_000];

/// Writes policies in which every peer selects nearly all pods, and measures their cost and how soon another policy is
/// enforced.
pub(crate) fn measure(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    figures: &mut Figures,
) -> Result<()> {
    let subject = controller.subject.clone();
    let (objects, into) = (setup.objects()?, setup.pod(&subject, OPEN)?);
    let pods = setup.cluster.newcomers(PODS).into_iter().enumerate();
    let pods: Vec<Value> =
        pods.map(|(index, pod)| GeneratedPod::object(&pod.labelled("own", &format!("v{index}")))).collect();
    objects.create(&pods)?;
    setup.settle(controller)?;
    for peers in PEERS {
        let costly = [costly(peers)];
        let name = &subject.name;
        controller.wait_until_idle()?;
        let worked = controller.cpu()?;
        let stream =
            UdpProbeStream::start(setup.elsewhere(), UNKNOWN_SENDER, into, subject.address(OPEN.host), PACE)?;
        stream.first(subject.patience())?;
        objects.create(&costly)?;
        let beside = [super::policy::shut("beside")];
        objects.create(&beside)?;
        let answered = Instant::now();
        let took = milliseconds(answered, stream.last(subject.patience())?);
        figures.add(name, &format!("{peers} peers: policy beside → last packet"), Unit::Milliseconds, took);
        controller.wait_until_idle()?;
        let cpu = (controller.cpu()? - worked).as_secs_f64() * 1e3;
        figures.add(name, &format!("{peers} peers: CPU until in force"), Unit::Milliseconds, cpu);
        super::life::memory(controller, &format!("with {peers} peers"), figures)?;
        objects.delete(&costly)?;
        objects.delete(&beside)?;
        controller.wait_until_idle()?;
    }
    objects.delete(&pods)?;
    setup.settle(controller)
}

fn costly(peers: usize) -> Value {
    let peer = |index: usize| {
        json!({"namespaceSelector": {}, "podSelector": {"matchExpressions": [
            {"key": "own", "operator": "NotIn", "values": [format!("v{index}")]}]}})
    };
    let from: Vec<Value> = (0..peers).map(peer).collect();
    let spec = json!({"podSelector": {"matchLabels": {"app": GUARDED.app}}, "ingress": [{"from": from}]});
    scene_policy(SCENE, "costly", spec)
}
