//! Metrics and health over HTTP, from a thread of their own: enforcing and its clients do not wait for each other, and what
//! keeps the address from us keeps nothing from being enforced.

use super::new_runtime;
use crate::observe::{Health, Metrics, serve};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

/// The readiness check that tells whether they are served.
pub(super) const CHECK: &str = "http";

/// How long to wait before the address is asked for again: at first, and at most.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Serves until `stopped` says so, as soon as the address can be had. What is returned ends with it.
pub(super) fn serve_apart(
    address: SocketAddr,
    metrics: Metrics,
    health: Health,
    stopped: watch::Receiver<bool>,
) -> Result<oneshot::Receiver<()>> {
    let (ending, ended) = oneshot::channel();
    let runtime = new_runtime()?;
    let run = move || {
        runtime.block_on(async {
            let stop = stopped.clone();
            tokio::select! {
                listener = listen(address, &health) => serve(listener, metrics, health, told(stopped)).await,
                () = told(stop) => {}
            }
        });
        ending.send(()).ok();
    };
    std::thread::Builder::new().spawn(run).context("cannot start the thread of metrics and health")?;
    Ok(ended)
}

/// Listens, and asks again for as long as it cannot.
async fn listen(address: SocketAddr, health: &Health) -> TcpListener {
    let mut wait = FIRST;
    let mut told = None;
    loop {
        let problem = match TcpListener::bind(address).await {
            Ok(listener) => {
                if told.is_some() {
                    tracing::info!(http = %address, "metrics and health are now served");
                }
                health.set_check(CHECK, Ok(()));
                return listener;
            }
            Err(error) => format!("cannot listen on {address}: {error}; choose another with --http-addr"),
        };
        if told.as_ref() != Some(&problem) {
            tracing::error!(problem, "cannot serve metrics and health; policies are enforced all the same");
        }
        health.set_check(CHECK, Err(problem.clone()));
        told = Some(problem);
        sleep(wait).await;
        wait = wait.saturating_mul(2).min(LONGEST);
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn address_in_use_is_waited_for_and_readiness_says_so() {
        let other = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let address = other.local_addr().expect("its address");
        let health = Health::new(&[CHECK]);
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { listen(address, &health).await }
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
