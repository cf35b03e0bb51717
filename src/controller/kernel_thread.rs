//! The thread that the kernel is spoken to from, for what takes longer than a request or two.

use super::work::{Done, Work};
use crate::apply::{Kernel, KernelError, Tally};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

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
    /// When the work under way was handed over, and where its end is reported.
    under_way: Option<(Instant, oneshot::Receiver<WorkResult>)>,
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
        KernelThread { requests: Some(requests), end, under_way: None }
    }

    /// Hands over a piece of work.
    pub(super) fn start(&mut self, work: Work) {
        let (answer, answered) = oneshot::channel();
        self.under_way = Some((Instant::now(), answered));
        if let Some(requests) = &self.requests {
            // An error shows in the answer, too.
            requests.send((work, answer)).ok();
        }
    }

    /// How the work under way ended, and when it was handed over. Waits forever if there is none. Loses nothing if it is dropped.
    pub(super) async fn returned(&mut self) -> (Instant, WorkResult) {
        let Some((started, answered)) = &mut self.under_way else { return std::future::pending().await };
        let result = answered.await.expect("the kernel's thread does not panic");
        let started = *started;
        self.under_way = None;
        (started, result)
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
    let done = work.perform(kernel);
    WorkResult { done, took: start.elapsed(), tally: kernel.tally() }
}
