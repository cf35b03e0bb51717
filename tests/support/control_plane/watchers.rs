//! Watchers that count the bytes that they receive, and decode nothing.

use anyhow::{Context, Result};
use bridgewarden::testbed::Netns;
use futures::AsyncReadExt;
use http::{Request, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Runtime;

/// Many watches of one resource, each over its own connection. They end when this is dropped.
pub struct Watchers {
    received: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Watchers {
    /// Begins to watch from a namespace, with the credentials of a kubeconfig: `path` is the watch with its parameters,
    /// and `accept` the requested encoding (the header Accept).
    ///
    /// # Errors
    /// A watch is rejected.
    /// When a watch is rejected.
    pub fn begin(
        from: &Netns,
        kubeconfig: &Path,
        path: &str,
        accept: &str,
        count: usize,
    ) -> Result<Watchers> {
        // Its threads start in the namespace, and stay there.
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = from.enter(build)?.context("cannot start a runtime")?;
        let received = Arc::<AtomicU64>::default();
        let read = Kubeconfig::read_from(kubeconfig);
        let read = read.with_context(|| format!("cannot read {}", kubeconfig.display()))?;
        for _ in 0..count {
            let (read, received) = (read.clone(), Arc::clone(&received));
            let request = Request::get(path).header(header::ACCEPT, accept).body(Vec::new());
            let request = request.context("cannot make a request")?;
            let begin = async move {
                let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
                let stream = Client::try_from(config)?.request_stream(request).await?;
                anyhow::Ok(stream)
            };
            let stream = runtime.block_on(async { tokio::spawn(begin).await });
            let stream = stream.context("a request ended in a panic")?;
            let mut stream = Box::pin(stream.with_context(|| format!("cannot watch {path}"))?);
            runtime.spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    received.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
        Ok(Watchers { received, _runtime: runtime })
    }

    /// How many bytes all of them have received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}
