//! The settings of the agent on one node, set by the flags of `bridgewarden run`.

use super::ObjectSource;
use crate::compile::{Limits, UnknownPods};
use crate::controller::Takeover;
use crate::kernel::preflight::Wanted;
use crate::observe::{CertificateFiles, Metrics, UiAddress};
use crate::render::Options;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of the agent on one node.
pub struct Settings {
    /// The node's name, as in the pods' `spec.nodeName`.
    pub node_name: String,
    /// Where namespaces, pods and policies come from.
    pub source: ObjectSource,
    /// The directory of CNI results, if they are read.
    pub cni_results_dir: Option<PathBuf>,
    /// What to do with a pod that runs on this node and that the API server has not reported.
    pub unknown_pods: UnknownPods,
    /// Whether the rules of another NetworkPolicy controller that no longer runs are removed.
    pub takeover: Takeover,
    /// What is rendered, if this node's kernel can do it.
    pub options: Options,
    /// Whether other programs are kept from changing our tables of nf_tables, where the kernel can.
    pub own_tables: bool,
    /// The limits for one policy.
    pub limits: Limits,
    /// What the preflight checks look for, including the variant of iptables to use.
    pub wanted: Wanted,
    /// How often the kernel is compared with the desired rules.
    pub audit_interval: Duration,
    /// Whether what the kernel decides is then compared with what policies say.
    pub verify: bool,
    /// Where `/healthz`, `/livez` and `/readyz` are served, and `/metrics` unless it has an address of its own.
    pub http_addr: SocketAddr,
    /// Where `/metrics` is served over TLS, if it has an address of its own.
    pub metrics_endpoint: Option<MetricsEndpoint>,
    /// The metrics that are served.
    pub metrics: Metrics,
    /// Whether packets that each policy allowed are counted.
    pub metrics_per_policy: bool,
    /// Whether each denied flow is logged.
    pub log_denied: bool,
    /// The Unix socket at which denied flows are served, if any.
    pub flows_socket: Option<PathBuf>,
    /// The Unix socket at which the status is served, if any.
    pub status_socket: Option<PathBuf>,
    /// Where the page of the node is served, if anywhere.
    pub ui_address: Option<UiAddress>,
}

/// An address at which `/metrics` is served over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsEndpoint {
    /// The address.
    pub address: SocketAddr,
    /// The server's certificate.
    pub certificate: CertificateFiles,
    /// Who may read the metrics.
    pub scrapers: Scrapers,
}

/// Who may read the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrapers {
    /// Everyone who reaches the address.
    All,
    /// Clients with a token of the cluster, whose user may get `/metrics`.
    Reviewed {
        /// How to reach the API server that knows them; without a file, by the service account of the pod that the agent runs in.
        kubeconfig: Option<PathBuf>,
    },
}
