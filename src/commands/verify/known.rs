//! What an agent on this node would know: read once, not watched.

use crate::model::Change;
use crate::source::{
    Changed, CniResults, Directory, LinkWatch, Liveness, Resource, Watch, WatchList, connect,
};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a list of the API server may take.
const LIST_LIMIT: Duration = Duration::from_secs(60);

/// Where facts are read from.
pub(super) struct Source {
    pub(super) manifests: Option<PathBuf>,
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) cni_results_dir: Option<PathBuf>,
    /// The bridge whose ports are bound to pods, if they are.
    pub(super) bridge: Option<String>,
}

impl Source {
    /// Everything that is known now, in the order in which an agent learns it.
    pub(super) async fn read(&self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        if let Some(directory) = &self.cni_results_dir {
            changes.extend(CniResults::new(directory).scan(&Changed::Anything).changes);
        }
        if let Some(bridge) = &self.bridge {
            let read = async { LinkWatch::new(bridge)?.changed().await };
            let links =
                read.await.with_context(|| format!("cannot read the ports of the bridge {bridge}"))?;
            changes.extend(links.into_iter().map(Change::Link));
        }
        match &self.manifests {
            Some(directory) => {
                let loaded = Directory::new(directory).load();
                if let Some(error) = loaded.error {
                    bail!("cannot read {}:\n{error}", directory.display());
                }
                changes.extend(loaded.changes);
            }
            None => changes.extend(self.list().await?),
        }
        Ok(changes)
    }

    async fn list(&self) -> Result<Vec<Change>> {
        let liveness = Liveness::new(Instant::now());
        let client = connect(self.kubeconfig.as_deref(), liveness.clone()).await?;
        let mut changes = Vec::new();
        for resource in Resource::ALL {
            let mut watch = Watch::new(&client, resource, WatchList::Auto, liveness.clone());
            let listed = async {
                loop {
                    let update = watch.next().await.map_err(|trouble| anyhow::anyhow!(trouble.error))?;
                    changes.extend(update.changes);
                    if update.listed {
                        return anyhow::Ok(());
                    }
                }
            };
            let what = || format!("cannot list {} at the API server", resource.word());
            tokio::time::timeout(LIST_LIMIT, listed).await.with_context(what)?.with_context(what)?;
        }
        Ok(changes)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.manifests, &self.kubeconfig) {
            (Some(directory), _) => write!(f, "manifests in {}", directory.display()),
            (None, Some(kubeconfig)) => write!(f, "API server by {}", kubeconfig.display()),
            (None, None) => f.write_str("API server of this cluster"),
        }
    }
}
