//! Whether those who ask for numbers, or connect and say nothing, delay what the daemon is for.

use crate::cluster::Cluster;
use crate::daemon::Program;
use crate::figure::{Figures, Unit};
use crate::http::{self, Metrics};
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// How often the numbers are asked for while there is a crowd.
const SCRAPE_EVERY: Duration = Duration::from_millis(10);
/// How many say nothing, and after how long each connects anew: when the daemon has closed the connection.
const IDLERS: usize = 10_000;
const ANEW: Duration = Duration::from_secs(5);
/// Syncs are measured in rounds, without a crowd and with one by turns, so that other work on the machine is the same.
const ROUNDS: usize = 8;
const SYNCS: usize = 10;
/// How long the daemon is left alone after a change, and how long it may take for it at most.
const REST: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(20);
/// File descriptors besides those of idlers.
const MORE_FILES: u64 = 100;

/// Compares how long a policy takes from seen to enforced, alone and in a crowd.
pub(crate) fn measure(cluster: &Cluster, program: &Program, figures: &mut Figures) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = IDLERS as u64 + MORE_FILES;
    ensure!(most >= wanted, "{IDLERS} connections need {wanted} file descriptors; raise `ulimit -Hn {most}`");
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let path = program.manifests.join("single/crowd.yaml");
    let (mut alone, mut crowded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        syncs(cluster, &path, &mut alone)?;
        let crowd = Crowd::gather()?;
        syncs(cluster, &path, &mut crowded)?;
        crowd.leave()?;
    }
    let name = "one policy from seen to kernel";
    let medians = [&mut alone, &mut crowded].map(|samples| median(samples));
    figures.add_samples(&format!("{name}, alone"), Unit::Milliseconds, alone);
    figures.add_samples(
        &format!("{name}, with 100 scrapes a second and 10,000 idle connections"),
        Unit::Milliseconds,
        crowded,
    );
    let delay = (medians[1] / medians[0] - 1.0) * 100.0;
    figures.add_limited("delay of a sync by that crowd", Unit::Percent, delay, 10.0);
    Ok(())
}

/// A policy comes and goes. The daemon is asked for its numbers only before and after.
fn syncs(cluster: &Cluster, path: &Path, samples: &mut Vec<f64>) -> Result<()> {
    for number in 0..SYNCS {
        let before = Metrics::read()?;
        if number % 2 == 0 {
            let draft = path.with_file_name(".spare");
            fs::write(&draft, cluster.local_policy(0))?;
            fs::rename(&draft, path)?;
        } else {
            fs::remove_file(path)?;
        }
        let begun = Instant::now();
        let (after, syncs) = loop {
            sleep(REST);
            let after = Metrics::read()?;
            let syncs = after.enforced() - before.enforced();
            if syncs >= 1.0 {
                break (after, syncs);
            }
            ensure!(begun.elapsed() < PATIENCE, "a policy is not enforced after {PATIENCE:?}");
        };
        samples.push(after.seen_to_enforced(&before) / syncs * 1e3);
    }
    Ok(())
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Those who scrape, and those who idle.
struct Crowd {
    over: Arc<AtomicBool>,
    begun: Instant,
    scrapes: JoinHandle<Result<usize>>,
    idlers: JoinHandle<Result<()>>,
}

impl Crowd {
    /// Begins, and waits until all are connected.
    fn gather() -> Result<Crowd> {
        let (over, connected) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let idlers = {
            let (over, connected) = (Arc::clone(&over), Arc::clone(&connected));
            std::thread::spawn(move || idle(&over, &connected))
        };
        while connected.load(Ordering::Relaxed) < IDLERS && !idlers.is_finished() {
            sleep(SCRAPE_EVERY);
        }
        let scrapes = {
            let over = Arc::clone(&over);
            std::thread::spawn(move || scrape(&over))
        };
        Ok(Crowd { over, begun: Instant::now(), scrapes, idlers })
    }

    /// Ends it, and makes sure that it was one.
    fn leave(self) -> Result<()> {
        let due = self.begun.elapsed().as_secs_f64() / SCRAPE_EVERY.as_secs_f64();
        self.over.store(true, Ordering::Relaxed);
        let scrapes = self.scrapes.join().ok().context("a scraper panicked")??;
        self.idlers.join().ok().context("an idler panicked")??;
        ensure!(scrapes as f64 >= 0.9 * due, "only {scrapes} of {due:.0} scrapes could be made");
        Ok(())
    }
}

fn scrape(over: &AtomicBool) -> Result<usize> {
    let mut count = 0;
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        http::page("/metrics").context("in a crowd, the numbers are not told")?;
        count += 1;
        next += SCRAPE_EVERY;
        sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(count)
}

fn idle(over: &AtomicBool, connected: &AtomicUsize) -> Result<()> {
    let mut connections = VecDeque::with_capacity(IDLERS);
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        if connections.len() >= IDLERS {
            connections.pop_front();
            next += ANEW / IDLERS as u32;
            sleep(next.saturating_duration_since(Instant::now()));
        }
        connections.push_back(TcpStream::connect(http::ADDRESS).context("an idler cannot connect")?);
        connected.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
