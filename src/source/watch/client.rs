//! A client of the API server, for a daemon that has nobody else to ask.

use super::Heard;
use super::hedged::Hedged;
use super::in_protobuf::InProtobuf;
use super::patience::Patience;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use tower::{BoxError, ServiceBuilder};

/// How long a connection may take to come about, all that are begun for it together.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may say nothing. It sends a bookmark about every minute to those who watch; one that is silent
/// for longer is gone without a word.
const SILENCE: Duration = Duration::from_secs(100);
/// After how long without a word the other end's kernel is asked whether it is still there, and how often.
const ASK_AFTER: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// After how long without an answer of the other end's kernel a connection is given up. A network that was cut for longer
/// is noticed by then; after a shorter cut, what the server tries to send comes by itself within a few seconds, as TCP
/// doubles its pauses from 0.2 s on.
const UNANSWERED: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is no service account to be found.
    #[error(
        "cannot use the service account of a pod ({0}): run in a pod that has one, or use --kubeconfig FILE or \
         --manifests DIRECTORY"
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
    #[error("cannot create a client for the API server {server}: {error}")]
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
    let server = config.cluster_url.to_string();
    client(&config, &heard).map_err(|error| ConnectError::Client { server, error: Box::new(error) })
}

/// As kube makes a client, but of connections that notice when the network between is cut. Nothing is asked twice here:
/// whoever watches waits and tries again by himself, and says so.
fn client(config: &Config, heard: &Heard) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(ASK_AFTER));
    tcp.set_keepalive_interval(Some(ASK_EVERY));
    tcp.set_tcp_user_timeout(Some(UNANSWERED));
    let mut connector =
        TimeoutConnector::new(config.rustls_https_connector_with_connector(Hedged::new(tcp, heard.clone()))?);
    connector.set_connect_timeout(config.connect_timeout);
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    let client = ClientBuilder::new(service, config.default_namespace.clone());
    Ok(client.with_layer(&Patience(SILENCE)).with_layer(heard).with_layer(&InProtobuf(heard.clone())).build())
}

async fn from_file(path: &Path) -> Result<Config, kube::config::KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await
}
