//! Serves the page of the node, at a bounded cost whatever clients do, to processes of this host only.

use super::connections::{Connections, ServerLimits, is_about_the_client};
use super::{UiAddress, listen_at};
use axum::Router;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;

/// A page is larger than metrics, and may take some seconds to make.
const LIMITS: ServerLimits = ServerLimits {
    connections: 32,
    grace: Duration::from_millis(50),
    headers: Duration::from_secs(5),
    whole: Duration::from_secs(20),
    farewell: Duration::from_millis(500),
    buffer: 16 * 1024,
};

/// How long to wait after a connection could not be accepted, which is when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A listener at a [`UiAddress`].
#[derive(Debug)]
pub enum UiListener {
    /// At a loopback address.
    Loopback(TcpListener),
    /// At a Unix socket.
    Socket(UnixListener),
}

enum UiStream {
    Loopback(TcpStream),
    Socket(UnixStream),
}

impl UiListener {
    /// Listens at an address.
    ///
    /// # Errors
    /// It is in use, or cannot be used.
    pub async fn bind(address: &UiAddress) -> io::Result<UiListener> {
        Ok(match address {
            UiAddress::Loopback(address) => UiListener::Loopback(TcpListener::bind(address).await?),
            UiAddress::Socket(path) => UiListener::Socket(listen_at(path)?),
        })
    }

    /// The next connection; `None` for one that does not come from this host.
    async fn accept(&self) -> io::Result<Option<UiStream>> {
        match self {
            UiListener::Loopback(listener) => {
                let (stream, peer) = listener.accept().await?;
                // With the sysctl route_localnet, a neighbour on the link can send packets to 127.0.0.1, under its own address.
                Ok(peer.ip().is_loopback().then_some(UiStream::Loopback(stream)))
            }
            UiListener::Socket(listener) => Ok(Some(UiStream::Socket(listener.accept().await?.0))),
        }
    }
}

/// Serves what a router says until `shutdown` completes, and then finishes responses for a moment.
///
/// It cannot fail: an error on a connection affects only that client, and one in accepting is logged and retried.
pub async fn serve_ui(listener: UiListener, router: Router, shutdown: impl Future<Output = ()> + Send) {
    let mut connections = Connections::new(LIMITS, "the page of the node");
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Some(UiStream::Loopback(stream))) => connections.open(stream, router.clone()).await,
            Ok(Some(UiStream::Socket(stream))) => connections.open(stream, router.clone()).await,
            Ok(None) => {}
            Err(error) if is_about_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for the page of the node");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close().await;
}
