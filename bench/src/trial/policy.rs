//! A policy is created for a pod that was open.

use super::{PACE, milliseconds};
use crate::controller::ControllerProcess;
use crate::figure::{Figures, Unit};
use crate::setup::{BenchSetup, OPEN, SCENE, UNKNOWN_SENDER, scene_policy};
use crate::udp_probe_stream::UdpProbeStream;
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Instant;

/// The name of the figure.
pub(crate) const CREATED: &str = "policy created → last packet passed";

/// Times the creation of policies, one by one: from the API server's response until the last packet passed.
pub(crate) fn time(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    let subject = controller.subject.clone();
    let (objects, into) = (setup.objects()?, setup.pod(&subject, OPEN)?);
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    for index in 0..count {
        // While the kernel frees what the previous policy's removal replaced, the next change of rules waits.
        controller.wait_until_idle()?;
        let policy = [shut(&format!("shut-{index}"))];
        let probe = || {
            UdpProbeStream::start(setup.elsewhere(), UNKNOWN_SENDER, into, subject.address(OPEN.host), PACE)
        };
        let stream = probe()?;
        stream.first(subject.patience())?;
        objects.create(&policy)?;
        let answered = Instant::now();
        created.push(milliseconds(answered, stream.last(subject.patience())?));
        drop(stream);
        let stream = probe()?;
        objects.delete(&policy)?;
        let answered = Instant::now();
        deleted.push(milliseconds(answered, stream.first(subject.patience())?));
    }
    figures.add_samples(&subject.name, CREATED, Unit::Milliseconds, created);
    figures.add_samples(&subject.name, "policy deleted → first packet passes", Unit::Milliseconds, deleted);
    Ok(())
}

/// A policy that allows others, but not the sender that is measured.
pub(super) fn shut(name: &str) -> Value {
    let spec = json!({
        "podSelector": {"matchLabels": {"app": OPEN.app}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"bench": "client"}}}], "ports": [{"port": 8443}]}],
    });
    scene_policy(SCENE, name, spec)
}
