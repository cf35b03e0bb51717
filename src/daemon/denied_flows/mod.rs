//! Denied flows: read from the kernel, aggregated, and reported to the log, metrics, Events and `bridgewarden flows`. Enforcement
//! never waits for this, and works without it.

mod packets;
mod reporter;

use super::socket::SocketUse;
use crate::apply::KernelError;
use crate::controller::Query;
use crate::flow::{BYTES, Record};
use crate::kernel::PacketLog;
use crate::observe::{Health, Journal, Metrics, serve_flows};
use reporter::FlowReporter;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The readiness check of denied flows; it never fails.
const CHECK: &str = "denied-flows";
/// How long to wait before a failed attempt is repeated.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Where denied flows are read and reported.
pub(super) struct DeniedFlows {
    /// Whether each is logged.
    pub(super) log: bool,
    /// Where they are served, if anywhere.
    pub(super) flows_socket: Option<PathBuf>,
    /// Keeps the last of them.
    pub(super) journal: Journal,
    pub(super) node: String,
    pub(super) group: u16,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// To the writer of Events, if they are wanted.
    pub(super) events: Option<mpsc::Sender<Record>>,
}

impl DeniedFlows {
    /// Reads and reports for as long as the agent runs.
    pub(super) async fn watch(self, queries: mpsc::Sender<Query>) {
        self.serve();
        self.health.set_check(CHECK, Ok(()));
        let mut reporter = FlowReporter::new(
            self.node.clone(),
            self.log,
            self.journal.clone(),
            self.metrics.clone(),
            self.events.clone(),
        );
        let mut logged = None;
        loop {
            match PacketLog::open(self.group, BYTES) {
                Ok(log) => {
                    self.remark(None, &mut logged);
                    let error = reporter.run(packets::read(log), &queries).await;
                    self.remark(error, &mut logged);
                }
                Err(error) => self.remark(Some(error), &mut logged),
            }
            sleep(RETRY_AFTER).await;
        }
    }

    fn serve(&self) {
        if let Some(path) = self.flows_socket.clone() {
            tokio::spawn(serve_at(path, self.journal.clone(), self.health.clone()));
        }
    }

    fn remark(&self, error: Option<KernelError>, logged: &mut Option<String>) {
        let problem = error.map(|error| error.to_string());
        if let Some(problem) = problem.as_ref().filter(|_| problem != *logged) {
            tracing::warn!(problem, "cannot report denied packets; they are denied all the same");
        }
        self.health.remark(CHECK, "reader", problem.clone());
        *logged = problem;
    }
}

/// Serves `bridgewarden flows` at a path, as soon as the socket can be opened.
async fn serve_at(path: PathBuf, journal: Journal, health: Health) {
    let place = SocketUse { check: CHECK, command: "bridgewarden flows", flag: "--flows-socket" };
    serve_flows(place.listen(&path, &health).await, journal).await;
}
