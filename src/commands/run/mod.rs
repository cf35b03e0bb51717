//! `bridgewarden run`: enforces policies on this node until it is stopped.

mod cluster;
mod cni_results;
mod denied;
mod denied_packets;
mod events;
mod links;
mod manifests;
mod node_check;
mod only_agent;
mod origin;
mod pages;
mod policy_counts;

use super::flags::{Backend, RenderFlags, require_root};
use crate::apply::KernelError;
use crate::apply::host::Host;
use crate::apply::host::preflight::Wanted;
use crate::compile::UnknownPods;
use crate::controller::{Controller, Enforcer, NamespaceWatch, Takeover};
use crate::observe::{Health, LogFormat, Metrics};
use crate::render::Binding;
use anyhow::{Context, Result};
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use origin::{ForEvents, Origin, Outlet, Switch};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

/// Enforces policies on this node until it is stopped.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    origin: Origin,
    /// Read CNI results in this directory: they name a pod's addresses before its first process starts. Empty to read none,
    /// which is the default with --manifests
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/cni/results",
        default_value_if("manifests", ArgPredicate::IsPresent, "")
    )]
    cni_results_dir: OsString,
    /// What to do with a pod that runs on this node and that the API server has not reported yet
    #[arg(long, value_enum, default_value_t)]
    unknown_pods: UnknownPods,
    /// Remove the rules of another NetworkPolicy controller that no longer runs (kube-router, that of k3s,
    /// kube-network-policies), once policies are in force. Without this flag the agent writes nothing beside such rules
    #[arg(
        long, value_enum, default_value_t = Switch::Off, num_args = 0..=1, require_equals = true, default_missing_value = "on"
    )]
    takeover: Switch,
    /// Name of this node, as in the pods' spec.nodeName
    #[arg(long, value_name = "NODE", env = "NODE_NAME")]
    node_name: String,
    /// Write to this packet filter
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// Serve /metrics, /healthz, /livez and /readyz at this address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:20245")]
    http_addr: SocketAddr,
    /// Serve some metrics under the names of another program as well
    #[arg(long, value_name = "PROGRAM", value_enum, default_value_t)]
    metrics_compat: MetricsCompat,
    /// Serve counts of what each policy of this node has allowed: up to 1,000 more series
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    metrics_per_policy: Switch,
    /// Compare the kernel with the desired rules this often, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    audit_interval_seconds: u64,
    /// Write log lines in this format
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log_format: LogFormat,
    /// Write these log lines, such as info or bridgewarden=debug
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log_filter: String,
    #[command(flatten)]
    telling: denied::Telling,
    #[command(flatten)]
    render: RenderFlags,
}

/// Whose names of metrics are used too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum MetricsCompat {
    /// No other names
    #[default]
    None,
    /// Four metrics under kube-router's names: see docs/metrics.md
    KubeRouter,
}

impl MetricsCompat {
    fn metrics(self) -> Metrics {
        let (version, revision) = (env!("CARGO_PKG_VERSION"), option_env!("BRIDGEWARDEN_REVISION"));
        match self {
            MetricsCompat::None => Metrics::new(version, revision),
            MetricsCompat::KubeRouter => Metrics::with_names_of_kube_router(version, revision),
        }
    }
}

/// How long the end may wait for what was begun.
const FAREWELL: Duration = Duration::from_secs(2);

impl Run {
    pub(super) fn execute(&self) -> Result<ExitCode> {
        require_root("run")?;
        crate::observe::init(self.log_format, &self.log_filter)?;
        // One thread: what an event wakes is then woken without a word to another processor.
        let runtime = new_runtime()?;
        runtime.block_on(self.run())?;
        runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(ExitCode::SUCCESS)
    }

    /// The directory of CNI results, if one was asked for.
    fn cni_results_dir(&self) -> Option<PathBuf> {
        Some(&self.cni_results_dir).filter(|given| !given.is_empty()).map(PathBuf::from)
    }

    async fn run(&self) -> Result<()> {
        let variant = self.backend.variant();
        let metrics = self.metrics_compat.metrics();
        let health = Health::new(&[self.origin.check(), "preflight", "sync", pages::CHECK]);
        // One pair of listeners until the end: a signal that nothing listens to is lost.
        let mut signals = StopSignals::listen()?;
        let (stop, stopped) = watch::channel(false);
        let http = pages::serve_apart(self.http_addr, metrics.clone(), health.clone(), stopped)?;
        // Before anything is written, be it only to see whether the kernel takes it.
        let _lock = tokio::select! {
            lock = only_agent::lock(&health) => lock?,
            signal = signals.next() => {
                tracing::info!(signal, "stopping; nothing was written");
                let _ = stop.send(true);
                return Ok(());
            }
        };
        let mut kernel = Host::new(variant).context("cannot open a netlink socket")?;
        let strangers = Arc::new(Notify::new());
        hear_strangers(&mut kernel, strangers.clone(), self.audit_interval_seconds);
        let near = Box::new(Host::new(variant).context("cannot open a netlink socket")?);
        let options = self.render.options_here(&mut kernel, &health);
        let binds = options.binding != Binding::Off;
        let takeover = match self.takeover {
            Switch::On => Takeover::On,
            Switch::Off => Takeover::Off,
        };
        let enforcer = Enforcer::new(&self.node_name, options)
            .with_unknown_pods(self.unknown_pods)
            .with_limits(self.render.policy_limits)
            .with_takeover(takeover);
        let audit_every = Duration::from_secs(self.audit_interval_seconds);
        let mut controller =
            Controller::new(enforcer, Box::new(kernel), near, metrics.clone(), health.clone(), audit_every);
        controller.heed(strangers);

        let (outbox, inbox) = mpsc::channel(64);
        // Whether the kernel takes tables of family bridge was tried for the options, and `/readyz` says it.
        let wanted = Wanted { try_bridge_table: false, ..self.render.wanted(variant, true) };
        let preflight =
            tokio::spawn(node_check::keep_checking(wanted, takeover, metrics.clone(), health.clone()));
        let sandboxes = match self.cni_results_dir() {
            Some(directory) => {
                let (outbox, metrics, health) = (outbox.clone(), metrics.clone(), health.clone());
                Some(cni_results::Deliverer::begin(directory, audit_every, outbox, metrics, health).await)
            }
            None => None,
        };
        let links = match binds {
            true => Some(
                links::Deliverer::begin(self.render.bridge.clone(), outbox.clone(), health.clone()).await,
            ),
            false => None,
        };
        // Two ask, each one thing at a time.
        let (inquire, inquiries) = mpsc::channel(2);
        controller.answer(inquiries);
        let (denied_events, denied) = events::denied(self.origin.wants_events());
        let denied_flows = denied::Denied {
            telling: self.telling.clone(),
            node: self.node_name.clone(),
            group: self.render.nflog_group,
            metrics: metrics.clone(),
            health: health.clone(),
            events: denied_events,
        };
        let denied_flows = tokio::spawn(denied_flows.watch(inquire.clone()));
        let policy_counts =
            tokio::spawn(policy_counts::watch(self.metrics_per_policy, variant, metrics.clone(), inquire));
        let shortfalls = self.origin.wants_events().then(|| {
            let (tell, told) = watch::channel(Vec::new());
            controller.tell_shortfalls(events::families(), tell);
            told
        });
        let namespaces = NamespaceWatch::default();
        if self.origin.has_several_watches() {
            controller.await_namespaces(namespaces.clone());
        }
        let source = self.origin.deliver(
            &self.node_name,
            audit_every,
            Outlet { outbox, namespaces },
            ForEvents { shortfalls, denied },
            metrics.clone(),
            health.clone(),
        );
        tracing::info!(
            node = self.node_name,
            source = %self.origin,
            backend = variant.name(),
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
        // Its source is gone: it ends what it has begun, connections that are to be cut among it.
        let _ = tokio::time::timeout(FAREWELL, running).await;
        let _ = stop.send(true);
        preflight.abort();
        denied_flows.abort();
        policy_counts.abort();
        let _ = tokio::time::timeout(Duration::from_secs(1), http).await;
        Ok(())
    }
}

/// Has the controller notified of what others do to the packet filter, if this kernel tells of it.
fn hear_strangers(kernel: &mut Host, strangers: Arc<Notify>, audit_interval_seconds: u64) {
    let deaf = move |error: KernelError| {
        tracing::error!(%error, audit_interval_seconds, "only audits will notice changes by other programs");
    };
    let tell = move |heard: Result<(), KernelError>| {
        heard.unwrap_or_else(deaf);
        strangers.notify_one();
    };
    match kernel.tell_of_strangers(tell) {
        Ok(true) => {}
        Ok(false) => tracing::info!(
            audit_interval_seconds,
            "iptables-legacy does not report changes: only audits will notice changes by other programs"
        ),
        Err(error) => deaf(error),
    }
}

fn new_runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// The signals that end the program.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<StopSignals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(StopSignals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Returns at the first that has come since [`StopSignals::listen`].
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn with_manifests_results_of_cni_are_read_only_where_it_is_said() {
        let directory = |more: &[&str]| {
            let words = ["run", "--node-name", "a"];
            Line::try_parse_from(words.iter().chain(more)).unwrap().run.cni_results_dir()
        };
        assert_eq!(directory(&[]), Some("/var/lib/cni/results".into()));
        assert_eq!(directory(&["--manifests", "/m"]), None);
        for more in [&[][..], &["--manifests", "/m"]] {
            assert_eq!(directory(&[more, &["--cni-results-dir="]].concat()), None);
            assert_eq!(directory(&[more, &["--cni-results-dir", "/r"]].concat()), Some("/r".into()));
        }
    }
}
