//! One change at a time, while the daemon runs.

use crate::cluster::{Cluster, Pod};
use crate::core::{elements, enforcer, fact, gone};
use crate::daemon::{Daemon, Program};
use crate::figure::{Figures, Unit};
use crate::http::Metrics;
use anyhow::{Context, Result, bail, ensure};
use bridgewarden::apply::{Actual, Step};
use bridgewarden::controller::Enforcer;
use bridgewarden::model::Change;
use bridgewarden::netfilter::SetName;
use bridgewarden::netfilter::ipset::Element;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Pods that come, change their labels and go while each event is timed.
const TIMED: usize = 80;
/// Pods that do so while nobody looks at the daemon, to tell what an event costs it.
const COSTED: usize = 70;
/// Pods that change in what no policy asks for.
const IRRELEVANT: usize = 100;
/// Policies that come and go.
const POLICIES: usize = 20;
/// Until everything that was written is read, and read once more to be sure of it.
const SETTLE: Duration = Duration::from_millis(600);

/// What the daemon is told, and how it is found out that it has done it.
struct Bench<'a> {
    cluster: &'a Cluster,
    daemon: &'a Daemon,
    single: PathBuf,
    /// What the daemon must do, worked out beside it.
    shadow: Enforcer,
}

/// A change of one file.
enum Event<'a> {
    Write(&'a Pod),
    Remove(&'a Pod),
}

/// Measures everything about single changes.
pub(crate) fn measure(
    cluster: &Cluster,
    program: &Program,
    daemon: &Daemon,
    figures: &mut Figures,
) -> Result<()> {
    let mut shadow = enforcer(program)?;
    shadow.adopt(&Actual::default());
    let mut bench = Bench { cluster, daemon, single: program.manifests.join("single"), shadow };
    bench.idle(figures)?;
    bench.timed(figures)?;
    bench.costed(figures)?;
    bench.irrelevant(figures)?;
    bench.policies(figures)
}

impl Bench<'_> {
    fn idle(&self, figures: &mut Figures) -> Result<()> {
        let (begun, before) = (Instant::now(), self.daemon.cpu()?);
        std::thread::sleep(Duration::from_secs(5));
        let spent = (self.daemon.cpu()? - before).as_secs_f64();
        figures.add("idle: of one processor", Unit::Percent, spent / begun.elapsed().as_secs_f64() * 100.0);
        Ok(())
    }

    /// Each event by itself, with the daemon's own measurement read after each.
    fn timed(&mut self, figures: &mut Figures) -> Result<()> {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let first = Metrics::read()?;
        for (pod, relabelled) in self.asked_for(TIMED)? {
            for event in [Event::Write(&pod), Event::Write(&relabelled), Event::Remove(&pod)] {
                let before = Metrics::read()?;
                let (took, _) = self.happen(&event)?;
                outside.push(took.as_secs_f64() * 1e3);
                let after = self.daemon.wait_until(|metrics| metrics.enforced() > before.enforced())?;
                ensure!(after.enforced() - before.enforced() == 1.0, "one event was enforced twice");
                inside.push(after.seen_to_enforced(&before) * 1e3);
            }
        }
        figures.add_samples("one remote pod: from seen to kernel", Unit::Milliseconds, inside);
        figures.limit(1.0);
        figures.add_samples(
            "one remote pod: from rename(2) to set, seen from outside",
            Unit::Milliseconds,
            outside,
        );
        let last = Metrics::read()?;
        for phase in ["compile", "render", "apply"] {
            let grown = |what: &str| {
                last.growth(&first, &format!("sync_duration_seconds_{what}{{phase=\"{phase}\"}}"))
            };
            let mean = grown("sum") / grown("count") * 1e3;
            figures.add(&format!("one remote pod: phase {phase}, on average"), Unit::Milliseconds, mean);
        }
        Ok(())
    }

    /// Event by event, with the daemon left alone.
    fn costed(&mut self, figures: &mut Figures) -> Result<()> {
        let before = (Metrics::read()?, self.daemon.cpu()?);
        let (mut events, mut needed) = (0.0, 0);
        for (pod, relabelled) in self.asked_for(COSTED)? {
            for event in [Event::Write(&pod), Event::Write(&relabelled), Event::Remove(&pod)] {
                needed += self.happen(&event)?.1;
                events += 1.0;
            }
        }
        let told = |metrics: &Metrics| metrics.enforced() - before.0.enforced() >= events;
        let after = (self.daemon.wait_until(told)?, self.daemon.cpu()?);
        let cpu = (after.1 - before.1).as_secs_f64() * 1e3;
        let (after, before) = (after.0, before.0);
        let elements = after.growth(&before, "set_elements_written_total");
        ensure!(elements == needed as f64, "{elements} elements were written where {needed} were needed");
        figures.add(
            "one remote pod: processor time, reading the file included",
            Unit::Milliseconds,
            cpu / events,
        );
        figures.add("one remote pod: set elements written, all needed", Unit::Count, elements / events);
        figures.add("one remote pod: kernel writes", Unit::Count, after.writes(&before) / events);
        let forks = after.growth(&before, "processes_started_total");
        figures.add_limited("one remote pod: processes started", Unit::Count, forks / events, 0.0);
        Ok(())
    }

    /// Changes that no policy asks for.
    fn irrelevant(&mut self, figures: &mut Figures) -> Result<()> {
        let mut pods = self.cluster.newcomers(IRRELEVANT);
        for pod in &pods {
            self.write(pod)?;
        }
        std::thread::sleep(SETTLE);
        let before = Metrics::read()?;
        for (index, pod) in pods.iter_mut().enumerate() {
            if index % 2 == 0 {
                pod.annotation = "2".to_owned();
            } else {
                pod.labels.push(("zz-unasked".to_owned(), "yes".to_owned()));
            }
            self.write(pod)?;
        }
        std::thread::sleep(SETTLE);
        let after = Metrics::read()?;
        let changes = after.growth(&before, "changes_total{kind=\"pod\"}");
        ensure!(changes == (IRRELEVANT / 2) as f64, "{changes} changes came in, only new labels are one");
        let writes = after.writes(&before) + after.growth(&before, "processes_started_total");
        figures.add_limited("100 irrelevant updates: kernel writes and processes", Unit::Count, writes, 0.0);
        for pod in &pods {
            fs::remove_file(self.path(pod))?;
        }
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// Policies that select pods of this node.
    fn policies(&mut self, figures: &mut Figures) -> Result<()> {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for index in 0..POLICIES {
            let before = Metrics::read()?;
            let begun = Instant::now();
            let path = self.single.join(format!("policy-{index}.yaml"));
            self.replace(&path, &self.cluster.local_policy(index))?;
            let after = self.daemon.wait_until(|metrics| metrics.enforced() > before.enforced())?;
            outside.push(begun.elapsed().as_secs_f64() * 1e3);
            inside.push(after.seen_to_enforced(&before) * 1e3);
        }
        figures.add_samples(
            "one policy for a pod of this node: from seen to kernel",
            Unit::Milliseconds,
            inside,
        );
        figures.add_samples(
            "one policy for a pod of this node: from rename(2) to told",
            Unit::Milliseconds,
            outside,
        );
        let before = Metrics::read()?;
        for index in 0..POLICIES {
            fs::remove_file(self.single.join(format!("policy-{index}.yaml")))?;
        }
        self.daemon.wait_until(|metrics| {
            metrics.growth(&before, "changes_total{kind=\"policy\"}") >= POLICIES as f64
        })?;
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// Pods, as they come and with other labels, each change of which needs something of the kernel.
    fn asked_for(&mut self, count: usize) -> Result<Vec<(Pod, Pod)>> {
        let mut found = Vec::new();
        for pod in self.cluster.newcomers(20 * count) {
            let relabelled = self.cluster.relabelled(&pod);
            let changes = [fact(&pod)?, fact(&relabelled)?, gone(&pod)];
            let needs_something = changes.map(|change| {
                self.shadow.apply(change);
                !self.shadow.flush().steps.is_empty()
            });
            if needs_something == [true; 3] {
                found.push((pod, relabelled));
            }
            if found.len() == count {
                return Ok(found);
            }
        }
        bail!(
            "policies ask for too few pods: only {} of {} are peers of a policy here",
            found.len(),
            20 * count
        )
    }

    /// Lets an event happen and waits until its last element is in the kernel, or out of it; tells how long that took,
    /// and how many elements it needed.
    fn happen(&mut self, event: &Event<'_>) -> Result<(Duration, usize)> {
        let change: Change = match event {
            Event::Write(pod) => fact(pod)?,
            Event::Remove(pod) => gone(pod),
        };
        self.shadow.apply(change);
        let steps = self.shadow.flush().steps;
        let (name, element, comes) =
            steps.iter().rev().find_map(element_of).context("an event needs nothing of the kernel")?;
        let begun = Instant::now();
        match event {
            Event::Write(pod) => self.write(pod)?,
            Event::Remove(pod) => fs::remove_file(self.path(pod))?,
        }
        while is_in(name, element)? != comes {
            ensure!(begun.elapsed() < Duration::from_secs(10), "{element} did not change in {name}");
        }
        Ok((begun.elapsed(), steps.iter().map(elements).sum()))
    }

    fn path(&self, pod: &Pod) -> PathBuf {
        self.single.join(format!("{}-{}.yaml", pod.namespace, pod.name))
    }

    fn write(&self, pod: &Pod) -> Result<()> {
        self.replace(&self.path(pod), &pod.manifest())
    }

    /// Writes a file so that nobody sees half of it.
    fn replace(&self, path: &PathBuf, text: &str) -> Result<()> {
        let spare = self.single.join(".spare");
        fs::write(&spare, text)?;
        Ok(fs::rename(&spare, path)?)
    }
}

/// The set, the last element and the direction of a step of elements.
fn element_of(step: &Step) -> Option<(&SetName, &Element, bool)> {
    match step {
        Step::AddElements(name, _, elements) => Some((name, elements.last()?, true)),
        Step::RemoveElements(name, _, elements) => Some((name, elements.last()?, false)),
        Step::CreateSet(..)
        | Step::ReplaceSet(..)
        | Step::Restore(..)
        | Step::RestoreOther(..)
        | Step::DestroySet(_) => None,
    }
}

/// Whether the kernel says that an element is in a set.
fn is_in(set: &SetName, element: &Element) -> Result<bool> {
    let mut command = Command::new("ipset");
    command.args(["-q", "test", set.as_str(), &element.to_string()]);
    let status =
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().context("cannot start ipset")?;
    Ok(status.success())
}
