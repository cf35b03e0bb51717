//! Stopping by signals, and waiting for a signal or an edit.

use crate::source::DirectoryWatch;
use anyhow::{Context, Result};
use std::error::Error;
use std::fmt;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A signal was received (SIGINT, SIGTERM or SIGHUP).
#[derive(Debug)]
pub(super) struct Stopped(&'static str);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by {}", self.0)
    }
}

impl Error for Stopped {}

/// Receives signals from its creation on.
pub(super) struct Stop {
    runtime: Runtime,
    signalled: watch::Receiver<Option<&'static str>>,
}

impl Stop {
    /// Begins to receive signals.
    pub(super) fn listen() -> Result<Stop> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let (notify, signalled) = watch::channel(None);
        let guard = runtime.enter();
        for (kind, name) in [
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::hangup(), "SIGHUP"),
        ] {
            let mut signals = signal(kind).with_context(|| format!("cannot listen for {name}"))?;
            let notify = notify.clone();
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    notify.send_replace(Some(name));
                }
            });
        }
        drop(guard);
        Ok(Stop { runtime, signalled })
    }

    /// Checks whether to continue.
    ///
    /// # Errors
    /// [`Stopped`] after a signal.
    pub(super) fn check(&self) -> Result<(), Stopped> {
        self.signalled.borrow().map_or(Ok(()), |name| Err(Stopped(name)))
    }

    /// Sleeps for a short time.
    ///
    /// # Errors
    /// [`Stopped`] after a signal.
    pub(super) fn sleep(&self, moment: Duration) -> Result<(), Stopped> {
        self.check()?;
        std::thread::sleep(moment);
        self.check()
    }

    /// Begins to watch a directory, for [`Stop::wait_for_edit`].
    ///
    /// # Errors
    /// The kernel permits no more watches.
    pub(super) fn watch(&self, directory: &std::path::Path) -> Result<DirectoryWatch> {
        let _guard = self.runtime.enter();
        DirectoryWatch::new(directory).with_context(|| format!("cannot watch {}", directory.display()))
    }

    /// Waits until the directory has changed.
    ///
    /// # Errors
    /// [`Stopped`] after a signal; otherwise the watch has ended.
    pub(super) fn wait_for_edit(&self, watch: &mut DirectoryWatch) -> Result<()> {
        let mut signalled = self.signalled.clone();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = signalled.wait_for(Option::is_some) => {}
                changed = watch.changed() => {
                    changed.context("cannot watch the directory any longer")?;
                }
            }
            anyhow::Ok(())
        })?;
        Ok(self.check()?)
    }
}
