//! Where the daemon learns what is true: a cluster's API, or a directory.

use super::{cluster, manifests};
use crate::controller::Delivery;
use crate::observe::{Health, Metrics};
use crate::source::WatchList;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::fmt;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Where facts come from. Without any of these flags, from the API of the cluster that the program runs in.
#[derive(Clone, Debug, Args)]
pub(super) struct Origin {
    /// A directory of manifests instead of a cluster: Namespace, Pod and NetworkPolicy objects in YAML or JSON. It is
    /// watched
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "watch_list"])]
    manifests: Option<PathBuf>,
    /// How to reach the API server; without it, by the service account of the pod that this program runs in
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How a resource is listed before it is watched
    #[arg(long, value_enum, default_value_t)]
    watch_list: Listing,
}

/// How a resource is listed before it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Listing {
    /// Streamed, or page by page if the API server refuses to stream
    #[default]
    Auto,
    /// Streamed
    On,
    /// Page by page
    Off,
}

impl Origin {
    /// The readiness check that tells how it fares.
    pub(super) fn check(&self) -> &'static str {
        if self.manifests.is_some() { manifests::CHECK } else { cluster::CHECK }
    }

    /// Delivers facts. Ends only with an error, or when nobody listens any more.
    pub(super) async fn deliver(
        &self,
        outbox: mpsc::Sender<Delivery>,
        metrics: Metrics,
        health: Health,
    ) -> Result<()> {
        let list = match self.watch_list {
            Listing::Auto => WatchList::Auto,
            Listing::On => WatchList::On,
            Listing::Off => WatchList::Off,
        };
        match &self.manifests {
            Some(manifests) => manifests::deliver(manifests.clone(), outbox, metrics, health).await,
            None => cluster::deliver(self.kubeconfig.as_deref(), list, outbox, metrics, health).await,
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
