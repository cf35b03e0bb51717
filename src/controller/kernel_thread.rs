//! The thread that does longer work in the kernel.

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

/// How long the end of the agent may wait for work that is in progress.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// The thread that does longer work in the kernel. One thread does all of it, because what is read is large, and the
/// allocator keeps freed memory for each thread separately.
pub(super) struct KernelThread {
    requests: Option<mpsc::Sender<(Work, oneshot::Sender<WorkResult>)>>,
    /// Carries no messages; it is closed when the thread ends.
    end: mpsc::Receiver<()>,
    /// When the work in progress was handed over, and the channel that returns its result.
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
                // An error means that the controller has ended; the work is done all the same.
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
            // If the thread has ended, the answer shows it, too.
            requests.send((work, answer)).ok();
        }
    }

    /// Waits for the result of the work in progress, and returns it with the time when the work was handed over. Waits
    /// forever if there is none. No result is lost if the future is dropped.
    pub(super) async fn returned(&mut self) -> (Instant, WorkResult) {
        let Some((started, answered)) = &mut self.under_way else { return std::future::pending().await };
        let result = answered.await.expect("the kernel's thread does not panic");
        let started = *started;
        self.under_way = None;
        (started, result)
    }
}

impl Drop for KernelThread {
    /// Waits for work in progress, as the process may be about to end.
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
