//! Many events at once: those that require no change on the node, and those that do.

use super::remote::{CLIENT, OTHER, labels};
use crate::controller::ControllerProcess;
use crate::figure::{Figures, Unit};
use crate::metrics::AgentMetrics;
use crate::setup::BenchSetup;
use anyhow::{Result, ensure};
use bridgewarden_bench::cluster::{GeneratedPod, LOCAL_NODE};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The interval of writes.
const BEAT: Duration = Duration::from_millis(20);
/// For how long updates are written that require no change.
const IRRELEVANT: Duration = Duration::from_secs(5);
/// How many of these are written per second.
const UPDATES: usize = 1_000;
/// The rates of relabelled pods per second that are tried in sequence, and for how long.
const RATES: [usize; 5] = [250, 500, 1_000, 2_000, 4_000];
const CHURN: Duration = Duration::from_secs(3);
/// The longest delay of an agent that keeps up.
const BEHIND: Duration = Duration::from_millis(250);

/// Writes changes of pods at a rate, one pod after the other from `first` on; returns how many there were and how long
/// it took.
fn write(
    setup: &BenchSetup,
    pods: &[Value],
    first: usize,
    rate: usize,
    time: Duration,
    change: impl Fn(usize) -> Value,
) -> Result<(usize, Duration)> {
    let objects = setup.objects()?;
    let (begun, mut written) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as usize;
        // At most as many as there are pods, as one object must not be written twice at the same time.
        let now = due.saturating_sub(written).min(pods.len());
        let pod = |index: usize| pods[index % pods.len()].clone();
        objects.patch(
            &(first + written..first + written + now)
                .map(|index| (pod(index), change(index)))
                .collect::<Vec<_>>(),
        )?;
        written += now;
        std::thread::sleep(BEAT);
    }
    Ok((written, begun.elapsed()))
}

/// Updates of pods on other nodes that no policy depends on.
pub(crate) fn irrelevant(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    figures: &mut Figures,
) -> Result<()> {
    let pods: Vec<Value> = setup
        .cluster
        .pods()
        .filter(|pod| pod.node != LOCAL_NODE)
        .take(500)
        .map(GeneratedPod::object)
        .collect();
    controller.wait_until_idle()?;
    let before = (controller.metrics()?, controller.cpu()?);
    let (updates, took) = write(
        setup,
        &pods,
        0,
        UPDATES,
        IRRELEVANT,
        |index| json!({"metadata": {"annotations": {"example.org/restarted-at": format!("update {index}")}}}),
    )?;
    controller.wait_until_idle()?;
    let after = (controller.metrics()?, controller.cpu()?);
    let name = &controller.subject.name;
    let rate = updates as f64 / took.as_secs_f64();
    figures.add(name, "irrelevant updates written", Unit::PerSecond, rate);
    let each = (after.1 - before.1).as_secs_f64() / updates as f64;
    figures.add(name, "1,000 irrelevant updates/s: of a core", Unit::Percent, each * UPDATES as f64 * 100.0);
    figures.add(name, "irrelevant updates: kernel writes", Unit::Count, after.0.writes(&before.0));
    let forks = after.0.growth(&before.0, "processes_started_total");
    figures.add(name, "irrelevant updates: forks", Unit::Count, forks);
    Ok(())
}

/// Relabels pods at growing rates, until the agent or the API server falls behind.
pub(crate) fn churn(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    pods: &[GeneratedPod],
    figures: &mut Figures,
) -> Result<()> {
    let pods: Vec<Value> = pods.iter().map(|pod| pod.clone().labelled(OTHER.0, OTHER.1).object()).collect();
    setup.objects()?.create(&pods)?;
    setup.settle(controller)?;
    let relabelled =
        |index: usize| labels(if (index / pods.len()).is_multiple_of(2) { CLIENT } else { OTHER });
    let name = controller.subject.name.clone();
    let series = "changes_total{kind=\"pod\"}";
    let (mut sustained, mut fell_behind, mut first) = (0.0, false, 0);
    for rate in RATES {
        let before = (controller.metrics()?, controller.cpu()?);
        let (events, took) = write(setup, &pods, first, rate, CHURN, relabelled)?;
        first += events;
        let written = Instant::now();
        let after =
            controller.wait_for_metrics(|metrics| metrics.growth(&before.0, series) >= events as f64)?;
        let behind = written.elapsed();
        ensure!(after.growth(&before.0, series) == events as f64, "more changes came in than were written");
        controller.wait_until_idle()?;
        let worked = (controller.cpu()? - before.1).as_secs_f64();
        let reached = events as f64 / took.as_secs_f64();
        crate::say(&format!(
            "    {rate}/s: {reached:.0}/s written, {behind:?} behind, {:.1} % of a core",
            worked / took.as_secs_f64() * 100.0
        ));
        fell_behind = behind > BEHIND;
        if fell_behind {
            break;
        }
        sustained = reached.max(sustained);
        // The API server has reached its limit.
        if reached < 0.9 * rate as f64 {
            break;
        }
    }
    let what = if fell_behind { "sustained churn" } else { "sustained churn, all that the API server wrote" };
    figures.add(&name, what, Unit::PerSecond, sustained);
    backlog(setup, controller, &pods, figures)?;
    setup.objects()?.delete(&pods)?;
    setup.settle(controller)
}

/// Events that accumulate while the agent is stopped: measures how fast it reads them if nothing else limits it.
fn backlog(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    pods: &[Value],
    figures: &mut Figures,
) -> Result<()> {
    let series = "changes_total{kind=\"pod\"}";
    let all = |label| pods.iter().map(|pod| (pod.clone(), labels(label))).collect::<Vec<_>>();
    setup.objects()?.patch(&all(OTHER))?;
    controller.wait_until_idle()?;
    let before = (controller.metrics()?, controller.cpu()?);
    controller.hold()?;
    // Each pod once, so that no change is merged into a later one if the watch has to restart.
    setup.objects()?.patch(&all(CLIENT))?;
    let events = pods.len();
    controller.release()?;
    let released = Instant::now();
    let is_done = |metrics: &AgentMetrics| {
        metrics.growth(&before.0, series) >= events as f64 && metrics.get("pending_changes") == 0.0
    };
    controller.wait_for_metrics(is_done)?;
    let took = released.elapsed().as_secs_f64();
    controller.wait_until_idle()?;
    let worked = (controller.cpu()? - before.1).as_secs_f64();
    let name = &controller.subject.name;
    figures.add(name, "backlog of events taken in", Unit::PerSecond, events as f64 / took);
    figures.add(
        name,
        "backlog of events taken in, by a second of its own time",
        Unit::PerSecond,
        events as f64 / worked,
    );
    Ok(())
}
