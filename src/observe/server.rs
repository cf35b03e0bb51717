//! Serves metrics and health over HTTP, at a bounded cost whatever clients do.

use super::connections::{ServerLimits, serve_router};
use super::page::{health_router, metrics_router, router};
use super::{Health, Metrics, ScraperReview, TlsListener};
use std::time::Duration;
use tokio::net::TcpListener;

const LIMITS: ServerLimits = ServerLimits {
    connections: 256,
    grace: Duration::from_millis(50),
    headers: Duration::from_secs(5),
    whole: Duration::from_secs(10),
    farewell: Duration::from_secs(1),
    buffer: 16 * 1024,
};

/// What the server serves, for the log.
const SUBJECT: &str = "metrics or health";

/// Serves `/metrics`, `/healthz`, `/livez`, `/readyz` and an index until `shutdown` completes, and then finishes responses for at
/// most a second.
///
/// It cannot fail: an error on a connection affects only that client, and one in accepting is logged and retried.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    shutdown: impl Future<Output = ()> + Send,
) {
    serve_router(LIMITS, SUBJECT, listener, router(metrics, health), shutdown).await;
}

/// As [`serve`], without `/metrics`.
pub async fn serve_health(listener: TcpListener, health: Health, shutdown: impl Future<Output = ()> + Send) {
    serve_router(LIMITS, SUBJECT, listener, health_router(&health), shutdown).await;
}

/// As [`serve`], `/metrics` alone and over TLS. With a review, only to clients that may read it.
pub async fn serve_metrics(
    listener: TlsListener,
    metrics: Metrics,
    health: Health,
    review: Option<ScraperReview>,
    shutdown: impl Future<Output = ()> + Send,
) {
    serve_router(LIMITS, SUBJECT, listener, metrics_router(metrics, health, review), shutdown).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use std::io;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep, timeout};

    /// Long enough for a slow machine; nothing waits for it to pass.
    const TEST_TIMEOUT: Duration = Duration::from_secs(30);
    /// A limit that no test lives to see.
    const NEVER: Duration = Duration::from_secs(600);

    struct Server {
        address: SocketAddr,
        metrics: Metrics,
        health: Health,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    async fn server(limits: ServerLimits) -> Server {
        let (metrics, health) = (Metrics::default(), Health::new(&["manifests", "preflight"]));
        let router = router(metrics.clone(), health.clone());
        serving(limits, metrics, health, router).await
    }

    async fn serving(limits: ServerLimits, metrics: Metrics, health: Health, router: Router) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve_router(limits, SUBJECT, listener, router, async {
            let _ = stopped.await;
        }));
        Server { address, metrics, health, stop, task }
    }

    impl Server {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn ask(&self, request: &str) -> String {
            let mut stream = self.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            rest(&mut stream).await.unwrap()
        }

        async fn get(&self, path: &str) -> String {
            self.ask(&format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n")).await
        }
    }

    async fn rest(stream: &mut TcpStream) -> io::Result<String> {
        let mut text = String::new();
        timeout(TEST_TIMEOUT, stream.read_to_string(&mut text)).await.expect("the server closes")?;
        Ok(text)
    }

    fn body(response: &str) -> &str {
        response.split_once("\r\n\r\n").unwrap().1
    }

    #[tokio::test]
    async fn metrics_are_served_in_the_text_format() {
        let server = server(LIMITS).await;
        server.metrics.manifest_errors(3);
        let response = server.get("/metrics").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("content-type: text/plain; version=0.0.4\r\n"), "{response}");
        assert!(body(&response).contains("\nbridgewarden_manifest_errors 3\n"), "{response}");
    }

    #[tokio::test]
    async fn the_ready_metric_says_what_readyz_says() {
        let server = server(LIMITS).await;
        assert!(server.get("/metrics").await.contains("\nbridgewarden_ready 0\n"));
        server.health.set_check("manifests", Ok(()));
        server.health.set_check("preflight", Ok(()));
        assert!(server.get("/metrics").await.contains("\nbridgewarden_ready 1\n"));
    }

    #[tokio::test]
    async fn a_live_daemon_says_ok() {
        let server = server(LIMITS).await;
        for path in ["/healthz", "/livez"] {
            let response = server.get(path).await;
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            assert_eq!(body(&response), "ok\n");
        }
    }

    #[tokio::test]
    async fn readiness_lists_each_check() {
        let server = server(LIMITS).await;
        server.health.set_check("preflight", Ok(()));
        server.health.set_check("manifests", Err("cannot read a.yaml\n  at line 3\n".into()));
        let response = server.get("/readyz").await;
        assert!(response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{response}");
        let expected = "[-]manifests failed: cannot read a.yaml; at line 3\n\
            [+]preflight ok\nreadyz check failed\n";
        assert_eq!(body(&response), expected);
        server.health.set_check("manifests", Ok(()));
        let response = server.get("/readyz").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert_eq!(body(&response), "[+]manifests ok\n[+]preflight ok\nreadyz check passed\n");
    }

    #[tokio::test]
    async fn the_index_names_every_page_and_other_paths_are_not_found() {
        let server = server(LIMITS).await;
        let index = server.get("/").await;
        assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
        for path in ["/metrics", "/livez", "/healthz", "/readyz"] {
            assert!(index.contains(path), "{index}");
        }
        assert!(server.get("/debug").await.starts_with("HTTP/1.1 404 Not Found\r\n"));
    }

    #[tokio::test]
    async fn without_metrics_their_page_is_not_found_and_says_where_they_are() {
        let router = health_router(&Health::new(&[]));
        let server = serving(LIMITS, Metrics::default(), Health::new(&[]), router).await;
        let response = server.get("/metrics").await;
        assert!(response.starts_with("HTTP/1.1 404 Not Found\r\n"), "{response}");
        assert!(response.contains("--metrics-addr") && !response.contains("bridgewarden_"), "{response}");
        assert!(server.get("/livez").await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(server.get("/readyz").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn only_get_and_head_are_allowed() {
        let server = server(LIMITS).await;
        let head = server.ask("HEAD /livez HTTP/1.1\r\nHost: node\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body(&head), "");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let request = format!("{method} /metrics HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\n\r\n");
            let response = server.ask(&request).await;
            assert!(response.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{response}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_promised_but_never_sent_is_not_waited_for() {
        let server = server(LIMITS).await;
        let request = "GET /livez HTTP/1.1\r\nHost: node\r\nContent-Length: 99999999\r\n\r\n";
        assert!(server.ask(request).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn a_client_that_is_done_sending_is_still_answered() {
        let server = server(LIMITS).await;
        let mut stream = server.connect().await;
        stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(rest(&mut stream).await.unwrap().starts_with("HTTP/1.0 200 OK\r\n"));
    }

    #[tokio::test]
    async fn nonsense_and_endless_headers_are_refused() {
        let server = server(LIMITS).await;
        assert!(server.ask("\u{1}\u{2}\u{3}\r\n\r\n").await.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        let mut stream = server.connect().await;
        let flood = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(LIMITS.buffer * 4));
        let _ = stream.write_all(flood.as_bytes()).await;
        match rest(&mut stream).await {
            Ok(text) => assert!(text.starts_with("HTTP/1.1 431 "), "{text}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_its_headers_drop_by_drop_is_closed() {
        let headers = Duration::from_millis(200);
        let server = server(ServerLimits { headers, whole: NEVER, ..LIMITS }).await;
        let (mut reader, mut writer) = server.connect().await.into_split();
        writer.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
        let drip = tokio::spawn(async move {
            while writer.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let mut answer = Vec::new();
        let _ = timeout(TEST_TIMEOUT, reader.read_to_end(&mut answer)).await.expect("the server closes");
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        timeout(TEST_TIMEOUT, drip).await.expect("writing fails once the server has closed").unwrap();
    }

    #[tokio::test]
    async fn a_silent_client_is_closed() {
        let server =
            server(ServerLimits { headers: Duration::from_millis(50), whole: NEVER, ..LIMITS }).await;
        let mut stream = server.connect().await;
        let _ = rest(&mut stream).await;
    }

    #[tokio::test]
    async fn a_connection_ends_at_its_deadline_whatever_it_does() {
        let server =
            server(ServerLimits { headers: NEVER, whole: Duration::from_millis(50), ..LIMITS }).await;
        let mut stream = server.connect().await;
        let _ = rest(&mut stream).await;
    }

    #[tokio::test]
    async fn five_hundred_idle_connections_do_not_keep_a_scrape_waiting() {
        let server = server(ServerLimits { headers: NEVER, whole: NEVER, ..LIMITS }).await;
        let mut idle = Vec::new();
        for _ in 0..500 {
            idle.push(server.connect().await);
        }
        let begin = Instant::now();
        let response = server.get("/metrics").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(begin.elapsed() < TEST_TIMEOUT / 2, "waited for idlers: {:?}", begin.elapsed());
        let _ = rest(&mut idle[0]).await;
        let last = idle.last_mut().unwrap();
        last.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
        assert!(rest(last).await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn no_more_connections_are_open_at_once_than_allowed() {
        let limits = ServerLimits { connections: 4, headers: NEVER, whole: NEVER, ..LIMITS };
        let server = server(limits).await;
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(server.connect().await);
        }
        for stream in &mut idle[..6] {
            let _ = rest(stream).await;
        }
        for stream in &mut idle[6..] {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
            assert!(rest(stream).await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        }
    }

    #[tokio::test]
    async fn nobody_is_closed_for_another_before_there_was_time_to_ask() {
        let server = server(ServerLimits { connections: 4, grace: NEVER, ..LIMITS }).await;
        let mut early = Vec::new();
        for _ in 0..4 {
            early.push(server.connect().await);
        }
        let mut late = server.connect().await;
        late.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
        for stream in &mut early {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
            assert!(rest(stream).await.unwrap().ends_with("ok\n"));
        }
        assert!(rest(&mut late).await.unwrap().ends_with("ok\n"), "there is room now");
    }

    #[tokio::test]
    async fn shutdown_ends_the_server_though_clients_linger() {
        let server = server(LIMITS).await;
        let mut idle = server.connect().await;
        assert!(server.get("/livez").await.ends_with("ok\n"));
        server.stop.send(()).unwrap();
        timeout(TEST_TIMEOUT, server.task).await.expect("the server ends").unwrap();
        let _ = rest(&mut idle).await;
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}
