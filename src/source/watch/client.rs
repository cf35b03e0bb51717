//! The client of the API server, with timeouts for an agent that has no other source.

use super::Liveness;
use super::hedged::Hedged;
use super::idle_timeout::IdleTimeout;
use super::in_protobuf::InProtobuf;
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

/// How long connecting may take, all attempts for one connection together.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may send nothing. It sends a bookmark about every minute on each watch, so a server that is silent
/// for longer is gone, even if the connection was never closed.
const IDLE_LIMIT: Duration = Duration::from_secs(100);
/// TCP keepalive: after how long without data the first probe is sent, and the time between probes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(3);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
/// After how long without an acknowledgement a connection is closed (`TCP_USER_TIMEOUT`). An interruption of the
/// network that is longer is noticed by then; after a shorter one, the server's data arrives within a few seconds, as
/// TCP's retransmission timeout doubles from 0.2 s on.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How many received bytes of each connection are in memory. Without a limit, a list would leave buffers of 512 KiB.
const READ_BUFFER: usize = 64 * 1024;

/// Why no client can be created.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is no service account.
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
    /// No client can be created with the settings.
    #[error("cannot create a client for the API server {server}: {error}")]
    Client {
        /// The server's address.
        server: String,
        /// What is wrong.
        error: Box<kube::Error>,
    },
}

/// Creates a client from a kubeconfig, or from the service account of the pod in which this program runs. It sends no
/// request yet, and uses no proxy.
pub async fn connect(kubeconfig: Option<&Path>, liveness: Liveness) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        None => Config::incluster_env()?,
        Some(path) => from_file(path)
            .await
            .map_err(|error| ConnectError::Kubeconfig { path: path.to_owned(), error })?,
    };
    config.connect_timeout = Some(CONNECT);
    let server = config.cluster_url.to_string();
    client(&config, &liveness).map_err(|error| ConnectError::Client { server, error: Box::new(error) })
}

/// Creates kube's client, with connections that notice when the network is interrupted. The client itself does not
/// retry: each watch backs off, retries and logs that.
fn client(config: &Config, liveness: &Liveness) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EVERY));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let mut connector = TimeoutConnector::new(
        config.rustls_https_connector_with_connector(Hedged::new(tcp, liveness.clone()))?,
    );
    connector.set_connect_timeout(config.connect_timeout);
    let http: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).http1_max_buf_size(READ_BUFFER).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    let client = ClientBuilder::new(service, config.default_namespace.clone());
    Ok(client
        .with_layer(&IdleTimeout(IDLE_LIMIT))
        .with_layer(liveness)
        .with_layer(&InProtobuf(liveness.clone()))
        .build())
}

async fn from_file(path: &Path) -> Result<Config, kube::config::KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await
}
