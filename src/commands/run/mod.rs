//! `bridgewarden run`: enforces policies on this node until it is stopped.

mod cluster;
mod events;
mod manifests;
mod node_check;
mod origin;

use super::flags::{Backend, RenderFlags, require_root};
use crate::apply::host::Host;
use crate::controller::{Controller, Enforcer};
use crate::observe::{Health, LogFormat, Metrics, serve};
use anyhow::{Context, Result};
use clap::Args;
use origin::Origin;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Enforces policies on this node until it is stopped.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    origin: Origin,
    /// This node, as in the pods' spec.nodeName
    #[arg(long, value_name = "NODE", env = "NODE_NAME")]
    node_name: String,
    /// How the kernel is spoken to
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// Where /metrics, /healthz, /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:20245")]
    http_addr: SocketAddr,
    /// How often the kernel is read and compared with what must hold, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    audit_interval_seconds: u64,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log_format: LogFormat,
    /// Which log lines are written, such as info or bridgewarden=debug
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log_filter: String,
    #[command(flatten)]
    render: RenderFlags,
}

/// How long the end may wait for what was begun.
const FAREWELL: Duration = Duration::from_secs(2);

impl Run {
    pub(super) fn execute(&self) -> Result<ExitCode> {
        require_root("run")?;
        crate::observe::init(self.log_format, &self.log_filter)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(self.run())?;
        runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(ExitCode::SUCCESS)
    }

    async fn run(&self) -> Result<()> {
        let variant = self.backend.variant();
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), option_env!("BRIDGEWARDEN_REVISION"));
        let health = Health::new(&[self.origin.check(), "preflight", "sync"]);
        let listener = TcpListener::bind(self.http_addr).await.with_context(|| {
            format!("cannot listen on {}; choose another with --http-addr", self.http_addr)
        })?;
        let kernel = Host::new(variant).context("cannot speak to the kernel")?;
        let enforcer = Enforcer::new(&self.node_name, self.render.options());
        let audit_every = Duration::from_secs(self.audit_interval_seconds);
        let mut controller =
            Controller::new(enforcer, Box::new(kernel), metrics.clone(), health.clone(), audit_every);

        let (stop, stopped) = watch::channel(false);
        let (outbox, inbox) = mpsc::channel(64);
        let http = tokio::spawn(serve(listener, metrics.clone(), health.clone(), told(stopped)));
        let preflight = tokio::spawn(node_check::keep_checking(
            self.render.wanted(variant),
            metrics.clone(),
            health.clone(),
        ));
        let shortfalls = self.origin.wants_events().then(|| {
            let (tell, told) = watch::channel(Vec::new());
            controller.tell_shortfalls(events::families(), tell);
            told
        });
        let source =
            self.origin.deliver(&self.node_name, outbox, shortfalls, metrics.clone(), health.clone());
        tracing::info!(
            node = self.node_name,
            source = %self.origin,
            backend = variant.name(),
            http = %self.http_addr,
            "enforcing"
        );
        let mut running = std::pin::pin!(controller.run(inbox));
        tokio::select! {
            () = &mut running => return Ok(()),
            failed = source => failed?,
            signal = stop_signal() => tracing::info!(signal = signal?, "stopping; what is in force stays in force"),
        }
        // Its source is gone: it ends what it has begun, connections that are to be cut among it.
        let _ = tokio::time::timeout(FAREWELL, running).await;
        let _ = stop.send(true);
        preflight.abort();
        let _ = tokio::time::timeout(Duration::from_secs(1), http).await;
        Ok(())
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn stop_signal() -> Result<&'static str> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
