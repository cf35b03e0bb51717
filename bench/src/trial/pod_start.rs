//! Pods start on the node under a policy that denies all their traffic.

use super::{PACE, milliseconds};
use crate::controller::ControllerProcess;
use crate::figure::{Figures, Unit};
use crate::setup::{BenchSetup, SCENE, STARTING, UNKNOWN_SENDER, running, scene_pod};
use crate::udp_probe_stream::UdpProbeStream;
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::time::Instant;

/// Times the starts of pods, one by one: from writing the CNI result, which the API's status follows at once, until the
/// last packet passed. The address is open before and after, because no known pod has it.
pub(crate) fn time(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    let subject = controller.subject.clone();
    let (objects, into) = (setup.objects()?, setup.pod(&subject, STARTING)?);
    let address = subject.address(STARTING.host);
    let mut guarded = Vec::new();
    for index in 0..count {
        let name = format!("{}-{index}", STARTING.app);
        let pod = [scene_pod(SCENE, &name, STARTING.app, None)];
        objects.create(&pod)?;
        let stream = UdpProbeStream::start(setup.elsewhere(), UNKNOWN_SENDER, into, address, PACE)?;
        stream.first(subject.patience())?;
        // While the kernel frees what the previous pod's removal replaced, the next change of rules waits.
        controller.wait_until_idle()?;
        let sandbox = format!("c0ffee{index}");
        let mut result = subject.starting_result.clone();
        result["containerId"] = json!(sandbox);
        result["cniArgs"] = json!([["K8S_POD_NAMESPACE", SCENE], ["K8S_POD_NAME", name]]);
        let file = subject.results.join(format!("cbr0-{sandbox}-eth0"));
        let status = json!({"status": running(address)});
        fs::write(&file, result.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let written = Instant::now();
        objects.patch_status(&[(pod[0].clone(), status)])?;
        guarded.push(milliseconds(written, stream.last(subject.patience())?));
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        objects.delete(&pod)?;
    }
    figures.add_samples(&subject.name, "local pod starts → last packet passed", Unit::Milliseconds, guarded);
    Ok(())
}
