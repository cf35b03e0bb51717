//! Metrics and health over HTTP, and the status over a socket, in their own thread: enforcement and clients do not wait for each
//! other, and policies are enforced even if the address is not available.

use super::listening::{Retry, listen, until_stopped};
use super::new_runtime;
use crate::observe::{Health, Metrics, serve};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// The readiness check of whether they are served.
pub(super) const CHECK: &str = "http";

/// Serves until `stopped` is true, as soon as the address is available, and beside that serves the status. The returned receiver completes when it ends.
pub(super) fn serve_apart(
    address: SocketAddr,
    metrics: Metrics,
    health: Health,
    status: Option<impl Future<Output = ()> + Send + 'static>,
    stopped: watch::Receiver<bool>,
) -> Result<oneshot::Receiver<()>> {
    let (ending, ended) = oneshot::channel();
    let runtime = new_runtime()?;
    let run = move || {
        runtime.block_on(async {
            status.map(tokio::spawn);
            let stop = stopped.clone();
            tokio::select! {
                listener = listen_at_address(address, &health) => serve(listener, metrics, health, until_stopped(stopped)).await,
                () = until_stopped(stop) => {}
            }
        });
        ending.send(()).ok();
    };
    std::thread::Builder::new().spawn(run).context("cannot start the thread of metrics and health")?;
    Ok(ended)
}

async fn listen_at_address(address: SocketAddr, health: &Health) -> TcpListener {
    let failed = |error: &str, is_new: bool| {
        let problem = format!("cannot listen on {address}: {error}; choose another with --http-addr");
        if is_new {
            tracing::error!(problem, "cannot serve metrics and health; policies are enforced all the same");
        }
        health.set_check(CHECK, Err(problem));
    };
    let (listener, had_failed) = listen(Retry::ADDRESS, || TcpListener::bind(address), failed).await;
    if had_failed {
        tracing::info!(http = %address, "metrics and health are now served");
    }
    health.set_check(CHECK, Ok(()));
    listener
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn address_in_use_is_waited_for_and_fails_readiness() {
        let other = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let address = other.local_addr().expect("its address");
        let health = Health::new(&[CHECK]);
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { listen_at_address(address, &health).await }
        });
        while !health.ready().is_err_and(|failed| failed[0].1.contains("cannot listen on")) {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop(other);
        let listener = waiting.await.expect("it listens");
        assert_eq!((listener.local_addr().expect("an address"), health.ready()), (address, Ok(())));
    }
}
