//! Where the daemon learns what is true: a cluster's API, or a directory.

use super::{cluster, events, manifests};
use crate::compile::Shortfall;
use crate::controller::{Delivery, NamespaceWatch};
use crate::flow::Record;
use crate::observe::{EventWriter, Health, Metrics};
use crate::source::{Heard, WatchList, connect};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Where facts come from. Without any of these flags, from the API of the cluster that the program runs in.
#[derive(Clone, Debug, Args)]
pub(super) struct Origin {
    /// Read and watch this directory of manifests instead of a cluster: Namespace, Pod and NetworkPolicy objects in YAML or
    /// JSON
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "watch_list", "events"])]
    manifests: Option<PathBuf>,
    /// Reach the API server as this kubeconfig says. Without it, use the service account of the pod that the program runs in
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How to list a resource before watching it
    #[arg(long, value_enum, default_value_t)]
    watch_list: Listing,
    /// Write Events on NetworkPolicies that cannot be fully enforced, and on pods that deny connections
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
enum Listing {
    /// As a stream, or page by page if the API server refuses to stream
    #[default]
    Auto,
    /// As a stream
    On,
    /// Page by page
    Off,
}

/// What Events are written of, if they are wanted.
pub(super) struct ForEvents {
    pub(super) shortfalls: Option<watch::Receiver<Vec<Shortfall>>>,
    pub(super) denied: Option<mpsc::Receiver<Record>>,
}

/// Where facts go.
pub(super) struct Outlet {
    pub(super) outbox: mpsc::Sender<Delivery>,
    /// Told whether the watch of namespaces is cut off.
    pub(super) namespaces: NamespaceWatch,
}

impl Origin {
    /// The readiness check that tells how it fares.
    pub(super) fn check(&self) -> &'static str {
        if self.manifests.is_some() { manifests::CHECK } else { cluster::CHECK }
    }

    /// Whether there is an API to write Events to, and they are wanted.
    pub(super) fn wants_events(&self) -> bool {
        self.manifests.is_none() && self.events == Switch::On
    }

    /// Whether what it tells of different kinds of objects comes by watches that do not wait for each other.
    pub(super) fn has_several_watches(&self) -> bool {
        self.manifests.is_none()
    }

    /// Delivers facts, and writes Events. Ends only with an error, or when nobody
    /// listens any more.
    pub(super) async fn deliver(
        &self,
        node: &str,
        audit_every: Duration,
        outlet: Outlet,
        for_events: ForEvents,
        metrics: Metrics,
        health: Health,
    ) -> Result<()> {
        let list = match self.watch_list {
            Listing::Auto => WatchList::Auto,
            Listing::On => WatchList::On,
            Listing::Off => WatchList::Off,
        };
        match &self.manifests {
            Some(manifests) => {
                manifests::deliver(manifests.clone(), audit_every, outlet.outbox, metrics, health).await
            }
            None => {
                let heard = Heard::new(Instant::now());
                let client = connect(self.kubeconfig.as_deref(), heard.clone()).await?;
                let ForEvents { shortfalls, denied } = for_events;
                if let Some(shortfalls) = shortfalls {
                    tokio::spawn(events::write(EventWriter::new(client.clone(), node), shortfalls));
                }
                if let Some(denied) = denied {
                    tokio::spawn(events::write_denied(EventWriter::new(client.clone(), node), denied));
                }
                cluster::deliver(&client, node, heard, list, outlet, metrics, health).await
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.manifests, &self.kubeconfig) {
            (Some(manifests), _) => write!(f, "manifests in {}", manifests.display()),
            (None, Some(kubeconfig)) => write!(f, "API server by {}", kubeconfig.display()),
            (None, None) => f.write_str("API server of this cluster"),
        }
    }
}
