//! What the loop hands to the kernel's thread, and what comes back.

use super::cuts::{Failures, MarkChanges};
use crate::apply::{Actual, Connection, Kernel, KernelError, Step, Tally};
use crate::net::Protocol;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A piece of work for the kernel's thread.
#[derive(Debug)]
pub(super) enum Work {
    /// Read all that is ours.
    Read,
    /// Carry out steps.
    Commit { steps: Vec<Step> },
    /// List the live connections of these addresses.
    List { addresses: BTreeSet<IpAddr> },
    /// Cut and pardon connections; this is our bit of their marks.
    Cut { changes: MarkChanges, mark: u32 },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Read(Box<Actual>),
    Committed,
    Listed(Vec<Connection>),
    /// All but these were cut or pardoned.
    Cut(Failures),
}

/// How a piece of work ended.
pub(super) struct WorkResult {
    pub(super) done: Result<Done, KernelError>,
    pub(super) took: Duration,
    pub(super) tally: Tally,
}

/// How long the end may wait for work that is under way.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// The thread that the kernel is spoken to from. Always the same one: what is read comes and goes in large pieces, and
/// the allocator keeps for each thread what it once had.
pub(super) struct KernelThread {
    requests: Option<mpsc::Sender<(Work, oneshot::Sender<WorkResult>)>>,
    /// Tells nothing, and that at the thread's end.
    end: mpsc::Receiver<()>,
}

impl KernelThread {
    /// Starts the thread.
    pub(super) fn new(mut kernel: Box<dyn Kernel + Send>) -> KernelThread {
        let (requests, inbox) = mpsc::channel::<(Work, oneshot::Sender<WorkResult>)>();
        let (ending, end) = mpsc::channel();
        std::thread::spawn(move || {
            let _ending = ending;
            for (work, answer) in inbox {
                // An error means that the controller is gone; what it asked for is done all the same.
                answer.send(perform(kernel.as_mut(), work)).ok();
            }
        });
        KernelThread { requests: Some(requests), end }
    }

    /// Hands over a piece of work.
    pub(super) fn start(&self, work: Work) -> oneshot::Receiver<WorkResult> {
        let (answer, answered) = oneshot::channel();
        if let Some(requests) = &self.requests {
            // An error shows in the answer, too.
            requests.send((work, answer)).ok();
        }
        answered
    }
}

impl Drop for KernelThread {
    /// Lets work that is under way end well: the process may be about to.
    fn drop(&mut self) {
        self.requests = None;
        self.end.recv_timeout(SHUTDOWN_GRACE).ok();
    }
}

/// Does a piece of work. Blocks.
fn perform(kernel: &mut dyn Kernel, work: Work) -> WorkResult {
    let start = Instant::now();
    let done = attempt(kernel, work);
    WorkResult { done, took: start.elapsed(), tally: kernel.tally() }
}

fn attempt(kernel: &mut dyn Kernel, work: Work) -> Result<Done, KernelError> {
    match work {
        Work::Read => Actual::read(kernel).map(|actual| Done::Read(Box::new(actual))),
        Work::Commit { steps } => {
            kernel.commit_all(&steps)?;
            Ok(Done::Committed)
        }
        Work::List { addresses } => kernel.connections_of(&addresses).map(Done::Listed),
        Work::Cut { changes, mark } => Ok(Done::Cut(cut(kernel, changes, mark))),
    }
}

/// Cuts and pardons connections. One that fails keeps none of the others waiting.
fn cut(kernel: &mut dyn Kernel, MarkChanges { cut, unmark }: MarkChanges, mark: u32) -> Failures {
    let mut failures = Failures::new();
    for connection in cut {
        let done = if connection.protocol == Protocol::Tcp.number() {
            kernel.set_mark(&connection, mark)
        } else {
            kernel.delete(&connection)
        };
        failures.extend(done.err().map(|error| (connection, error)));
    }
    for connection in unmark {
        failures.extend(kernel.clear_mark(&connection, mark).err().map(|error| (connection, error)));
    }
    failures
}
