//! The thread of a testbed. It enters one namespace after another, so each socket is opened right after entering one.

use super::TestbedError;
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread that runs one single-threaded runtime.
#[derive(Debug)]
pub(super) struct Worker {
    handle: Handle,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start() -> Result<Worker, TestbedError> {
        let failed = |source| TestbedError::System {
            act: "start",
            object: "the testbed's thread".to_owned(),
            source,
            cure: "Raise the limits on threads and open files",
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, started) = mpsc::sync_channel::<io::Result<Handle>>(1);
        let body = move || match Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => {
                if ready.send(Ok(runtime.handle().clone())).is_ok() {
                    // An error means that the worker was dropped, which stops it as well.
                    runtime.block_on(stopped).ok();
                }
            }
            Err(error) => {
                ready.send(Err(error)).ok();
            }
        };
        let thread = std::thread::Builder::new().name("testbed".to_owned()).spawn(body).map_err(failed)?;
        let handle =
            started.recv().map_err(|_| failed(io::Error::other("it ended at once")))?.map_err(failed)?;
        Ok(Worker { handle, running: Some((stop, thread)) })
    }

    /// Runs `work` on the thread and waits for it.
    pub(super) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = mpsc::sync_channel(1);
        self.handle.spawn(async move { done.send(work.await).ok() });
        result.recv().expect("work on the testbed's thread does not panic, and ends before it")
    }

    /// Ends the thread; all its sockets are closed then.
    pub(super) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.send(()).ok();
            thread.join().ok();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}
