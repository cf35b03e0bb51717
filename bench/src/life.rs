//! The daemon's beginning and end: from nothing, at rest, and over a kernel that is right already.

use crate::cluster::Cluster;
use crate::daemon::{Daemon, Program};
use crate::figure::{Figures, Unit};
use crate::http::{self, Metrics};
use anyhow::{Result, ensure};
use bridgewarden::source::{Changed, Directory};
use std::fs;
use std::time::{Duration, Instant};

/// So rarely that none comes while something else is measured.
const NO_AUDIT: u32 = 86_400;

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Reads the manifests in this process, all of them and then single files, to tell how long that takes.
pub(crate) fn read_manifests(cluster: &Cluster, program: &Program, figures: &mut Figures) -> Result<()> {
    let begun = Instant::now();
    let mut directory = Directory::new(&program.manifests);
    let loaded = directory.load();
    figures.add("manifests: read all", Unit::Milliseconds, milliseconds(begun.elapsed()));
    let sound = loaded.error.is_none() && loaded.refused.is_empty();
    ensure!(sound, "the made-up manifests are wrong: {:?}", loaded.error);
    let single = program.manifests.join("single/one.yaml");
    let mut took = Vec::new();
    for pod in cluster.newcomers(200) {
        fs::write(&single, pod.manifest())?;
        let begun = Instant::now();
        let loaded = directory.look(&Changed::Files([single.clone()].into()), |_| {});
        took.push(milliseconds(begun.elapsed()));
        ensure!(!loaded.changes.is_empty(), "a new pod was not found in the manifests");
    }
    figures.add_samples("manifests: read the file of one pod", Unit::Milliseconds, took);
    fs::remove_file(&single)?;
    let begun = Instant::now();
    directory.load();
    figures.add("manifests: look everywhere for changes", Unit::Milliseconds, milliseconds(begun.elapsed()));
    Ok(())
}

/// Starts the daemon in an empty network namespace.
pub(crate) fn first_start(program: &Program, figures: &mut Figures) -> Result<Daemon> {
    let mut daemon = program.start(NO_AUDIT)?;
    let enforced = daemon.wait_for("[+]sync ok")?;
    let ready = daemon.wait_for("readyz check passed")?;
    figures.add_limited("first start: to enforcement", Unit::Milliseconds, milliseconds(enforced), 2_000.0);
    figures.add("first start: to readiness", Unit::Milliseconds, milliseconds(ready));
    std::thread::sleep(Duration::from_millis(1_500));
    let metrics = Metrics::read()?;
    for phase in ["compile", "read", "render", "apply", "total"] {
        let seconds = metrics.get(&format!("sync_duration_seconds_sum{{phase=\"{phase}\"}}"));
        figures.add(&format!("first start: phase {phase}"), Unit::Milliseconds, seconds * 1e3);
    }
    for (name, series) in [
        ("policies with pods on this node", "active_policies"),
        ("chains of IPv4", "chains{family=\"ipv4\"}"),
        ("rules of IPv4", "rules{family=\"ipv4\"}"),
        ("sets of IPv4", "sets{family=\"ipv4\"}"),
        ("set elements of IPv4", "set_members{family=\"ipv4\"}"),
    ] {
        figures.add(name, Unit::Count, metrics.get(series));
    }
    let memory = daemon.memory()?;
    figures.add("first start: resident at rest", Unit::Mebibytes, memory.resident);
    figures.add_limited("first start: resident at most", Unit::Mebibytes, memory.highest, 32.0);
    Ok(daemon)
}

/// Asks the daemon for its numbers as Prometheus does.
pub(crate) fn scrape(figures: &mut Figures) -> Result<()> {
    let mut took = Vec::new();
    let mut bytes = 0;
    for _ in 0..200 {
        let begun = Instant::now();
        bytes = http::page("/metrics")?.len();
        took.push(milliseconds(begun.elapsed()));
    }
    figures.add_samples("scrape: time", Unit::Milliseconds, took);
    figures.limit(5.0);
    figures.add_limited("scrape: bytes", Unit::Count, bytes as f64, 1_000_000.0);
    Ok(())
}

/// Looks at the daemon after its work, and ends it.
pub(crate) fn end(daemon: Daemon, figures: &mut Figures) -> Result<()> {
    let memory = daemon.memory()?;
    figures.add("after all events: resident at rest", Unit::Mebibytes, memory.resident);
    figures.add_limited("after all events: resident at most", Unit::Mebibytes, memory.highest, 32.0);
    daemon.stop()
}

/// Starts the daemon over a kernel that is right, and lets it compare the kernel once more.
pub(crate) fn second_start(program: &Program, figures: &mut Figures) -> Result<()> {
    let mut daemon = program.start(2)?;
    let enforced = daemon.wait_for("[+]sync ok")?;
    figures.add("restart: to enforcement", Unit::Milliseconds, milliseconds(enforced));
    let first = Metrics::read()?;
    let reads = "sync_duration_seconds_count{phase=\"read\"}";
    let audited = daemon.wait_until(|metrics| {
        metrics.growth(&first, reads) >= 1.0 && metrics.growth(&first, "syncs_total{result=\"ok\"}") >= 1.0
    })?;
    let writes = |metrics: &Metrics| -> f64 {
        ["set", "rules"]
            .iter()
            .map(|kind| metrics.get(&format!("kernel_writes_total{{kind=\"{kind}\"}}")))
            .sum()
    };
    figures.add_limited("restart and audit: kernel writes", Unit::Count, writes(&audited), 0.0);
    let read = audited.growth(&first, "sync_duration_seconds_sum{phase=\"read\"}");
    figures.add("audit: kernel read", Unit::Milliseconds, read * 1e3);
    let memory = daemon.memory()?;
    figures.add("restart and audit: resident at rest", Unit::Mebibytes, memory.resident);
    figures.add_limited("restart and audit: resident at most", Unit::Mebibytes, memory.highest, 32.0);
    daemon.stop()
}
