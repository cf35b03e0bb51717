//! The page of this node for a browser (`--ui-addr`): who can reach whom, denied flows and health. It has a thread of its own, like
//! metrics and health: enforcement never waits for it, and works without it.

mod known_cluster;
mod node_matrix;

use super::listening::{Retry, listen, until_stopped};
use super::new_runtime;
use super::status::StatusReporter;
use crate::matrix::PAGE_FILES;
use crate::observe::{Health, Journal, UiAddress, UiFile, UiListener, serve_ui, ui_router};
use crate::status::AgentStatus;
use node_matrix::NodeMatrix;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};

/// The readiness check of the page; it never fails.
const CHECK: &str = "ui";
/// How long an answer about health is given again: browsers ask every two seconds, and there may be several.
const HEALTH_AGE: Duration = Duration::from_secs(1);

/// What the page is made of.
pub(super) struct NodeUi {
    /// Where it is served.
    pub(super) address: UiAddress,
    /// The name of the node.
    pub(super) node: String,
    pub(super) health: Health,
    /// Asks the main loop, one query at a time.
    pub(super) reporter: StatusReporter,
    /// The denied flows.
    pub(super) denied: Journal,
}

impl NodeUi {
    /// Serves the page until `stopped` is true, as soon as the address is available. Without a thread for it, the agent goes on
    /// without a page.
    pub(super) fn serve_apart(self, stopped: watch::Receiver<bool>) {
        self.health.set_check(CHECK, Ok(()));
        let health = self.health.clone();
        let started = new_runtime().and_then(|runtime| {
            let run = move || runtime.block_on(self.serve(stopped));
            Ok(std::thread::Builder::new().name("ui".to_owned()).spawn(run)?)
        });
        if let Err(error) = started {
            let problem = format!("cannot start the thread of the page of the node: {error:#}");
            tracing::error!(problem, "there is no page of the node; policies are enforced all the same");
            health.remark(CHECK, "thread", Some(problem));
        }
    }

    async fn serve(self, stopped: watch::Receiver<bool>) {
        let NodeUi { address, node, health, reporter, denied } = self;
        let matrix = Arc::new(NodeMatrix::new(node, reporter.clone()));
        let status = Arc::new(RecentStatus { reporter, last: Mutex::new(None) });
        let files = PAGE_FILES.map(|file| -> UiFile { (file.path, file.media_type, file.text) });
        let page = move || matrix.clone().page();
        let status = move || status.clone().status();
        let router = ui_router(files, page, status, denied);
        let stop = stopped.clone();
        tokio::select! {
            listener = listen_at_address(&address, &health) => serve_ui(listener, router, until_stopped(stopped)).await,
            () = until_stopped(stop) => {}
        }
    }
}

async fn listen_at_address(address: &UiAddress, health: &Health) -> UiListener {
    let failed = |error: &str, is_new: bool| {
        let problem = format!("cannot listen on {address}: {error}; choose another with --ui-addr");
        if is_new {
            tracing::warn!(problem, "cannot serve the page of the node; policies are enforced all the same");
        }
        health.remark(CHECK, "address", Some(problem));
    };
    let (listener, _) = listen(Retry::ADDRESS, || UiListener::bind(address), failed).await;
    tracing::info!(ui = %address, "the page of the node is served");
    health.remark(CHECK, "address", None);
    listener
}

/// The agent's health, asked for at most once a second however many browsers show it.
struct RecentStatus {
    reporter: StatusReporter,
    last: Mutex<Option<(Instant, AgentStatus)>>,
}

impl RecentStatus {
    async fn status(self: Arc<Self>) -> AgentStatus {
        let mut last = self.last.lock().await;
        if let Some((_, status)) = last.as_ref().filter(|(asked, _)| asked.elapsed() < HEALTH_AGE) {
            return status.clone();
        }
        let status = self.reporter.unfinished().await;
        *last = Some((Instant::now(), status.clone()));
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn address_in_use_is_waited_for_and_fails_no_check() {
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let address = UiAddress::Loopback(other.local_addr().expect("its address"));
        let health = Health::new(&[]);
        health.set_check(CHECK, Ok(()));
        let waiting = tokio::spawn({
            let (address, health) = (address.clone(), health.clone());
            async move { listen_at_address(&address, &health).await }
        });
        while health.remarks(CHECK).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(health.ready(), Ok(()));
        assert!(health.remarks(CHECK)[0].contains("--ui-addr"), "{:?}", health.remarks(CHECK));
        drop(other);
        waiting.await.expect("it listens");
        assert_eq!(health.remarks(CHECK), Vec::<String>::new());
    }
}
