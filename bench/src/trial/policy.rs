//! A policy comes for a pod that was open.

use super::{PACE, milliseconds};
use crate::beam::Beam;
use crate::controller::Controller;
use crate::figure::{Figures, Unit};
use crate::stage::{OPEN, SCENE, STRANGER, Stage, scene_policy};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Instant;

/// The figure of a policy that comes.
pub(crate) const CREATED: &str = "policy created → last packet passed";

/// Times policies that come and go, one by one: from the API's answer until the last packet passed.
pub(crate) fn time(
    stage: &Stage,
    controller: &mut Controller,
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    let subject = controller.subject.clone();
    let (objects, into) = (stage.objects()?, stage.pod(&subject, OPEN)?);
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    controller.rests()?;
    for index in 0..count {
        let policy = [shut(&format!("shut-{index}"))];
        let beam = || Beam::on(stage.elsewhere(), STRANGER, into, subject.address(OPEN.host), PACE);
        let shining = beam()?;
        shining.first(subject.patience())?;
        objects.create(&policy)?;
        let answered = Instant::now();
        created.push(milliseconds(answered, shining.last(subject.patience())?));
        drop(shining);
        let shining = beam()?;
        objects.delete(&policy)?;
        let answered = Instant::now();
        deleted.push(milliseconds(answered, shining.first(subject.patience())?));
    }
    figures.add_samples(&subject.name, CREATED, Unit::Milliseconds, created);
    figures.add_samples(&subject.name, "policy deleted → first packet passes", Unit::Milliseconds, deleted);
    Ok(())
}

/// A policy that lets only others in than who is tried.
pub(super) fn shut(name: &str) -> Value {
    let spec = json!({
        "podSelector": {"matchLabels": {"app": OPEN.app}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"bench": "client"}}}], "ports": [{"port": 8443}]}],
    });
    scene_policy(SCENE, name, spec)
}
