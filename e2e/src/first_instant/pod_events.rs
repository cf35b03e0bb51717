//! Records when each starting pod's address was known: on its node, by its CNI result, and elsewhere, by the API.

use super::{Micros, now};
use anyhow::{Context, Result};
use bridgewarden::model::Change as Fact;
use bridgewarden::source::{
    Changed, CniWatch, Liveness, Resource, Watch, WatchList, connect, parse_cni_result,
};
use bridgewarden::testbed::Netns;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct KnownPods {
    addresses: BTreeMap<String, IpAddr>,
    reported: BTreeMap<String, Micros>,
    /// The last error of the watch of the API.
    trouble: Option<String>,
}

/// What is known of one namespace's pods. Clones share it.
#[derive(Clone, Debug)]
pub struct PodEvents {
    namespace: Arc<str>,
    known: Arc<Mutex<KnownPods>>,
}

impl PodEvents {
    /// Knows no pods yet.
    pub fn new(namespace: &str) -> PodEvents {
        PodEvents { namespace: namespace.into(), known: Arc::default() }
    }

    /// The starting pods that have a network, with their addresses.
    pub fn addresses(&self) -> Vec<(String, IpAddr)> {
        self.lock().addresses.iter().map(|(name, address)| (name.clone(), *address)).collect()
    }

    /// When a watch of the API reported the starting pod's address.
    pub fn reported(&self, name: &str) -> Option<Micros> {
        self.lock().reported.get(name).copied()
    }

    /// The last error of the watch of the API.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Follows a node's CNI results from now on, for as long as this process runs.
    ///
    /// # Errors
    /// They cannot be watched.
    pub fn follow_results(&self, results: &Path) -> Result<()> {
        let (pod_events, results) = (self.clone(), results.to_owned());
        let runtime = runtime()?;
        let mut watch = runtime
            .block_on(async { CniWatch::new(&results) })
            .with_context(|| format!("cannot watch {}", results.display()))?;
        spawn("results", move || {
            runtime.block_on(async {
                while let Ok(changed) = watch.changed().await {
                    pod_events.look(changed, &results);
                }
            });
        })
    }

    fn look(&self, changed: Changed, results: &Path) {
        let paths: Vec<PathBuf> = match changed {
            Changed::Files(paths) => paths.into_iter().collect(),
            Changed::Anything => oldest_first(results),
        };
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(text) = fs::read(&path) else { continue };
            let Ok(Some(sandbox)) = parse_cni_result(&name, &text, Duration::ZERO) else { continue };
            let pod = &sandbox.key.pod;
            if pod.namespace.as_str() == &*self.namespace
                && let Some(address) = sandbox.addresses.first()
            {
                self.lock().addresses.insert(pod.name.to_string(), *address);
            }
        }
    }

    /// Follows the API from now on, for as long as this process runs.
    ///
    /// # Errors
    /// The network cannot be entered, or the API server cannot be reached.
    pub fn follow_api(&self, kubeconfig: &Path, network: Option<&Netns>) -> Result<()> {
        let (pod_events, kubeconfig) = (self.clone(), kubeconfig.to_owned());
        let network = network.cloned();
        spawn("watch", move || {
            let follow = || runtime().map(|runtime| runtime.block_on(pod_events.watch(&kubeconfig)));
            let ended = match &network {
                Some(network) => network.enter(follow).map_err(anyhow::Error::from).flatten(),
                None => follow(),
            };
            if let Err(error) = ended.flatten() {
                pod_events.lock().trouble = Some(format!("it has ended: {error:#}"));
            }
        })
    }

    async fn watch(&self, kubeconfig: &Path) -> Result<()> {
        let liveness = Liveness::new(Instant::now());
        let client = connect(Some(kubeconfig), liveness.clone()).await?;
        let mut watch = Watch::new(&client, Resource::Pods, WatchList::Auto, liveness);
        loop {
            match watch.next().await {
                Ok(news) => {
                    let age = u64::try_from(news.seen.elapsed().as_micros()).unwrap_or(0);
                    let seen = now() - age;
                    for change in news.changes {
                        if let Fact::Pod(pod) = change
                            && pod.key.namespace.as_str() == &*self.namespace
                            && !pod.addresses.is_empty()
                        {
                            self.lock().reported.entry(pod.key.name.to_string()).or_insert(seen);
                        }
                    }
                }
                Err(trouble) => {
                    self.lock().trouble = Some(trouble.error);
                    tokio::time::sleep(trouble.wait).await;
                }
            }
        }
    }

    /// Removes pods that have ended; their addresses may be reused.
    pub fn forget(&self, names: &[String]) {
        self.lock().addresses.retain(|name, _| !names.contains(name));
    }

    fn lock(&self) -> MutexGuard<'_, KnownPods> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files of a directory. A pod whose node has rebooted may have two results: the later one has its address.
fn oldest_first(results: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(results).into_iter().flatten().flatten();
    let mut dated: Vec<_> = entries
        .filter_map(|entry| Some((entry.metadata().and_then(|file| file.modified()).ok()?, entry.path())))
        .collect();
    dated.sort();
    dated.into_iter().map(|(_, path)| path).collect()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")
}

fn spawn(name: &str, follow: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(follow).map(drop).context("cannot start a thread")
}
