//! Measures Bridgewarden, and optionally another controller: a generated cluster on a real API server, a node in a network
//! namespace, real packets, and figures of how soon what is written holds and what that costs.

mod answer;
mod controller;
mod figure;
mod metrics;
mod one_run;
mod plot;
mod process;
mod promise;
mod report;
mod setup;
mod size;
mod trial;
mod udp_probe_stream;

use anyhow::{Context, Result};
use bridgewarden_bench::cluster::{GeneratedCluster, GeneratedPod};
use bridgewarden_bench::manifests::ClusterFiles;
use clap::{Parser, Subcommand, ValueEnum};
use controller::ControllerProcess;
use figure::Figures;
use setup::{BenchSettings, BenchSetup};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trial::{
    connections, costly, crowd, life, load, lock, packet, pod_start, policy, reach, remote, verify, wire,
};

/// Measures Bridgewarden in a generated cluster. Needs root; touches only network namespaces of its own.
#[derive(Debug, Parser)]
#[command(
    name = "bridgewarden-bench",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Bench {
    #[command(subcommand)]
    other: Option<OtherTask>,
    /// How large the cluster is: 1k, 10k or 100k pods
    #[arg(long, env = "SIZE", default_value = "10k", value_parser = size::NAMES)]
    size: String,
    /// Another controller's command, measured in turns with ours; {kubeconfig} and {node} in it are filled in
    #[arg(long, env = "PEER", value_name = "COMMAND", hide_env_values = true)]
    peer: Option<String>,
    /// The directory of etcd and kube-apiserver
    #[arg(long, env = "BRIDGEWARDEN_E2E_PROGRAMS", value_name = "DIR")]
    programs: Option<PathBuf>,
    /// The program to measure [default: the one beside this]
    #[arg(long, value_name = "FILE")]
    bridgewarden: Option<PathBuf>,
    /// The packet filter that it writes to: iptables-nft, iptables-legacy or nftables
    #[arg(long, env = "BACKEND", default_value = "iptables-nft")]
    backend: String,
    /// Where figures go
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Only these trials, not all
    #[arg(long, value_enum, value_name = "TRIAL", value_delimiter = ',')]
    only: Vec<Benchmark>,
    /// How many events of each kind are timed with Bridgewarden
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    events: usize,
    /// How many events of each kind are timed with the other controller
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    peer_events: usize,
}

/// What needs no API server, and no root.
#[derive(Debug, Subcommand)]
enum OtherTask {
    /// Measure explain and reach with the manifests of a generated cluster
    Answers {
        /// How large the cluster is
        #[arg(long, env = "SIZE", default_value = "10k", value_parser = size::NAMES)]
        size: String,
        /// The program to measure [default: the one beside this]
        #[arg(long, value_name = "FILE")]
        bridgewarden: Option<PathBuf>,
        /// How often each question is asked
        #[arg(long, value_name = "COUNT", default_value_t = 5)]
        runs: usize,
        /// Where the manifests go
        #[arg(long, value_name = "DIR", default_value = "target/bench/answers")]
        out: PathBuf,
    },
    /// Write the manifests of a generated cluster: as lists of YAML and JSON, and as a directory of many files
    Manifests {
        /// How large the cluster is
        #[arg(long, env = "SIZE", default_value = "10k", value_parser = size::NAMES)]
        size: String,
        /// Where they go
        directory: PathBuf,
    },
    /// Run a command once, and print the seconds, the KiB of memory and the exit code
    #[command(name = one_run::ONCE, hide = true)]
    Once {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

/// What is measured after the start on an empty kernel, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// How soon changes are enforced, by both controllers
    Events,
    /// Processor time for an event
    Cost,
    /// Updates that change nothing on the node
    Irrelevant,
    /// Many changes a second, and many at once
    Churn,
    /// A policy of thousands of peers, and another beside it
    Costly,
    /// Starts on a kernel that is already correct
    Restart,
    /// `bridgewarden verify` of the node
    Verify,
    /// The xtables lock
    Lock,
    /// Clients of the metrics
    Crowd,
    /// Connections through the node
    Connections,
    /// Established packets between two pods of the node
    Packet,
    /// What watchers cost the API server
    Wire,
    /// What share of a cluster of 5,000 nodes each node would watch, if it watched only what it needs
    Reach,
}

/// The number of turns in which controllers are measured.
const TURNS: usize = 2;

fn main() -> ExitCode {
    let bench = Bench::parse();
    let done = match &bench.other {
        Some(other) => other.run(),
        None => bench.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes progress to stderr.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The program to measure: the given one, or the one beside this.
fn program(given: Option<&Path>) -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("bridgewarden"));
    let program = given.map(Path::to_owned).map_or_else(beside, anyhow::Ok)?;
    setup::require(&program, "build it with make build")?;
    Ok(program)
}

impl OtherTask {
    fn run(&self) -> Result<()> {
        match self {
            OtherTask::Answers { size, bridgewarden, runs, out } => {
                let program = program(bridgewarden.as_deref())?;
                let cluster = GeneratedCluster::new(&size::of(size)?)?;
                let mut figures = Figures::of(vec![answer::NAME.to_owned()]);
                answer::measure(&program, &cluster, &out.join(size), *runs, &mut figures)?;
                report::print(&cluster.describe(), &figures)
            }
            OtherTask::Manifests { size, directory } => {
                std::fs::create_dir_all(directory)
                    .with_context(|| format!("cannot make {}", directory.display()))?;
                ClusterFiles::write(directory, &GeneratedCluster::new(&size::of(size)?)?).map(drop)
            }
            OtherTask::Once { command } => one_run::run(command),
        }
    }
}

impl Bench {
    fn run(&self) -> Result<()> {
        let bridgewarden = program(self.bridgewarden.as_deref())?;
        let programs =
            self.programs.clone().context("--programs names no directory: run bench/run, which builds it")?;
        setup::require(&programs.join("kube-apiserver"), "run bench/run, which builds it")?;
        let out = std::path::absolute(&self.out).context("cannot find where figures go")?;
        let settings = BenchSettings {
            bridgewarden,
            backend: self.backend.clone(),
            programs,
            peer: self.peer.clone().filter(|command| !command.is_empty()),
            directory: out.join("run"),
        };
        let cluster = GeneratedCluster::new(&size::of(&self.size)?)?;
        let described = cluster.describe();
        say(&described);
        let setup = BenchSetup::build(&settings, cluster)?;
        let controllers = [Some(&setup.own), setup.peer.as_ref()].into_iter().flatten();
        let mut figures = Figures::of(controllers.map(|subject| subject.name.clone()).collect());
        let measured = self.measure(&setup, &mut figures);
        report::write(&out, &self.size, &described, &figures)?;
        measured?;
        setup.remove()
    }

    fn measure(&self, setup: &BenchSetup, figures: &mut Figures) -> Result<()> {
        let mut peer = setup.peer.as_ref().map(|peer| life::first_start(setup, peer, figures)).transpose()?;
        peer.as_ref().map(ControllerProcess::hold).transpose()?;
        let mut own = life::first_start(setup, &setup.own, figures)?;
        if self.wants(Benchmark::Events) {
            self.time_in_turns(setup, &mut own, peer.as_mut(), figures)?;
        }
        if let Some(peer) = peer {
            life::memory(&peer, "in the end", figures)?;
            peer.release()?;
            peer.stop()?;
        }
        if self.wants(Benchmark::Cost) {
            remote::cost(setup, &mut own, &setup.cluster.newcomers(500), figures)?;
        }
        if self.wants(Benchmark::Irrelevant) {
            load::irrelevant(setup, &mut own, figures)?;
        }
        if self.wants(Benchmark::Churn) {
            load::churn(setup, &mut own, &setup.cluster.newcomers(1_000), figures)?;
        }
        life::memory(&own, "in the end", figures)?;
        if self.wants(Benchmark::Costly) {
            costly::measure(setup, &mut own, figures)?;
        }
        if self.wants(Benchmark::Restart) {
            own = life::restart(setup, own, 5, figures)?;
        }
        if self.wants(Benchmark::Verify) {
            verify::measure(setup, figures)?;
        }
        if self.wants(Benchmark::Lock) {
            lock::measure(setup, &mut own, figures)?;
        }
        if self.wants(Benchmark::Crowd) {
            crowd::measure(setup, &mut own, figures)?;
        }
        if self.wants(Benchmark::Connections) {
            own = connections::measure(setup, own, figures)?;
        }
        if self.wants(Benchmark::Packet) {
            own = packet::measure(setup, own, figures)?;
        }
        own.stop()?;
        if self.wants(Benchmark::Wire) {
            wire::measure(setup, &setup.cluster.newcomers(300), figures)?;
        }
        if self.wants(Benchmark::Reach) {
            reach::work_out(&setup.own.name, figures)?;
        }
        Ok(())
    }

    fn wants(&self, trial: Benchmark) -> bool {
        self.only.is_empty() || self.only.contains(&trial)
    }

    /// Times all kinds of events with both controllers in turns; the one that is not timed is stopped.
    fn time_in_turns(
        &self,
        setup: &BenchSetup,
        own: &mut ControllerProcess,
        mut peer: Option<&mut ControllerProcess>,
        figures: &mut Figures,
    ) -> Result<()> {
        let pods = setup.cluster.newcomers(self.events + self.peer_events);
        let (of_own, of_peer) = pods.split_at(self.events);
        for turn in 0..TURNS {
            self.time(setup, own, part(of_own, turn), figures)?;
            if let Some(peer) = &mut peer {
                own.hold()?;
                peer.release()?;
                self.time(setup, peer, part(of_peer, turn), figures)?;
                peer.hold()?;
                own.release()?;
            }
        }
        Ok(())
    }

    /// One turn: everything that is timed, for one controller after the other.
    fn time(
        &self,
        setup: &BenchSetup,
        controller: &mut ControllerProcess,
        pods: &[GeneratedPod],
        figures: &mut Figures,
    ) -> Result<()> {
        remote::time(setup, controller, pods, figures)?;
        policy::time(setup, controller, pods.len().min(self.events / 4), figures)?;
        pod_start::time(setup, controller, pods.len().min(self.events / 4), figures)
    }
}

/// The part of a list that belongs to a turn.
fn part<T>(all: &[T], turn: usize) -> &[T] {
    &all[turn * all.len() / TURNS..(turn + 1) * all.len() / TURNS]
}
