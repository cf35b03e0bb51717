//! Measures Bridgewarden in a cluster of any size: a made-up cluster as a directory of manifests, the real daemon in a
//! network namespace of its own, and figures of what it costs.

mod cluster;
mod core;
mod crowd;
mod daemon;
mod events;
mod figure;
mod http;
mod life;

use anyhow::{Context, Result, ensure};
use bridgewarden::playground::{Layout, Playground};
use clap::Parser;
use cluster::{Cluster, Size};
use daemon::Program;
use figure::Figures;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Measures Bridgewarden in a made-up cluster. Needs root; touches only network namespaces of its own.
#[derive(Debug, Parser)]
#[command(name = "bridgewarden-bench", version)]
struct Bench {
    #[command(flatten)]
    size: Size,
    /// The program to measure; built in the release profile if not given
    #[arg(long, value_name = "PATH")]
    bridgewarden: Option<PathBuf>,
    /// Where to write the figures as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only writes the cluster's manifests into this directory, which must not exist yet
    #[arg(long, value_name = "DIR")]
    write_manifests: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Bench::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bridgewarden-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Bench {
    fn run(&self) -> Result<()> {
        let cluster = Cluster::new(&self.size)?;
        if let Some(directory) = &self.write_manifests {
            return cluster.write(directory);
        }
        let path = match &self.bridgewarden {
            Some(path) => path.clone(),
            None => build()?,
        };
        let directory = Scratch::new()?;
        let manifests = directory.path().join("manifests");
        cluster.write(&manifests)?;
        let log = directory.path().join("log");
        fs::create_dir(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let program = Program { path, manifests, log: log.join("daemon") };
        let id = format!("bench{}", std::process::id() % 10_000_000);
        let playground =
            Playground::build(&id, &Layout::new(vec![cluster::LOCAL_NODE.to_owned()], Vec::new()))?;
        let node = playground.node_namespace(cluster::LOCAL_NODE).context("the node has no namespace")?;
        let measured = node.enter(|| measure(&cluster, &program))?;
        playground.remove()?;
        let figures = measured?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", cluster.describe())?;
        write!(out, "{}", figures.markdown())?;
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&figures.json())?;
            fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Everything, from a thread in the node's network namespace.
fn measure(cluster: &Cluster, program: &Program) -> Result<Figures> {
    let mut figures = Figures::default();
    life::read_manifests(cluster, program, &mut figures)?;
    let daemon = life::first_start(program, &mut figures)?;
    events::measure(cluster, program, &daemon, &mut figures)?;
    life::scrape(&mut figures)?;
    crowd::measure(cluster, program, &mut figures)?;
    life::end(daemon, &mut figures)?;
    life::second_start(program, &mut figures)?;
    core::measure(cluster, program, &mut figures)?;
    Ok(figures)
}

/// Builds the program to be measured, beside this one.
fn build() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find out where this program is")?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        let built =
            Command::new(cargo).args(["build", "--release", "--quiet", "--bin", "bridgewarden"]).status();
        ensure!(built.context("cannot start cargo")?.success(), "bridgewarden cannot be built");
    }
    let path = own.with_file_name("bridgewarden");
    ensure!(path.exists(), "{} is not there; build it with cargo build --release", path.display());
    Ok(path)
}

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!("bridgewarden-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Scratch(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
