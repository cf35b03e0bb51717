//! Connections that are attempted at a fixed rate during a change of controller or of its version, and what became of each.

use anyhow::{Context, Result, ensure};
use bridgewarden::model::PodKey;
use bridgewarden::testbed::Netns;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// An attempt ends before its first packet would be sent again (one second), so that each packet that is dropped counts.
const LIMIT: Duration = Duration::from_millis(900);

/// The source ports, one after the other: a port that is used again while connection tracking still knows its last connection
/// may be called invalid, which kube-router drops.
const PORTS: std::ops::RangeInclusive<u16> = 20_000..=60_000;

/// A connection that is attempted again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionPair {
    /// The pod that connects.
    pub from: PodKey,
    /// The pod that listens.
    pub to: PodKey,
    /// Where it listens.
    pub destination: SocketAddr,
    /// Whether policies allow the connection.
    pub is_allowed: bool,
}

/// Threads that dial until they are stopped, one for each pod.
#[derive(Debug)]
pub struct ChangeProbes {
    stop: Arc<AtomicBool>,
    dialling: Vec<JoinHandle<Result<Vec<PairTally>>>>,
    begun: Instant,
    marks: Vec<(Instant, String)>,
}

/// What became of the attempts of a pair.
#[derive(Clone, Debug)]
struct PairTally {
    pair: ConnectionPair,
    as_policies_say: u64,
    /// When attempts began that policies do not explain, and how they ended.
    wrong: Vec<(Instant, String)>,
}

/// The sum over all pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Connections that policies allow.
    pub allowed: u64,
    /// Those of them that were denied.
    pub wrongly_denied: u64,
    /// Connections that policies deny.
    pub denied: u64,
    /// Those of them that were let in.
    pub leaked: u64,
}

impl ChangeProbes {
    /// Starts to dial each pair once in a `period`, from the network namespace of its pod.
    ///
    /// # Errors
    /// A pod has no namespace.
    pub fn start(
        pairs: Vec<ConnectionPair>,
        period: Duration,
        namespace_of: impl Fn(&PodKey) -> Option<Netns>,
    ) -> Result<ChangeProbes> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut by_pod: BTreeMap<_, Vec<ConnectionPair>> = BTreeMap::new();
        for pair in pairs {
            by_pod.entry(pair.from.clone()).or_default().push(pair);
        }
        let mut dialling = Vec::new();
        for (pod, pairs) in by_pod {
            let namespace = namespace_of(&pod).with_context(|| format!("{pod} does not run"))?;
            let stop = Arc::clone(&stop);
            dialling.push(std::thread::spawn(move || dial(&namespace, pairs, period, &stop)));
        }
        Ok(ChangeProbes { stop, dialling, begun: Instant::now(), marks: Vec::new() })
    }

    /// Notes what happens now, so that wrong outcomes can be placed.
    pub fn mark(&mut self, what: &str) {
        self.marks.push((Instant::now(), what.to_owned()));
    }

    /// Stops, and returns the counts and a report: what happened when, and what was wrong.
    ///
    /// # Errors
    /// A pair was never dialled.
    pub fn end(self) -> Result<(ChangeCounts, String)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut tallies = Vec::new();
        for thread in self.dialling {
            tallies.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        let since = |at: Instant| at.saturating_duration_since(self.begun).as_secs_f64();
        let mut counts = ChangeCounts::default();
        let mut events: Vec<(Instant, String)> = self.marks.clone();
        let mut report = String::new();
        for PairTally { pair, as_policies_say, wrong } in &tallies {
            let ConnectionPair { from, to, destination, is_allowed } = pair;
            let count = wrong.len() as u64;
            ensure!(
                as_policies_say + count > 0,
                "{from} -> {to} ({destination}) was never dialled: give the trial more processor time"
            );
            let (all, amiss) = match is_allowed {
                true => (&mut counts.allowed, &mut counts.wrongly_denied),
                false => (&mut counts.denied, &mut counts.leaked),
            };
            *all += as_policies_say + count;
            *amiss += count;
            let word = if *is_allowed { "allowed" } else { "denied" };
            writeln!(
                report,
                "{word} {from} -> {to} ({destination}): {as_policies_say} right, {count} wrong"
            )?;
            let shown = wrong.iter().take(20);
            events.extend(
                shown.map(|(at, how)| (*at, format!("WRONG: {word} {from} -> {to} ({destination}) {how}"))),
            );
        }
        events.sort_by_key(|(at, _)| *at);
        for (at, what) in events {
            writeln!(report, "{:7.3} s  {what}", since(at))?;
        }
        Ok((counts, report))
    }
}

fn dial(
    namespace: &Netns,
    pairs: Vec<ConnectionPair>,
    period: Duration,
    stop: &AtomicBool,
) -> Result<Vec<PairTally>> {
    // Its sockets are those of the namespace in which its only thread is.
    let inside = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(dial_until(pairs, period, stop)))
    };
    namespace.enter(inside)?.context("cannot start a runtime")
}

async fn dial_until(pairs: Vec<ConnectionPair>, period: Duration, stop: &AtomicBool) -> Vec<PairTally> {
    let new = |pair: &ConnectionPair| PairTally { pair: pair.clone(), as_policies_say: 0, wrong: Vec::new() };
    let mut tallies: Vec<PairTally> = pairs.iter().map(new).collect();
    let mut attempts = JoinSet::new();
    let mut ports = PORTS.cycle();
    let mut tick = interval(period);
    // After a pause of the processor, connections are not made up for all at once.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        for (place, pair) in pairs.iter().enumerate() {
            let (to, is_allowed, begun) = (pair.destination, pair.is_allowed, Instant::now());
            let from = SocketAddr::from(([0, 0, 0, 0], ports.next().unwrap_or_default()));
            attempts.spawn(async move { (place, begun, attempt(from, to, is_allowed).await) });
        }
        while let Some(done) = attempts.try_join_next() {
            count(&mut tallies, done.expect("an attempt does not panic"));
        }
    }
    while let Some(done) = attempts.join_next().await {
        count(&mut tallies, done.expect("an attempt does not panic"));
    }
    tallies
}

fn count(tallies: &mut [PairTally], (place, begun, wrong): (usize, Instant, Option<String>)) {
    match wrong {
        None => tallies[place].as_policies_say += 1,
        Some(how) => tallies[place].wrong.push((begun, how)),
    }
}

/// Attempts one connection; returns what is wrong about its outcome.
async fn attempt(from: SocketAddr, to: SocketAddr, is_allowed: bool) -> Option<String> {
    let mut is_open = false;
    let asked = timeout(LIMIT, ask(from, to, &mut is_open)).await;
    match (is_allowed, asked) {
        (true, Ok(Ok(()))) => None,
        (true, Ok(Err(error))) => Some(format!("ended: {error} (connected: {is_open})")),
        (true, Err(_)) => Some(format!("had no answer for {LIMIT:?} (connected: {is_open})")),
        // A connection that opens is let in, whatever becomes of it.
        (false, _) => is_open.then(|| "was let in".to_owned()),
    }
}

/// Connects, asks the listener for its name and waits for the answer.
async fn ask(from: SocketAddr, to: SocketAddr, is_open: &mut bool) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let mut stream = socket.connect(to).await?;
    *is_open = true;
    // A reset leaves neither side in TIME_WAIT, so that ports do not run out.
    stream.set_zero_linger()?;
    stream.write_all(b"?").await?;
    stream.read_u8().await.map(drop)
}
