//! Whether scrapes and idle connections delay enforcement.

use super::policy::shut;
use crate::controller::ControllerProcess;
use crate::figure::{Figures, Unit};
use crate::metrics::{self, AgentMetrics};
use crate::setup::BenchSetup;
use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// The interval of scrapes under load.
const SCRAPE_EVERY: Duration = Duration::from_millis(10);
/// The number of idle connections, and the time after which each reconnects: when the agent has closed it.
const IDLERS: usize = 10_000;
const ANEW: Duration = Duration::from_secs(5);
/// How many connections are opened at once, and the pause between such groups: a connection for which the listener has
/// no room is retried only after a second.
const TOGETHER: usize = 50;
const APART: Duration = Duration::from_millis(5);
/// Syncs are measured in alternating rounds with and without load, so that other work on the machine affects both.
const ROUNDS: usize = 6;
const SYNCS: usize = 10;
/// The pause after a change.
const REST: Duration = Duration::from_millis(150);
/// File descriptors in addition to those of idle connections.
const MORE_FILES: u64 = 100;

/// Compares the time from receiving a policy to enforcing it, with and without load.
pub(crate) fn measure(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    figures: &mut Figures,
) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = IDLERS as u64 + MORE_FILES;
    ensure!(most >= wanted, "{IDLERS} connections need {wanted} file descriptors; raise `ulimit -Hn {most}`");
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let (mut alone, mut crowded, mut scraped) = (Vec::new(), Vec::new(), Vec::new());
    controller.wait_until_idle()?;
    for round in 0..ROUNDS {
        syncs(setup, controller, &format!("alone-{round}"), &mut alone)?;
        let crowd = ClientLoad::gather(&controller.subject.namespace)?;
        syncs(setup, controller, &format!("crowd-{round}"), &mut crowded)?;
        scraped.push(crowd.leave()?);
    }
    let name = &controller.subject.name;
    figures.add_samples(name, "a policy from seen to enforced", Unit::Milliseconds, alone);
    figures.add_samples(
        name,
        "… beside a crowd of 10,000 idle connections, made anew every 5 s, and scrapes",
        Unit::Milliseconds,
        crowded,
    );
    figures.add_samples(name, "… of which there were, of 100 that were tried", Unit::PerSecond, scraped);
    Ok(())
}

/// Creates and deletes policies. The metrics are read only before and after each.
fn syncs(
    setup: &BenchSetup,
    controller: &ControllerProcess,
    name: &str,
    samples: &mut Vec<f64>,
) -> Result<()> {
    const SUM: &str = "seen_to_enforced_seconds_sum";
    let objects = setup.objects()?;
    for index in 0..SYNCS {
        let policy = [shut(&format!("{name}-{}", index / 2))];
        let before = controller.metrics()?;
        if index % 2 == 0 {
            objects.create(&policy)?
        } else {
            objects.delete(&policy)?
        }
        sleep(REST);
        let is_enforced = |now: &AgentMetrics| now.enforced() > before.enforced();
        let after = controller.wait_for_metrics(is_enforced)?;
        samples.push(after.growth(&before, SUM) / (after.enforced() - before.enforced()) * 1e3);
    }
    Ok(())
}

/// Threads that scrape, and threads that hold idle connections.
struct ClientLoad {
    over: Arc<AtomicBool>,
    begun: Instant,
    scrapes: JoinHandle<Result<usize>>,
    idlers: JoinHandle<Result<()>>,
}

impl ClientLoad {
    /// Starts the load, and waits until all are connected.
    fn gather(at: &Netns) -> Result<ClientLoad> {
        let (over, connected) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let idlers = {
            let (at, over, connected) = (at.clone(), Arc::clone(&over), Arc::clone(&connected));
            std::thread::spawn(move || at.enter(|| idle(&over, &connected))?)
        };
        while connected.load(Ordering::Relaxed) < IDLERS && !idlers.is_finished() {
            sleep(SCRAPE_EVERY);
        }
        let scrapes = {
            let (at, over) = (at.clone(), Arc::clone(&over));
            std::thread::spawn(move || scrape(&at, &over))
        };
        Ok(ClientLoad { over, begun: Instant::now(), scrapes, idlers })
    }

    /// Ends the load, and returns its scrapes per second.
    fn leave(self) -> Result<f64> {
        let lasted = self.begun.elapsed();
        self.over.store(true, Ordering::Relaxed);
        let scrapes = self.scrapes.join().ok().context("a scraper panicked")??;
        self.idlers.join().ok().context("an idler panicked")??;
        Ok(scrapes as f64 / lasted.as_secs_f64())
    }
}

fn scrape(at: &Netns, over: &AtomicBool) -> Result<usize> {
    let mut count = 0;
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        metrics::page(at, "/metrics").context("cannot read the metrics under load")?;
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
            next = (next + ANEW / IDLERS as u32).max(Instant::now() - ANEW);
            sleep(next.saturating_duration_since(Instant::now()));
        } else if connections.len().is_multiple_of(TOGETHER) {
            sleep(APART);
        }
        connections.push_back(TcpStream::connect(metrics::ADDRESS).context("an idler cannot connect")?);
        connected.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
