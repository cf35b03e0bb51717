//! The agent on a node: its parts, the order in which they start, and how they stop.
//!
//! Comes in: [`Settings`]. Goes out: rules in the kernel, and reports as metrics, health, log lines and Events, until a signal
//! arrives. This room connects sources, controller and reports; it parses no flags and knows nothing of chains.

mod api_server;
mod binding;
mod cni_results;
mod denied_flows;
mod events;
mod links;
mod listening;
mod live_connections;
mod manifests;
mod metrics_server;
mod node_check;
mod object_source;
mod only_agent;
mod pages;
mod policy_counts;
mod rule_changes;
mod settings;
mod signals;
mod socket;
mod start_table;
mod status;
mod table_owner;
mod ui;

pub use object_source::ObjectSource;
pub use settings::{MetricsEndpoint, Scrapers, Settings};

use crate::controller::{Controller, Enforcer, NamespaceWatch};
use crate::kernel::Host;
use crate::observe::{Health, Journal};
use crate::render::Binding;
use anyhow::{Context, Result};
use object_source::{ForEvents, Outlet};
use signals::StopSignals;
use status::StatusReporter;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};

/// How long a stopping agent may finish what it has begun.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Runs the agent until a signal stops it.
///
/// # Errors
/// It cannot start, or its source of objects has failed for good.
pub fn run(settings: Settings) -> Result<()> {
    // One thread: an event then wakes its task without waking another processor.
    let runtime = new_runtime()?;
    runtime.block_on(settings.run())?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

impl Settings {
    async fn run(self) -> Result<()> {
        let (backend, metrics, audit_interval) = (self.options.backend, &self.metrics, self.audit_interval);
        let health = Health::new(&[self.source.check(), "preflight", "sync", pages::CHECK]);
        if self.metrics_endpoint.is_some() {
            health.set_check(metrics_server::CHECK, Err("not served yet".to_owned()));
        }
        // One pair of listeners until the end: a signal that nothing listens to is lost.
        let mut signals = StopSignals::listen()?;
        let (stop, stopped) = watch::channel(false);
        // Three senders, each with one query at a time.
        let (sender, queries) = mpsc::channel(3);
        let (node, queue) = (self.node_name.clone(), sender.clone());
        let reporter = StatusReporter::new(node, backend, metrics.clone(), health.clone(), queue);
        let journal = Journal::default();
        if let Some(address) = self.ui_address.clone() {
            let (node, health) = (self.node_name.clone(), health.clone());
            let (reporter, denied) = (reporter.clone(), journal.clone());
            ui::NodeUi { address, node, health, reporter, denied }.serve_apart(stopped.clone());
        }
        let status = self.status_socket.clone().map(|path| reporter.serve_at(path));
        let endpoint = self.metrics_endpoint.clone();
        let http = pages::Pages {
            address: self.http_addr,
            endpoint,
            metrics: metrics.clone(),
            health: health.clone(),
        };
        let http = http.serve_apart(status, stopped)?;
        // Before anything is written, even only to try what the kernel takes.
        let _lock = tokio::select! {
            lock = only_agent::lock(&health) => lock?,
            signal = signals.next() => {
                tracing::info!(signal, "stopping; nothing was written");
                let _ = stop.send(true);
                return Ok(());
            }
        };
        let start = start_table::create(&self.options, self.unknown_pods, &health);
        let mut kernel = Host::new(backend).context("cannot open a netlink socket")?;
        if self.own_tables {
            table_owner::own_tables(&self.options, &mut kernel);
        }
        let near = Box::new(kernel.beside().context("cannot open a netlink socket")?);
        let changed_by_others = Arc::new(Notify::new());
        rule_changes::watch(&mut kernel, changed_by_others.clone(), audit_interval);
        let options = binding::options_here(self.options.clone(), &mut kernel, &health);
        let binds = options.binding != Binding::Off;
        let enforcer = Enforcer::new(&self.node_name, options)
            .with_unknown_pods(self.unknown_pods)
            .with_limits(self.limits)
            .with_takeover(self.takeover);
        let mut controller = Controller::new(
            enforcer,
            Box::new(kernel),
            near,
            metrics.clone(),
            health.clone(),
            audit_interval,
        );
        controller.watch_external_changes(changed_by_others);
        if !self.verify {
            controller.leave_unverified();
        }
        start
            .into_iter()
            .for_each(|table| start_table::remove_after_start(table, &mut controller, health.clone()));

        let (outbox, inbox) = mpsc::channel(64);
        let preflight = tokio::spawn(node_check::keep_checking(
            self.wanted.clone(),
            self.takeover,
            metrics.clone(),
            health.clone(),
        ));
        let sandboxes = match self.cni_results_dir.clone() {
            Some(directory) => {
                let (outbox, metrics, health) = (outbox.clone(), metrics.clone(), health.clone());
                Some(
                    cni_results::CniResultsSource::begin(directory, audit_interval, outbox, metrics, health)
                        .await,
                )
            }
            None => None,
        };
        let links = match binds {
            true => Some(
                links::LinkSource::begin(self.options.bridge.clone(), outbox.clone(), health.clone()).await,
            ),
            false => None,
        };
        controller.answer(queries);
        let (denied_events, denied) = events::denied(self.source.wants_events());
        let denied_flows = denied_flows::DeniedFlows {
            log: self.log_denied,
            flows_socket: self.flows_socket.clone(),
            journal,
            node: self.node_name.clone(),
            group: self.options.nflog_group,
            metrics: metrics.clone(),
            health: health.clone(),
            events: denied_events,
        };
        let denied_flows = tokio::spawn(denied_flows.watch(sender.clone()));
        let policy_counts = self
            .metrics_per_policy
            .then(|| tokio::spawn(policy_counts::watch(self.options.backend, metrics.clone(), sender)));
        let shortfalls = self.source.wants_events().then(|| {
            let (send, shortfalls) = watch::channel(Vec::new());
            controller.report_shortfalls(events::families(), send);
            shortfalls
        });
        let (unreadable_pods, unreadable) = watch::channel(Vec::new());
        let namespaces = NamespaceWatch::default();
        if self.source.has_several_watches() {
            controller.await_namespaces(namespaces.clone());
        }
        let source = self.source.deliver(
            &self.node_name,
            audit_interval,
            Outlet { outbox, namespaces, unreadable_pods },
            ForEvents { shortfalls, denied, unreadable_pods: unreadable },
            metrics.clone(),
            health.clone(),
        );
        tracing::info!(
            node = self.node_name,
            source = %self.source,
            backend = backend.name(),
            http = %self.http_addr,
            "started; the rules in force stay in force until all lists are complete"
        );
        let mut running = std::pin::pin!(controller.run(inbox));
        tokio::select! {
            () = &mut running => return Ok(()),
            failed = source => failed?,
            () = cni_results::deliver(sandboxes) => {}
            () = links::deliver(links) => {}
            signal = signals.next() => tracing::info!(signal, "stopping; the rules in force stay in force"),
        }
        // Without a source, the controller finishes what it has begun, such as cutting connections.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, running).await;
        let _ = stop.send(true);
        preflight.abort();
        denied_flows.abort();
        policy_counts.iter().for_each(|counts| counts.abort());
        let _ = tokio::time::timeout(Duration::from_secs(1), http).await;
        Ok(())
    }
}

fn new_runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}
