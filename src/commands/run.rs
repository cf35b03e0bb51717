//! `bridgewarden run`: enforces policies on this node until it is stopped.

use super::flags::{Backend, RenderFlags, require_root};
use crate::apply::host::Host;
use crate::apply::host::preflight::{self, Missing, Wanted};
use crate::controller::{Controller, Delivery, Enforcer};
use crate::observe::{Health, LogFormat, Metrics, serve};
use crate::source::{Directory, DirectoryWatch, Loaded};
use anyhow::{Context, Result};
use clap::Args;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Enforces policies on this node until it is stopped.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The directory of manifests: Namespace, Pod and NetworkPolicy objects in YAML or JSON. It is watched
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
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

/// What readiness waits for.
const CHECKS: [&str; 3] = ["manifests", "preflight", "sync"];
/// How often the node is checked for what enforcement needs.
const PREFLIGHT_EVERY: Duration = Duration::from_secs(1);
/// How often it is checked whole, which starts programs, once all is well.
const WHOLE_PREFLIGHT_EVERY: Duration = Duration::from_secs(600);

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
        let health = Health::new(&CHECKS);
        let listener = TcpListener::bind(self.http_addr).await.with_context(|| {
            format!("cannot listen on {}; choose another with --http-addr", self.http_addr)
        })?;
        let kernel = Host::new(variant).context("cannot speak to the kernel")?;
        let enforcer = Enforcer::new(&self.node_name, self.render.options());
        let audit_every = Duration::from_secs(self.audit_interval_seconds);
        let controller =
            Controller::new(enforcer, Box::new(kernel), metrics.clone(), health.clone(), audit_every);

        let (stop, stopped) = watch::channel(false);
        let (outbox, inbox) = mpsc::channel(64);
        let http = tokio::spawn(serve(listener, metrics.clone(), health.clone(), told(stopped)));
        let preflight =
            tokio::spawn(keep_checking(self.render.wanted(variant), metrics.clone(), health.clone()));
        let source = deliver(self.manifests.clone(), outbox, metrics.clone(), health.clone());
        tracing::info!(
            node = self.node_name,
            manifests = %self.manifests.display(),
            backend = variant.name(),
            http = %self.http_addr,
            "enforcing"
        );
        tokio::select! {
            () = controller.run(inbox) => {}
            failed = source => failed?,
            signal = stop_signal() => tracing::info!(signal = signal?, "stopping; what is in force stays in force"),
        }
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

/// Reads the directory now and whenever it changes. Ends only with an error, or when nobody listens any more.
async fn deliver(
    manifests: PathBuf,
    outbox: mpsc::Sender<Delivery>,
    metrics: Metrics,
    health: Health,
) -> Result<()> {
    let watched = || format!("cannot watch {} for changes", manifests.display());
    let mut watch = DirectoryWatch::new(&manifests).with_context(watched)?;
    let mut directory = Directory::new(&manifests);
    let mut last_error = None;
    loop {
        let seen = Instant::now();
        let looked = tokio::task::spawn_blocking(move || (directory.load(), directory)).await;
        let (loaded, back) = looked.context("cannot read the manifests")?;
        directory = back;
        tell(&loaded, &mut last_error, &metrics, &health);
        let delivery = Delivery { changes: loaded.changes, seen, complete: loaded.complete };
        if outbox.send(delivery).await.is_err() {
            return Ok(());
        }
        watch.changed().await.with_context(watched)?;
    }
}

fn tell(loaded: &Loaded, last_error: &mut Option<String>, metrics: &Metrics, health: &Health) {
    let error = loaded.error.as_ref().map(ToString::to_string);
    metrics.manifest_errors(usize::from(error.is_some()));
    if error != *last_error {
        match &error {
            Some(error) => {
                tracing::error!(%error, "manifests cannot be read; their last good state stays in force")
            }
            None => tracing::info!("all manifests can be read again"),
        }
    }
    health.set_check("manifests", error.clone().map_or(Ok(()), Err));
    *last_error = error;
}

/// Checks the node at the start and while anything is missing; once all is there, only what others may undo.
async fn keep_checking(wanted: Wanted, metrics: Metrics, health: Health) {
    let mut results: BTreeMap<&'static str, Result<String, Missing>> = BTreeMap::new();
    let mut next_whole = Instant::now();
    let mut told = String::new();
    loop {
        let whole = Instant::now() >= next_whole;
        let asked = wanted.clone();
        let look = move || if whole { preflight::check(&asked) } else { preflight::check_sysctls(&asked) };
        let checks = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        results.extend(checks.into_iter().map(|check| (check.name, check.result)));
        let missing = missing(&results);
        for (name, result) in &results {
            metrics.preflight(name, &result.as_ref().map(|_| ()));
        }
        if missing.is_empty() {
            next_whole = Instant::now() + WHOLE_PREFLIGHT_EVERY;
        } else if whole {
            next_whole = Instant::now() + Duration::from_secs(10);
        }
        if missing != told {
            match missing.is_empty() {
                true => tracing::info!("the node has all that enforcement needs"),
                false => tracing::error!(missing, "the node lacks what enforcement needs"),
            }
        }
        health.set_check("preflight", if missing.is_empty() { Ok(()) } else { Err(missing.clone()) });
        told = missing;
        tokio::time::sleep(PREFLIGHT_EVERY).await;
    }
}

fn missing(results: &BTreeMap<&'static str, Result<String, Missing>>) -> String {
    let missing = results.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
    let told = missing.map(|(name, missing)| format!("{name}: {} (cure: {})", missing.problem, missing.cure));
    told.collect::<Vec<_>>().join("; ")
}
