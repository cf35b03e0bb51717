//! The demo: the real controllers in a testbed of its own, and every connection measured against what the policies say.
//!
//! Comes in: the settings of `bridgewarden demo`, and manifests. Goes out: a report in words, and whether everything
//! that was measured is as expected. It knows neither command lines nor exit codes.

mod cast;
mod change;
mod daemon;
mod latency;
mod leftover;
mod matrix;
mod measure;
mod question;
mod shop;
mod show;
mod stage;
mod stay;
mod stop;
mod workplace;

pub(crate) use matrix::Paint;

use crate::explain::oracle::World;
use crate::kernel::Variant;
use crate::net::Family;
use crate::source::{Manifests, read_manifests};
use anyhow::{Context, Result, bail};
use cast::Cast;
use latency::Trial;
use leftover::{Claim, sweep};
use question::Finding;
use show::{Show, Sights, mismatches};
use stage::Stage;
use stay::Known;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use stop::{Stop, Stopped};
use workplace::{Texts, Workplace};

/// What a demo is to do.
pub(crate) struct Settings<'a> {
    /// The directory of manifests; without it, the sample shop.
    pub(crate) manifests: Option<&'a Path>,
    /// Whether to measure once and end.
    pub(crate) once: bool,
    /// Begins the name of every namespace: `bw-ID-…`.
    pub(crate) id: &'a str,
    /// Whether the report is in colour.
    pub(crate) paint: Paint,
    /// Chooses the iptables that the controllers use; called in a node's namespace.
    pub(crate) variant: &'a (dyn Fn() -> Variant + Sync),
}

/// What was found out before anybody was asked to look around.
struct Seen {
    variant: Variant,
    findings: Vec<Finding>,
    all_is_well: bool,
}

/// Builds the network, measures, follows edits until it is stopped unless it is to measure once, and removes
/// everything. Returns whether everything that was measured is as expected.
///
/// # Errors
/// The manifests cannot be read, or something cannot be built, measured or removed.
pub(crate) fn run(settings: &Settings<'_>, out: &mut impl Write) -> Result<bool> {
    settings.run(out)
}

impl Settings<'_> {
    fn run(&self, out: &mut impl Write) -> Result<bool> {
        let mut show = Show::new(out, self.paint);
        let stop = Stop::listen()?;
        let _claim = Claim::take(self.id)?;
        match sweep(self.id).context("cannot remove what an earlier demo left")? {
            0 => {}
            left => show.tell("swept", &format!("{left} namespaces that an earlier demo left"))?,
        }
        let workplace = Workplace::create(self.id)?;
        let directory = match self.manifests {
            Some(directory) => directory.to_owned(),
            None => workplace.lay_out_shop()?,
        };
        let manifests = read_manifests(&directory)
            .map_err(|error| anyhow::anyhow!("cannot read {}:\n{error}", directory.display()))?;
        let texts = Texts::read(&directory)?;
        workplace.publish(&texts)?;
        let cast = Cast::of(&manifests);
        introduce(&directory, &manifests, &cast, &mut show)?;
        if cast.places.is_empty() {
            bail!("there is no pod to measure in {}", directory.display());
        }

        let started = Instant::now();
        let mut stage = Stage::build(self.id, &cast, workplace)?;
        self.introduce_network(&stage, &cast, started, &mut show)?;
        let done = self.perform(&mut stage, &directory, texts, &cast, &mut show, &stop);
        let removed = stage.remove();
        if removed.is_ok() {
            // Nobody may be listening any more.
            show.tell("removed", "all controllers, namespaces and files of this demo").ok();
        }
        removed?;
        match done {
            Err(error) if !self.once && error.is::<Stopped>() => Ok(true),
            done => done,
        }
    }

    /// All that happens between building the network and removing it.
    fn perform<W: Write>(
        &self,
        stage: &mut Stage,
        directory: &Path,
        texts: Texts,
        cast: &Cast,
        show: &mut Show<'_, W>,
        stop: &Stop,
    ) -> Result<bool> {
        let Seen { variant, findings, all_is_well } = self.measure(stage, cast, show, stop)?;
        if self.once {
            return Ok(all_is_well);
        }
        let Some(node) = stage.nodes().first() else { bail!("there is no node") };
        let sights = Sights {
            testbed: &stage.testbed,
            node,
            save: variant.save(Family::V4),
            http: daemon::HTTP.to_string(),
            directory,
            findings: &findings,
        };
        show.look_around(&sights.commands())?;
        let edits = if self.manifests.is_none() { ", your edits too" } else { "" };
        let staying = format!("edit {} and see. Ctrl-C removes everything{edits}", directory.display());
        show.tell("staying", &staying)?;
        stay::stay(stage, directory, Known { texts, findings, problem: None }, show, stop)?;
        Ok(true)
    }

    fn measure<W: Write>(
        &self,
        stage: &mut Stage,
        cast: &Cast,
        show: &mut Show<'_, W>,
        stop: &Stop,
    ) -> Result<Seen> {
        stop.check()?;
        let started = Instant::now();
        let lawless = World { policies: Vec::new(), ..cast.world.clone() };
        let control = stage.measure(&stage.questions(&lawless)?, stop)?;
        let wrong = mismatches(&control);
        if !wrong.is_empty() {
            bail!(
                "without any policy {} of {} connections are not open, so that nothing can be measured here:\n{}",
                wrong.len(),
                control.len(),
                wrong.join("\n")
            );
        }
        let milliseconds = started.elapsed().as_millis();
        let open =
            format!("{} connections, all open without a controller ({milliseconds} ms)", control.len());
        show.tell("control", &open)?;

        let (name, variant) = self.variant(stage)?;
        let started = Instant::now();
        stage.start_controllers(name, stop)?;
        let (nodes, milliseconds) = (stage.nodes().join(" and "), started.elapsed().as_millis());
        let ready = format!("`bridgewarden run --backend {name}` is ready on {nodes} ({milliseconds} ms)");
        show.tell("controllers", &ready)?;

        let findings = stage.measure(&stage.questions(&cast.world)?, stop)?;
        show.matrix(&findings)?;
        show.result(&findings)?;
        let mut all_is_well = mismatches(&findings).is_empty();
        match Trial::choose(cast, &findings) {
            Some(trial) => match trial.run(&stage.testbed, &stage.workplace, stop)? {
                Ok(latency) => show.tell("latency", &latency.to_string())?,
                Err(late) => {
                    all_is_well = false;
                    show.tell("latency", &format!("! {late}"))?;
                }
            },
            None => {
                show.tell("latency", "not measured: no open TCP connection that one more policy would end")?
            }
        }
        Ok(Seen { variant, findings, all_is_well })
    }

    /// The backend in the words of `run`, and the iptables it means.
    fn variant(&self, stage: &Stage) -> Result<(&'static str, Variant)> {
        let node = stage.nodes().first().and_then(|node| stage.testbed.node_namespace(node));
        let variant = node.context("there is no node")?.enter(|| (self.variant)())?;
        let name = match variant {
            Variant::Nft => "iptables-nft",
            Variant::Legacy => "iptables-legacy",
        };
        Ok((name, variant))
    }

    fn introduce_network<W: Write>(
        &self,
        stage: &Stage,
        cast: &Cast,
        started: Instant,
        show: &mut Show<'_, W>,
    ) -> std::io::Result<()> {
        let own = cast.places.iter().filter(|place| !place.host_network).count();
        let (nodes, milliseconds) = (stage.nodes(), started.elapsed().as_millis());
        let text = format!(
            "{} namespaces bw-{}-…: {} with a bridge each, a router, an outside, {own} pods ({milliseconds} ms)",
            nodes.len() + own + 2,
            self.id,
            nodes.join(", "),
        );
        show.tell("network", &text)
    }
}

fn introduce<W: Write>(
    directory: &Path,
    manifests: &Manifests,
    cast: &Cast,
    show: &mut Show<'_, W>,
) -> std::io::Result<()> {
    let (pods, policies) = (manifests.pods.len(), manifests.policies.len());
    show.tell("manifests", &format!("{} ({pods} pods, {policies} policies)", directory.display()))?;
    for refused in &manifests.refused {
        show.tell("warning", &refused.to_string())?;
    }
    for (kind, count) in &manifests.skipped {
        show.tell("left out", &format!("{count} of kind {kind}"))?;
    }
    for (pod, reason) in &cast.absent {
        show.tell("left out", &format!("pod {pod}: {reason}"))?;
    }
    match cast.sctp_ports {
        0 => Ok(()),
        ports => show.tell("left out", &format!("{ports} SCTP ports: only TCP and UDP are measured")),
    }
}
