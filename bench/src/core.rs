//! The daemon's core in this process: from one fact to the kernel's acknowledgement, without files and threads.

use crate::cluster::{Cluster, Pod};
use crate::daemon::Program;
use crate::figure::{Figures, Unit};
use anyhow::{Context, Result, ensure};
use bridgewarden::apply::host::{Host, Variant};
use bridgewarden::apply::{Actual, Kernel, Step};
use bridgewarden::controller::Enforcer;
use bridgewarden::model::{Change, PodKey};
use bridgewarden::render::Options;
use bridgewarden::source::{Directory, parse_manifests};
use std::time::{Duration, Instant};

const EVENTS: usize = 10_000;

/// An enforcer that knows all that the manifests say.
pub(crate) fn enforcer(program: &Program) -> Result<Enforcer> {
    let mut enforcer = Enforcer::new(crate::cluster::LOCAL_NODE, Options::default());
    let loaded = Directory::new(&program.manifests).load();
    ensure!(loaded.error.is_none(), "the manifests cannot be read: {:?}", loaded.error);
    loaded.changes.into_iter().for_each(|change| enforcer.apply(change));
    Ok(enforcer)
}

/// The fact that a pod is there.
pub(crate) fn fact(pod: &Pod) -> Result<Change> {
    let manifests = parse_manifests("pod.yaml", &pod.manifest())?;
    let pod = manifests.pods.into_iter().next().context("the manifest of a pod holds none")?;
    Ok(Change::Pod(pod.lowered))
}

/// The fact that a pod is gone.
pub(crate) fn gone(pod: &Pod) -> Change {
    Change::PodGone(PodKey::new(&pod.namespace, &pod.name))
}

/// How many elements a step adds or removes.
pub(crate) fn elements(step: &Step) -> usize {
    match step {
        Step::AddElements(_, _, elements) | Step::RemoveElements(_, _, elements) => elements.len(),
        Step::CreateSet(..)
        | Step::ReplaceSet(..)
        | Step::Restore(..)
        | Step::RestoreOther(..)
        | Step::DestroySet(_) => 0,
    }
}

/// Measures changes of one remote pod against the kernel of the calling thread's namespace, which must be right.
pub(crate) fn measure(cluster: &Cluster, program: &Program, figures: &mut Figures) -> Result<()> {
    let mut host = Host::new(Variant::Nft)?;
    let mut enforcer = enforcer(program)?;
    let actual = Actual::read(&mut host)?;
    let left = enforcer.adopt(&actual).steps.len();
    ensure!(left == 0, "the daemon left {left} steps undone");
    drop(actual);
    let mut facts = Vec::new();
    for pod in cluster.newcomers(200) {
        facts.extend([fact(&pod)?, fact(&cluster.relabelled(&pod))?, gone(&pod)]);
    }
    let (mut pure, mut whole) = (Vec::new(), Vec::new());
    let mut steps_done = 0;
    for fact in facts.iter().cycle().take(EVENTS) {
        let fact = fact.clone();
        let begun = Instant::now();
        enforcer.apply(fact);
        let flush = enforcer.flush();
        let computed = begun.elapsed();
        for step in &flush.steps {
            host.commit(step)?;
        }
        whole.push(microseconds(begun.elapsed()));
        pure.push(microseconds(computed));
        steps_done += flush.steps.len();
    }
    ensure!(steps_done > EVENTS / 2, "only {steps_done} steps for {EVENTS} events");
    figures.add_samples("core: one remote pod, from fact to steps", Unit::Microseconds, pure);
    figures.add_samples("core: one remote pod, from fact to kernel", Unit::Microseconds, whole);
    Ok(())
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
