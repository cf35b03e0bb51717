//! A pod starts on the node, under a policy that refuses it everything.

use super::{PACE, milliseconds};
use crate::beam::Beam;
use crate::controller::Controller;
use crate::figure::{Figures, Unit};
use crate::stage::{NEWBORN, SCENE, STRANGER, Stage, running, scene_pod};
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::time::Instant;

/// Times pods that start, one by one: from the result of CNI, which the API's status follows at once, until the last packet
/// passed. Its address answers before and after, as nobody is known to have it.
pub(crate) fn time(
    stage: &Stage,
    controller: &mut Controller,
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    let subject = controller.subject.clone();
    let (objects, into) = (stage.objects()?, stage.pod(&subject, NEWBORN)?);
    let address = subject.address(NEWBORN.host);
    let mut guarded = Vec::new();
    for index in 0..count {
        let name = format!("{}-{index}", NEWBORN.app);
        let pod = [scene_pod(SCENE, &name, NEWBORN.app, None)];
        objects.create(&pod)?;
        let beam = Beam::on(stage.elsewhere(), STRANGER, into, address, PACE)?;
        beam.first(subject.patience())?;
        // While the kernel frees what the removal of the previous pod replaced, the next change of rules waits.
        controller.rests()?;
        let sandbox = format!("c0ffee{index}");
        let mut result = subject.newborn_result.clone();
        result["containerId"] = json!(sandbox);
        result["cniArgs"] = json!([["K8S_POD_NAMESPACE", SCENE], ["K8S_POD_NAME", name]]);
        let file = subject.results.join(format!("cbr0-{sandbox}-eth0"));
        let status = json!({"status": running(address)});
        fs::write(&file, result.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let written = Instant::now();
        objects.patch_status(&[(pod[0].clone(), status)])?;
        guarded.push(milliseconds(written, beam.last(subject.patience())?));
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        objects.delete(&pod)?;
    }
    figures.add_samples(&subject.name, "local pod starts → last packet passed", Unit::Milliseconds, guarded);
    Ok(())
}
