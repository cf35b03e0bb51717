//! Serves the page of the node, at a bounded cost whatever clients do, to processes of this host only.

use super::connections::{Accept, ServerLimits, serve_router};
use super::{UiAddress, listen_at};
use axum::Router;
use std::future::{Ready, ready};
use std::io;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// A page is larger than metrics, and may take some seconds to make.
const LIMITS: ServerLimits = ServerLimits {
    connections: 32,
    grace: Duration::from_millis(50),
    headers: Duration::from_secs(5),
    whole: Duration::from_secs(20),
    farewell: Duration::from_millis(500),
    buffer: 16 * 1024,
};

/// What it serves, for the log.
const SUBJECT: &str = "the page of the node";

/// A listener at a [`UiAddress`].
#[derive(Debug)]
pub enum UiListener {
    /// At a loopback address.
    Loopback(TcpListener),
    /// At a Unix socket.
    Socket(UnixListener),
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
}

/// Accepts only connections that come from this host.
struct FromThisHost(TcpListener);

impl Accept for FromThisHost {
    type Stream = TcpStream;
    type Opening = Ready<io::Result<TcpStream>>;

    async fn accept(&mut self) -> io::Result<Option<Self::Opening>> {
        let (stream, peer) = self.0.accept().await?;
        // With the sysctl route_localnet, a neighbour on the link can send packets to 127.0.0.1, under its own address.
        Ok(peer.ip().is_loopback().then(|| ready(Ok(stream))))
    }
}

/// Serves what a router says until `shutdown` completes, and then finishes responses for a moment.
///
/// It cannot fail: an error on a connection affects only that client, and one in accepting is logged and retried.
pub async fn serve_ui(listener: UiListener, router: Router, shutdown: impl Future<Output = ()> + Send) {
    match listener {
        UiListener::Loopback(listener) => {
            serve_router(LIMITS, SUBJECT, FromThisHost(listener), router, shutdown).await;
        }
        UiListener::Socket(listener) => serve_router(LIMITS, SUBJECT, listener, router, shutdown).await,
    }
}
