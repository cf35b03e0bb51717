//! Where the agent gets namespaces, pods and policies: the API server, or a directory of manifests.

use super::{api_server, events, manifests};
use crate::compile::Shortfall;
use crate::controller::{Delivery, NamespaceWatch};
use crate::flow::Record;
use crate::observe::{EventWriter, Health, Metrics, Warning};
use crate::source::{Liveness, WatchList, connect};
use anyhow::Result;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Where namespaces, pods and policies come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectSource {
    /// A directory of manifests.
    Manifests {
        /// Its path.
        directory: PathBuf,
    },
    /// A cluster's API server.
    ApiServer {
        /// How to reach it; without a file, by the service account of the pod that the agent runs in.
        kubeconfig: Option<PathBuf>,
        /// How a resource is listed before it is watched.
        list: WatchList,
        /// Whether Events are written.
        events: bool,
    },
}

/// What Events are written about, if they are wanted.
pub(super) struct ForEvents {
    pub(super) shortfalls: Option<watch::Receiver<Vec<Shortfall>>>,
    pub(super) denied: Option<mpsc::Receiver<Record>>,
    pub(super) unreadable_pods: watch::Receiver<Vec<Warning>>,
}

/// Where changes are sent.
pub(super) struct Outlet {
    pub(super) outbox: mpsc::Sender<Delivery>,
    /// Set while the watch of namespaces is cut off.
    pub(super) namespaces: NamespaceWatch,
    /// Warnings about the pods of this node that cannot be read.
    pub(super) unreadable_pods: watch::Sender<Vec<Warning>>,
}

impl ObjectSource {
    /// The readiness check of this source.
    pub(super) fn check(&self) -> &'static str {
        match self {
            ObjectSource::Manifests { .. } => manifests::CHECK,
            ObjectSource::ApiServer { .. } => api_server::CHECK,
        }
    }

    /// Whether there is an API server to write Events to, and they are wanted.
    pub(super) fn wants_events(&self) -> bool {
        match self {
            ObjectSource::Manifests { .. } => false,
            ObjectSource::ApiServer { events, .. } => *events,
        }
    }

    /// Whether kinds of objects come by watches that do not wait for each other.
    pub(super) fn has_several_watches(&self) -> bool {
        match self {
            ObjectSource::Manifests { .. } => false,
            ObjectSource::ApiServer { .. } => true,
        }
    }

    /// Delivers changes, and writes Events. Ends only with an error, or when the controller has ended.
    pub(super) async fn deliver(
        &self,
        node: &str,
        audit_interval: Duration,
        outlet: Outlet,
        for_events: ForEvents,
        metrics: Metrics,
        health: Health,
    ) -> Result<()> {
        match self {
            ObjectSource::Manifests { directory } => {
                manifests::deliver(directory.clone(), audit_interval, outlet.outbox, metrics, health).await
            }
            ObjectSource::ApiServer { kubeconfig, list, .. } => {
                let liveness = Liveness::new(Instant::now());
                let client = connect(kubeconfig.as_deref(), liveness.clone()).await?;
                let ForEvents { shortfalls, denied, unreadable_pods } = for_events;
                if let Some(shortfalls) = shortfalls {
                    let writer = EventWriter::new(client.clone(), node);
                    tokio::spawn(events::write(writer, shortfalls, unreadable_pods));
                }
                if let Some(denied) = denied {
                    tokio::spawn(events::write_denied(EventWriter::new(client.clone(), node), denied));
                }
                api_server::deliver(&client, node, liveness, *list, outlet, metrics, health).await
            }
        }
    }
}

impl fmt::Display for ObjectSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectSource::Manifests { directory } => write!(f, "manifests in {}", directory.display()),
            ObjectSource::ApiServer { kubeconfig: Some(kubeconfig), .. } => {
                write!(f, "API server by {}", kubeconfig.display())
            }
            ObjectSource::ApiServer { kubeconfig: None, .. } => f.write_str("API server of this cluster"),
        }
    }
}
