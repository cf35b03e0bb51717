//! Listening for clients from when that is possible until the agent stops.

use std::fmt::Display;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long to wait before listening is tried again: at first, and at most. The wait doubles with each failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Retry {
    /// For an address, which another process may still have for a moment.
    pub(super) const ADDRESS: Retry =
        Retry { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
}

/// Listens with `bind`, and retries until that succeeds. `failed` gets the error of each attempt, and whether it is another than that of the
/// attempt before. Returns the listener, and whether an attempt had failed.
pub(super) async fn listen<L, E: Display, F: Future<Output = Result<L, E>>>(
    retry: Retry,
    bind: impl Fn() -> F,
    failed: impl Fn(&str, bool),
) -> (L, bool) {
    let mut wait = retry.first;
    let mut last: Option<String> = None;
    loop {
        let error = match bind().await {
            Ok(listener) => return (listener, last.is_some()),
            Err(error) => error.to_string(),
        };
        failed(&error, last.as_ref() != Some(&error));
        last = Some(error);
        sleep(wait).await;
        wait = wait.saturating_mul(2).min(retry.longest);
    }
}

/// Completes when the agent stops.
pub(super) async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// What `listening` returns, unless the agent stops before.
pub(super) async fn unless_stopped<L>(
    listening: impl Future<Output = L>,
    stopped: &watch::Receiver<bool>,
) -> Option<L> {
    tokio::select! {
        listener = listening => Some(listener),
        () = until_stopped(stopped.clone()) => None,
    }
}
