//! The demo: real agents in a testbed, and every connection measured and compared with what the policies say.
//!
//! Comes in: the settings of `bridgewarden demo`, and manifests. Goes out: a report in words, and whether everything
//! that was measured is as expected. It knows neither command lines nor exit codes.

mod agent;
mod changes;
mod cluster;
mod dir;
mod edits;
mod latency;
mod matrix;
mod measure;
mod network;
mod output;
mod question;
mod shop;
mod stale;
mod stop;

pub(crate) use matrix::Paint;

use crate::explain::oracle::World;
use crate::net::Family;
use crate::netfilter::BackendName;
use crate::ownership::INET_TABLE;
use crate::source::{Manifests, read_manifests};
use anyhow::{Context, Result, bail};
use cluster::DemoCluster;
use dir::{DemoDir, ManifestFiles};
use edits::LastGood;
use latency::LatencyTest;
use network::DemoNetwork;
use output::{InspectCommands, Output, mismatches};
use question::Finding;
use stale::{IdLock, cleanup_stale};
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use stop::{Stop, Stopped};

/// Settings of a demo.
pub(crate) struct DemoSettings<'a> {
    /// The directory of manifests; without it, the sample shop.
    pub(crate) manifests: Option<&'a Path>,
    /// Whether to measure once and end.
    pub(crate) once: bool,
    /// A part of the name of every namespace: `bw-ID-…`.
    pub(crate) id: &'a str,
    /// Whether the report is in colour.
    pub(crate) paint: Paint,
    /// Chooses the backend of the agents; called in a node's namespace.
    pub(crate) backend: &'a (dyn Fn() -> BackendName + Sync),
}

/// The results of the first measurement.
struct FirstRun {
    backend: BackendName,
    findings: Vec<Finding>,
    all_is_well: bool,
}

/// Builds the network, measures, follows edits until it is stopped unless it is to measure once, and removes
/// everything. Returns whether everything that was measured is as expected.
///
/// # Errors
/// The manifests cannot be read, or something cannot be built, measured or removed.
pub(crate) fn run(settings: &DemoSettings<'_>, out: &mut impl Write) -> Result<bool> {
    settings.run(out)
}

impl DemoSettings<'_> {
    fn run(&self, out: &mut impl Write) -> Result<bool> {
        let mut output = Output::new(out, self.paint);
        let stop = Stop::listen()?;
        let _claim = IdLock::take(self.id)?;
        match cleanup_stale(self.id).context("cannot remove what an earlier demo left")? {
            0 => {}
            left => output.report("swept", &format!("{left} namespaces that an earlier demo left"))?,
        }
        let dir = DemoDir::create(self.id)?;
        let directory = match self.manifests {
            Some(directory) => directory.to_owned(),
            None => dir.lay_out_shop()?,
        };
        let manifests = read_manifests(&directory)
            .map_err(|error| anyhow::anyhow!("cannot read {}:\n{error}", directory.display()))?;
        let files = ManifestFiles::read(&directory)?;
        dir.publish(&files)?;
        let cluster = DemoCluster::of(&manifests);
        introduce(&directory, &manifests, &cluster, &mut output)?;
        if cluster.places.is_empty() {
            bail!("there is no pod to measure in {}", directory.display());
        }

        let started = Instant::now();
        let mut network = DemoNetwork::build(self.id, &cluster, dir)?;
        self.introduce_network(&network, &cluster, started, &mut output)?;
        let done = self.perform(&mut network, &directory, files, &cluster, &mut output, &stop);
        let removed = network.remove();
        if removed.is_ok() {
            // Stdout may be closed by now.
            output.report("removed", "all controllers, namespaces and files of this demo").ok();
        }
        removed?;
        match done {
            Err(error) if !self.once && error.is::<Stopped>() => Ok(true),
            done => done,
        }
    }

    /// Everything between building the network and removing it.
    fn perform<W: Write>(
        &self,
        network: &mut DemoNetwork,
        directory: &Path,
        files: ManifestFiles,
        cluster: &DemoCluster,
        output: &mut Output<'_, W>,
        stop: &Stop,
    ) -> Result<bool> {
        let FirstRun { backend, findings, all_is_well } = self.measure(network, cluster, output, stop)?;
        if self.once {
            return Ok(all_is_well);
        }
        let Some(node) = network.nodes().first() else { bail!("there is no node") };
        let inspect = InspectCommands {
            testbed: &network.testbed,
            node,
            print_rules: print_rules(backend),
            http: agent::HTTP.to_string(),
            directory,
            findings: &findings,
        };
        output.look_around(&inspect.commands())?;
        let edits = if self.manifests.is_none() { ", your edits too" } else { "" };
        let staying = format!("edit {} and see. Ctrl-C removes everything{edits}", directory.display());
        output.report("staying", &staying)?;
        edits::watch_edits(network, directory, LastGood { files, findings, problem: None }, output, stop)?;
        Ok(true)
    }

    fn measure<W: Write>(
        &self,
        network: &mut DemoNetwork,
        cluster: &DemoCluster,
        output: &mut Output<'_, W>,
        stop: &Stop,
    ) -> Result<FirstRun> {
        stop.check()?;
        let started = Instant::now();
        let lawless = World { policies: Vec::new(), ..cluster.world.clone() };
        let control = network.measure(&network.questions(&lawless)?, stop)?;
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
        output.report("control", &open)?;

        let backend = self.choose_backend(network)?;
        let name = backend.name();
        let started = Instant::now();
        network.start_agents(name, stop)?;
        let (nodes, milliseconds) = (network.nodes().join(" and "), started.elapsed().as_millis());
        let ready = format!("`bridgewarden run --backend {name}` is ready on {nodes} ({milliseconds} ms)");
        output.report("controllers", &ready)?;

        let findings = network.measure(&network.questions(&cluster.world)?, stop)?;
        output.matrix(&findings)?;
        output.result(&findings)?;
        let mut all_is_well = mismatches(&findings).is_empty();
        match LatencyTest::choose(cluster, &findings) {
            Some(test) => match test.run(&network.testbed, &network.dir, stop)? {
                Ok(latency) => output.report("latency", &latency.to_string())?,
                Err(late) => {
                    all_is_well = false;
                    output.report("latency", &format!("! {late}"))?;
                }
            },
            None => output
                .report("latency", "not measured: no open TCP connection that one more policy would end")?,
        }
        Ok(FirstRun { backend, findings, all_is_well })
    }

    fn choose_backend(&self, network: &DemoNetwork) -> Result<BackendName> {
        let node = network.nodes().first().and_then(|node| network.testbed.node_namespace(node));
        Ok(node.context("there is no node")?.enter(|| (self.backend)())?)
    }

    fn introduce_network<W: Write>(
        &self,
        network: &DemoNetwork,
        cluster: &DemoCluster,
        started: Instant,
        output: &mut Output<'_, W>,
    ) -> std::io::Result<()> {
        let own = cluster.places.iter().filter(|place| !place.host_network).count();
        let (nodes, milliseconds) = (network.nodes(), started.elapsed().as_millis());
        let text = format!(
            "{} namespaces bw-{}-…: {} with a bridge each, a router, an outside, {own} pods ({milliseconds} ms)",
            nodes.len() + own + 2,
            self.id,
            nodes.join(", "),
        );
        output.report("network", &text)
    }
}

fn introduce<W: Write>(
    directory: &Path,
    manifests: &Manifests,
    cluster: &DemoCluster,
    output: &mut Output<'_, W>,
) -> std::io::Result<()> {
    let (pods, policies) = (manifests.pods.len(), manifests.policies.len());
    output.report("manifests", &format!("{} ({pods} pods, {policies} policies)", directory.display()))?;
    for invalid in &manifests.invalid {
        output.report("warning", &invalid.to_string())?;
    }
    for (kind, count) in &manifests.skipped {
        output.report("left out", &format!("{count} of kind {kind}"))?;
    }
    for (pod, reason) in &cluster.absent {
        output.report("left out", &format!("pod {pod}: {reason}"))?;
    }
    match cluster.sctp_ports {
        0 => Ok(()),
        ports => output.report("left out", &format!("{ports} SCTP ports: only TCP and UDP are measured")),
    }
}

/// The commands that print the rules of a backend, each with its program.
fn print_rules(backend: BackendName) -> Vec<(&'static str, String)> {
    match backend.variant() {
        Some(variant) => {
            let save = variant.save(Family::V4);
            vec![(save, format!("{save} -t filter")), ("ipset", "ipset list".to_owned())]
        }
        None => vec![("nft", format!("nft list table inet {INET_TABLE}"))],
    }
}
