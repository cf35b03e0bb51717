//! A client of the API server, for a daemon that has nobody else to ask.

use super::Heard;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may say nothing. It sends a bookmark about every minute to those who watch; one that is silent
/// for longer is gone without a word.
const SILENCE: Duration = Duration::from_secs(100);

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is no service account to be found.
    #[error(
        "cannot speak to the API as a pod of the cluster ({0}): run in a pod with a service account, or name a \
         kubeconfig with --kubeconfig, or a directory with --manifests"
    )]
    InCluster(#[from] kube::config::InClusterError),
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: {error}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: kube::config::KubeconfigError,
    },
    /// The settings lead to no client.
    #[error("cannot make a client of the API server {server}: {error}")]
    Client {
        /// The server's address.
        server: String,
        /// What is wrong.
        error: Box<kube::Error>,
    },
}

/// Makes a client from a kubeconfig, or from the service account of the pod that this program runs in. Nothing is asked of
/// the server yet. Proxies are not used.
pub async fn connect(kubeconfig: Option<&Path>, heard: Heard) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        None => Config::incluster_env()?,
        Some(path) => from_file(path)
            .await
            .map_err(|error| ConnectError::Kubeconfig { path: path.to_owned(), error })?,
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // Whoever watches waits and tries again by himself, and says so.
    config.default_retry = false;
    config.proxy_url = None;
    let server = config.cluster_url.to_string();
    let builder = ClientBuilder::try_from(config)
        .map_err(|error| ConnectError::Client { server, error: Box::new(error) })?;
    Ok(builder.with_layer(&heard).build())
}

async fn from_file(path: &Path) -> Result<Config, kube::config::KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await
}
