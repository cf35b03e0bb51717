//! `bridgewarden run`: enforces policies on this node until it is stopped. Its flags become `daemon::Settings`.

use super::endpoint_flags::EndpointFlags;
use super::flags::{BackendChoice, FLOWS_SOCKET, RenderFlags, STATUS_SOCKET, require_root};
use crate::compile::UnknownPods;
use crate::controller::Takeover;
use crate::daemon::{self, ObjectSource, Settings};
use crate::kernel::preflight::Wanted;
use crate::observe::{Build, LogFormat, Metrics, UiAddress, UiAddressError};
use crate::source::WatchList;
use anyhow::Result;
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Enforces policies on this node until it is stopped.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    source: SourceFlags,
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
    backend: BackendChoice,
    /// Serve /metrics, /healthz, /livez and /readyz at this address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:20245")]
    http_addr: SocketAddr,
    #[command(flatten)]
    metrics_endpoint: EndpointFlags,
    /// Serve some metrics under the names of another program as well
    #[arg(long, value_name = "PROGRAM", value_enum, default_value_t)]
    metrics_compat: MetricsCompat,
    /// Serve counts of what each policy of this node has allowed: up to 1,000 more series
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    metrics_per_policy: Switch,
    /// Compare the kernel with the desired rules this often, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    audit_interval_seconds: u64,
    /// After each audit that finds the kernel as it was written, compare what it decides with what policies say, as
    /// `bridgewarden verify` does
    #[arg(long, value_enum, default_value_t)]
    verify: Switch,
    /// Write log lines in this format
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log_format: LogFormat,
    /// Write these log lines, such as info or bridgewarden=debug
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log_filter: String,
    /// Log each denied flow: source, destination, policies, and the rule that came nearest to allowing it
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    log_denied: Switch,
    /// Serve denied flows to `bridgewarden flows` at this Unix socket. Empty for no socket
    #[arg(long, value_name = "PATH", default_value = FLOWS_SOCKET)]
    flows_socket: OsString,
    /// Serve the agent's status to `bridgewarden status` and `bridgewarden wait` at this Unix socket. Empty for no socket
    #[arg(long, value_name = "PATH", default_value = STATUS_SOCKET)]
    status_socket: OsString,
    /// Serve a page of this node for a browser at this address: who can reach whom, denied flows and health. 127.0.0.1:PORT,
    /// [::1]:PORT or unix:/PATH; others are refused, because the page shows the cluster's policies without a password. Empty for no page
    #[arg(long, value_name = "ADDRESS", default_value = "", value_parser = ui_address)]
    ui_addr: UiChoice,
    /// Own the nftables tables, so that no other program can change or flush them (Linux 6.9). Without it, and with older
    /// kernels, what others change is written again
    #[arg(long, value_enum, default_value_t)]
    own_tables: Switch,
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
        match self {
            MetricsCompat::None => Metrics::new(Build::THIS),
            MetricsCompat::KubeRouter => Metrics::with_names_of_kube_router(Build::THIS),
        }
    }
}

/// Where facts come from. Without any of these flags, from the API of the cluster that the program runs in.
#[derive(Clone, Debug, Args)]
struct SourceFlags {
    /// Read and watch this directory of manifests instead of a cluster: Namespace, Pod and NetworkPolicy objects in YAML or
    /// JSON
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "watch_list", "events"])]
    manifests: Option<PathBuf>,
    /// Reach the API server as this kubeconfig says. Without it, use the service account of the pod that the program runs in
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How to list a resource before watching it
    #[arg(long, value_enum, default_value_t)]
    watch_list: ListMode,
    /// Write Events on NetworkPolicies that cannot be fully enforced, and on pods that deny connections or are denied them
    #[arg(long, value_enum, default_value_t)]
    events: Switch,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    /// Yes
    #[default]
    On,
    /// No
    Off,
}

/// How a resource is listed before it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ListMode {
    /// As a stream, or page by page if the API server refuses to stream
    #[default]
    Auto,
    /// As a stream
    On,
    /// Page by page
    Off,
}

impl SourceFlags {
    fn object_source(&self) -> ObjectSource {
        match &self.manifests {
            Some(directory) => ObjectSource::Manifests { directory: directory.clone() },
            None => ObjectSource::ApiServer {
                kubeconfig: self.kubeconfig.clone(),
                list: match self.watch_list {
                    ListMode::Auto => WatchList::Auto,
                    ListMode::On => WatchList::On,
                    ListMode::Off => WatchList::Off,
                },
                events: self.events == Switch::On,
            },
        }
    }
}

impl Run {
    pub(super) fn execute(&self) -> Result<ExitCode> {
        require_root("run")?;
        crate::observe::init(self.log_format, &self.log_filter)?;
        daemon::run(self.settings()?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn settings(&self) -> Result<Settings> {
        let (backend, source) = (self.backend.choose(), self.source.object_source());
        Ok(Settings {
            node_name: self.node_name.clone(),
            cni_results_dir: path(&self.cni_results_dir),
            unknown_pods: self.unknown_pods,
            takeover: match self.takeover {
                Switch::On => Takeover::On,
                Switch::Off => Takeover::Off,
            },
            options: self.render.options(backend)?,
            own_tables: self.own_tables == Switch::On,
            limits: self.render.policy_limits,
            // The choice of options tries whether the kernel accepts tables of family bridge, and `/readyz` reports the
            // result.
            wanted: Wanted { try_bridge_table: false, ..self.render.wanted(backend, true) },
            audit_interval: Duration::from_secs(self.audit_interval_seconds),
            verify: self.verify == Switch::On,
            http_addr: self.http_addr,
            metrics_endpoint: self.metrics_endpoint.endpoint(self.http_addr, &source)?,
            metrics: self.metrics_compat.metrics(),
            metrics_per_policy: self.metrics_per_policy == Switch::On,
            log_denied: self.log_denied == Switch::On,
            flows_socket: path(&self.flows_socket),
            status_socket: path(&self.status_socket),
            ui_address: self.ui_addr.clone(),
            source,
        })
    }
}

/// Where the page of the node is served, if anywhere. Not spelled out in the flag, where it would mean that the flag may be absent.
type UiChoice = Option<UiAddress>;

fn ui_address(flag: &str) -> Result<UiChoice, UiAddressError> {
    Some(flag).filter(|flag| !flag.is_empty()).map(str::parse).transpose()
}

/// The path in a flag; `None` if it is empty.
fn path(flag: &OsString) -> Option<PathBuf> {
    Some(flag).filter(|flag| !flag.is_empty()).map(PathBuf::from)
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
    fn page_of_the_node_is_off_unless_an_address_of_this_host_is_given() {
        let parse = |more: &[&str]| {
            Line::try_parse_from(["run", "--node-name", "a"].iter().chain(more)).map(|line| line.run.ui_addr)
        };
        assert_eq!((parse(&[]).unwrap(), parse(&["--ui-addr="]).unwrap()), (None, None));
        assert_eq!(parse(&["--ui-addr", "127.0.0.1:1"]).unwrap(), Some("127.0.0.1:1".parse().unwrap()));
        let refused = parse(&["--ui-addr", "0.0.0.0:80"]).unwrap_err().to_string();
        assert!(refused.contains("--ui-addr") && refused.contains("not a loopback address"), "{refused}");
    }

    #[test]
    fn with_manifests_results_of_cni_are_read_only_where_it_is_said() {
        let directory = |more: &[&str]| {
            let words = ["run", "--node-name", "a"];
            path(&Line::try_parse_from(words.iter().chain(more)).unwrap().run.cni_results_dir)
        };
        assert_eq!(directory(&[]), Some("/var/lib/cni/results".into()));
        assert_eq!(directory(&["--manifests", "/m"]), None);
        for more in [&[][..], &["--manifests", "/m"]] {
            assert_eq!(directory(&[more, &["--cni-results-dir="]].concat()), None);
            assert_eq!(directory(&[more, &["--cni-results-dir", "/r"]].concat()), Some("/r".into()));
        }
    }
}
