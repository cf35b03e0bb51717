//! The start of a controller, on an empty kernel and on one that is already correct, and its memory at the end.

use super::milliseconds;
use crate::controller::{ControllerKind, ControllerProcess, ControllerUnderTest};
use crate::figure::{Figures, Unit};
use crate::setup::{BenchSetup, GUARDED, UNKNOWN_SENDER};
use crate::udp_probe_stream::UdpProbeStream;
use anyhow::Result;
use std::time::Duration;

/// The pause between two datagrams while a controller starts, long enough not to slow it down.
const SLOW: Duration = Duration::from_millis(2);

/// Starts a controller on an empty kernel; it enforces once datagrams from an unknown address are denied.
pub(crate) fn first_start(
    setup: &BenchSetup,
    subject: &ControllerUnderTest,
    figures: &mut Figures,
) -> Result<ControllerProcess> {
    let into = setup.pod(subject, GUARDED)?;
    let stream =
        UdpProbeStream::start(setup.elsewhere(), UNKNOWN_SENDER, into, subject.address(GUARDED.host), SLOW)?;
    stream.first(subject.patience())?;
    let mut controller = subject.start()?;
    let last = stream.last(subject.patience())?;
    let seconds = milliseconds(controller.started, last) / 1e3;
    figures.add(&subject.name, "start on an empty kernel → last packet passed", Unit::Seconds, seconds);
    drop(stream);
    if subject.kind == ControllerKind::Own {
        controller.wait_for_line("[+]sync ok")?;
        setup.settle(&controller)?;
        let metrics = controller.metrics()?;
        for phase in ["compile", "render", "apply"] {
            let seconds = metrics.get(&format!("sync_duration_seconds_sum{{phase=\"{phase}\"}}"));
            figures.add(&subject.name, &format!("start on an empty kernel: {phase}"), Unit::Seconds, seconds);
        }
        for (what, series) in [
            ("policies with pods on this node", "active_policies"),
            ("rules of IPv4", "rules{family=\"ipv4\"}"),
            ("sets of IPv4", "sets{family=\"ipv4\"}"),
            ("set elements of IPv4", "set_members{family=\"ipv4\"}"),
        ] {
            figures.add(&subject.name, what, Unit::Count, metrics.get(series));
        }
    }
    controller.wait_until_idle()?;
    let worked = controller.cpu()?.as_secs_f64();
    figures.add(&subject.name, "start on an empty kernel: CPU", Unit::Seconds, worked);
    memory(&controller, "after its start", figures)?;
    Ok(controller)
}

/// Starts the agent on a kernel that is already correct, several times.
pub(crate) fn restart(
    setup: &BenchSetup,
    mut controller: ControllerProcess,
    times: usize,
    figures: &mut Figures,
) -> Result<ControllerProcess> {
    let name = controller.subject.name.clone();
    for _ in 0..times {
        let subject = controller.subject.clone();
        controller.stop()?;
        controller = subject.start()?;
        let enforced = controller.wait_for_line("[+]sync ok")?.as_secs_f64();
        figures.add(&name, "start on a correct kernel → enforced", Unit::Seconds, enforced);
        setup.settle(&controller)?;
        let metrics = controller.metrics()?;
        let written = |kind| metrics.get(&format!("kernel_writes_total{{kind=\"{kind}\"}}"));
        let writes = written("set") + written("rules");
        let worked = controller.cpu()?.as_secs_f64();
        figures.add(&name, "start on a correct kernel: CPU", Unit::Seconds, worked);
        figures.add(&name, "start on a correct kernel: kernel writes", Unit::Count, writes);
    }
    Ok(controller)
}

/// Records how much memory a controller uses.
pub(crate) fn memory(controller: &ControllerProcess, when: &str, figures: &mut Figures) -> Result<()> {
    let (memory, name) = (controller.memory()?, &controller.subject.name);
    figures.add(name, &format!("resident memory {when}"), Unit::Mebibytes, memory.resident);
    figures.add(name, &format!("resident memory {when}, highest"), Unit::Mebibytes, memory.highest);
    Ok(())
}
