//! The connections of an HTTP server, at a bounded cost whatever clients do.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Limits on what clients may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLimits {
    /// Connections at once. For one more, the oldest is closed, so that idle connections do not keep a new one waiting.
    pub(super) connections: usize,
    /// How long a connection is not closed for that, so that its request can arrive. New connections wait.
    pub(super) grace: Duration,
    /// From accepting a connection to the end of the request's headers; the handshake of TLS has as long before.
    pub(super) headers: Duration,
    /// From accepting a connection to the end of the response. A connection carries one request.
    pub(super) whole: Duration,
    /// For connections still open when the server ends.
    pub(super) farewell: Duration,
    /// Bytes of a request that are kept.
    pub(super) buffer: usize,
}

/// How long to wait after a connection could not be accepted, which is when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where connections come from.
pub(super) trait Accept: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What makes it ready to carry a request, such as a handshake. Others are accepted meanwhile.
    type Opening: Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// The next connection; `None` for one that is not answered.
    fn accept(&mut self) -> impl Future<Output = io::Result<Option<Self::Opening>>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Opening = Ready<io::Result<TcpStream>>;

    async fn accept(&mut self) -> io::Result<Option<Self::Opening>> {
        Ok(Some(ready(Ok(TcpListener::accept(self).await?.0))))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    type Opening = Ready<io::Result<UnixStream>>;

    async fn accept(&mut self) -> io::Result<Option<Self::Opening>> {
        Ok(Some(ready(Ok(UnixListener::accept(self).await?.0))))
    }
}

/// Serves what a router says until `shutdown` completes, and then finishes responses within a limit. `subject` is what it serves, for the
/// log.
///
/// It cannot fail: an error on a connection affects only that client, and one in accepting is logged and retried.
pub(super) async fn serve_router(
    limits: ServerLimits,
    subject: &'static str,
    mut listener: impl Accept,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut connections = Connections::new(limits, subject);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Some(opening)) => connections.open(opening, router.clone()).await,
            Ok(None) => {}
            Err(error) if is_about_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for {subject}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close().await;
}

/// Whether accepting failed because of the client, so that the next may succeed at once.
fn is_about_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The connections of one server.
struct Connections {
    /// What it serves, for the log.
    subject: &'static str,
    limits: ServerLimits,
    tasks: JoinSet<()>,
    by_age: VecDeque<(Instant, AbortHandle)>,
    closing: GracefulShutdown,
}

impl Connections {
    fn new(limits: ServerLimits, subject: &'static str) -> Connections {
        let closing = GracefulShutdown::new();
        Connections { subject, limits, tasks: JoinSet::new(), by_age: VecDeque::new(), closing }
    }

    /// Answers the request of one connection. Waits first if there are too many.
    async fn open<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &mut self,
        opening: impl Future<Output = io::Result<S>> + Send + 'static,
        router: Router,
    ) {
        self.make_room().await;
        let (limits, subject, closing) = (self.limits, self.subject, self.closing.watcher());
        let answered = timeout(limits.whole, async move {
            let stream = timeout(limits.headers, opening).await??;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.headers)
                .keep_alive(false)
                .half_close(true)
                .max_buf_size(limits.buffer)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            closing.watch(connection).await.map_err(io::Error::other)
        });
        let task = self.tasks.spawn(async move {
            if let Ok(Err(error)) = answered.await {
                tracing::trace!(%error, subject, "a client failed");
            }
        });
        self.by_age.push_back((Instant::now(), task));
    }

    /// Waits until there is room for one more; if need be, closes the oldest.
    async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        loop {
            self.by_age.retain(|(_, task)| !task.is_finished());
            let oldest = self.by_age.front().filter(|_| self.by_age.len() >= self.limits.connections);
            let Some((opened, oldest)) = oldest else { return };
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = sleep_until(*opened + self.limits.grace) => {
                    oldest.abort();
                    self.by_age.pop_front();
                    return;
                }
            }
        }
    }

    /// Lets the requests that are being answered end, within a limit.
    async fn close(self) {
        if timeout(self.limits.farewell, self.closing.shutdown()).await.is_err() {
            tracing::debug!(subject = self.subject, "stopping while HTTP requests are still being answered");
        }
    }
}
