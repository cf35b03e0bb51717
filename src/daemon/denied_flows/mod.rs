//! What is refused, read from the kernel, gathered, and told: to the log, to metrics, and to whoever runs
//! `bridgewarden flows`. Enforcement never waits for it, and goes on without it.

mod packets;
mod reporter;

use crate::apply::KernelError;
use crate::apply::host::PacketLog;
use crate::controller::Inquiry;
use crate::flow::{BYTES, Record};
use crate::observe::{Health, Journal, Metrics, listen_at, serve_flows};
use reporter::Teller;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The readiness check that tells how it fares; it never fails.
const CHECK: &str = "denied-flows";
/// How long to wait before the kernel is asked again to be read.
const AGAIN: Duration = Duration::from_secs(10);

/// Who is told, and about what.
pub(super) struct Denied {
    /// Whether each is logged.
    pub(super) log: bool,
    /// Where they are served, if anywhere.
    pub(super) flows_socket: Option<PathBuf>,
    pub(super) node: String,
    pub(super) group: u16,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Who writes Events, if anybody does.
    pub(super) events: Option<mpsc::Sender<Record>>,
}

impl Denied {
    /// Reads, asks and tells for as long as the program runs.
    pub(super) async fn watch(self, inquiries: mpsc::Sender<Inquiry>) {
        let journal = Journal::default();
        self.serve(&journal);
        self.health.set_check(CHECK, Ok(()));
        let mut teller =
            Teller::new(self.node.clone(), self.log, journal, self.metrics.clone(), self.events.clone());
        let mut told = None;
        loop {
            match PacketLog::open(self.group, BYTES) {
                Ok(log) => {
                    self.remark(None, &mut told);
                    let error = teller.run(packets::read(log), &inquiries).await;
                    self.remark(error, &mut told);
                }
                Err(error) => self.remark(Some(error), &mut told),
            }
            sleep(AGAIN).await;
        }
    }

    fn serve(&self, journal: &Journal) {
        if let Some(path) = self.flows_socket.clone() {
            tokio::spawn(serve_at(path, journal.clone(), self.health.clone()));
        }
    }

    fn remark(&self, error: Option<KernelError>, told: &mut Option<String>) {
        let problem = error.map(|error| error.to_string());
        if let Some(problem) = problem.as_ref().filter(|_| problem != *told) {
            tracing::warn!(problem, "cannot report denied packets; they are denied all the same");
        }
        self.health.remark(CHECK, "reader", problem.clone());
        *told = problem;
    }
}

/// Answers `bridgewarden flows` at a path, as soon as it can be had.
async fn serve_at(path: PathBuf, journal: Journal, health: Health) {
    let mut told = None;
    loop {
        let problem = match listen_at(&path) {
            Ok(listener) => {
                health.remark(CHECK, "socket", None);
                return serve_flows(listener, journal).await;
            }
            Err(error) => error.to_string(),
        };
        let (again, shown) = (AGAIN.as_secs(), path.display());
        let remark =
            format!("`bridgewarden flows` cannot be answered at {shown}: {problem}; see --flows-socket");
        if told.as_ref() != Some(&problem) {
            tracing::warn!(path = %shown, problem, again_in_s = again, "`bridgewarden flows` cannot be answered here; see --flows-socket");
        }
        health.remark(CHECK, "socket", Some(remark));
        told = Some(problem);
        sleep(AGAIN).await;
    }
}
