//! Metrics and health over HTTP, and the status over a socket, in their own thread: enforcement and clients do not wait for each
//! other, and policies are enforced even if the address is not available.

use super::listening::{Retry, listen, unless_stopped, until_stopped};
use super::settings::MetricsEndpoint;
use super::{metrics_server, new_runtime};
use crate::observe::{Health, Metrics, serve, serve_health};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// The readiness check of whether they are served.
pub(super) const CHECK: &str = "http";

/// What is served over HTTP.
pub(super) struct Pages {
    pub(super) address: SocketAddr,
    /// Where metrics are served instead, over TLS.
    pub(super) endpoint: Option<MetricsEndpoint>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
}

impl Pages {
    /// Serves until `stopped` is true, as soon as the addresses are available, and beside that serves the status. The returned receiver
    /// completes when it ends.
    pub(super) fn serve_apart(
        self,
        status: Option<impl Future<Output = ()> + Send + 'static>,
        stopped: watch::Receiver<bool>,
    ) -> Result<oneshot::Receiver<()>> {
        let (ending, ended) = oneshot::channel();
        let runtime = new_runtime()?;
        let run = move || {
            runtime.block_on(async {
                status.map(tokio::spawn);
                self.serve(stopped).await;
            });
            ending.send(()).ok();
        };
        std::thread::Builder::new().spawn(run).context("cannot start the thread of metrics and health")?;
        Ok(ended)
    }

    async fn serve(self, stopped: watch::Receiver<bool>) {
        let Pages { address, endpoint, metrics, health } = self;
        let pages = async {
            let Some(listener) = unless_stopped(listen_at_address(address, &health), &stopped).await else {
                return;
            };
            let (health, stop) = (health.clone(), until_stopped(stopped.clone()));
            match &endpoint {
                None => serve(listener, metrics.clone(), health, stop).await,
                Some(_) => serve_health(listener, health, stop).await,
            }
        };
        let secure_metrics = async {
            if let Some(endpoint) = &endpoint {
                metrics_server::serve(endpoint, metrics.clone(), &health, &stopped).await;
            }
        };
        tokio::join!(pages, secure_metrics);
    }
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
