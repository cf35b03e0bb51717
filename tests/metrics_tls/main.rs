//! Metrics over TLS, and who may read them: with real handshakes, and an API server that reviews tokens.

mod api;
mod authority;

use api::{ReviewApi, user};
use authority::{Authority, directory, files, server_name};
use bridgewarden::observe::{
    CertificateFiles, Health, Metrics, ScraperReview, TlsListenError, TlsListener, serve_metrics,
};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for a slow machine; nothing waits for it to pass.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A server of metrics with its authority.
struct Server {
    authority: Authority,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

async fn server(name: &str, review: Option<ScraperReview>) -> Server {
    let (authority, files) = (Authority::new(), files(&directory(name)));
    let certificate = authority.write(&files);
    let here = "127.0.0.1:0".parse().expect("an address");
    let listener = TlsListener::bind(here, files).await.expect("the certificate can be used");
    let address = listener.local_addr().expect("an address");
    let served =
        serve_metrics(listener, Metrics::default(), Health::new(&[]), review, std::future::pending());
    tokio::spawn(served);
    Server { authority, address, certificate }
}

/// A response and the certificate of the server that sent it.
struct Answer {
    text: String,
    certificate: CertificateDer<'static>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

impl Server {
    /// Gets a page with these headers.
    async fn get(&self, path: &str, headers: &str) -> io::Result<Answer> {
        self.get_trusting(&self.authority, path, headers).await
    }

    async fn get_trusting(&self, trusted: &Authority, path: &str, headers: &str) -> io::Result<Answer> {
        let stream = TcpStream::connect(self.address).await?;
        let mut stream = trusted.client().connect(server_name(), stream).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        timeout(TEST_TIMEOUT, stream.read_to_string(&mut text)).await.expect("the server closes")?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(Answer { text, certificate: chain[0].clone().into_owned() })
    }

    /// Gets the metrics with a token.
    async fn scrape(&self, token: &str) -> Answer {
        let header = format!("Authorization: Bearer {token}\r\n");
        self.get("/metrics", &header).await.expect("the handshake succeeds")
    }
}

#[tokio::test]
async fn metrics_are_served_over_tls_to_clients_that_trust_the_certificate_and_to_no_others() {
    let server = server("trusted", None).await;
    let answer = server.get("/metrics", "").await.expect("the handshake succeeds");
    assert_eq!(answer.status(), 200, "{}", answer.text);
    assert!(answer.text.contains("\nbridgewarden_ready "), "{}", answer.text);
    assert_eq!(answer.certificate, server.certificate);
    for path in ["/readyz", "/livez", "/healthz", "/nothing"] {
        assert_eq!(server.get(path, "").await.expect("the handshake succeeds").status(), 404, "{path}");
    }
    let other = server.get_trusting(&Authority::new(), "/metrics", "").await;
    assert!(other.is_err_and(|error| error.to_string().contains("certificate")));
    let mut plain = TcpStream::connect(server.address).await.expect("it listens");
    plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").await.expect("it reads");
    let mut received = Vec::new();
    let _ = timeout(TEST_TIMEOUT, plain.read_to_end(&mut received)).await.expect("the server closes");
    assert!(!received.starts_with(b"HTTP"), "a client without TLS was answered");
}

#[tokio::test]
async fn client_that_begins_no_handshake_keeps_no_other_waiting() {
    let server = server("silent", None).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(server.address).await.expect("it listens"));
    }
    let answer = timeout(TEST_TIMEOUT, server.get("/metrics", "")).await.expect("it is answered");
    assert_eq!(answer.expect("the handshake succeeds").status(), 200);
}

#[tokio::test]
async fn scraper_is_answered_if_the_api_server_knows_its_token_and_lets_it_get_metrics() {
    let api = ReviewApi::start(&directory("reviewed-api")).await;
    let server = server("reviewed", Some(ScraperReview::new(api.client.clone()))).await;
    let answer = server.scrape("prometheus").await;
    assert_eq!(answer.status(), 200, "{}", answer.text);
    assert!(answer.text.contains("\nbridgewarden_ready "), "{}", answer.text);
    let [known, may] = &api.reviews()[..] else { panic!("{:?}", api.reviews()) };
    assert_eq!(*known, json!({"token": "prometheus"}));
    let mut wanted = user("prometheus");
    let name = wanted.as_object_mut().and_then(|user| user.remove("username"));
    wanted["user"] = name.expect("it has a name");
    wanted["nonResourceAttributes"] = json!({"path": "/metrics", "verb": "get"});
    assert_eq!(*may, wanted, "the API server is asked about the user that it named");
}

#[tokio::test]
async fn client_without_a_token_or_with_an_unknown_one_is_unauthorized() {
    let api = ReviewApi::start(&directory("unauthorized-api")).await;
    let server = server("unauthorized", Some(ScraperReview::new(api.client.clone()))).await;
    for headers in [
        "",
        "Authorization: Basic cHJvbWV0aGV1cw==\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: prometheus\r\n",
        "Authorization: Bearer prometheus\r\nAuthorization: Bearer prometheus\r\n",
    ] {
        let answer = server.get("/metrics", headers).await.expect("the handshake succeeds");
        assert_eq!(answer.status(), 401, "{headers:?}: {}", answer.text);
        assert!(answer.text.contains("www-authenticate: Bearer\r\n"), "{headers:?}: {}", answer.text);
        assert!(!answer.text.contains("bridgewarden_ready"));
    }
    assert_eq!(api.reviews(), Vec::<serde_json::Value>::new(), "without a token there is nothing to ask");
    let answer = server.scrape("stolen").await;
    assert_eq!(answer.status(), 401, "{}", answer.text);
    assert!(!answer.text.contains("bridgewarden_ready"));
}

#[tokio::test]
async fn user_that_may_not_get_metrics_is_told_which_right_is_missing() {
    let api = ReviewApi::start(&directory("forbidden-api")).await;
    let server = server("forbidden", Some(ScraperReview::new(api.client.clone()))).await;
    let answer = server.scrape("jane").await;
    assert_eq!(answer.status(), 403, "{}", answer.text);
    assert!(answer.text.contains("jane may not get /metrics") && answer.text.contains("nonResourceURLs"));
    assert!(!answer.text.contains("bridgewarden_ready"));
}

#[tokio::test]
async fn without_an_api_server_only_scrapers_that_it_has_allowed_lately_are_answered() {
    let mut api = ReviewApi::start(&directory("away-api")).await;
    let server = server("away", Some(ScraperReview::new(api.client.clone()))).await;
    assert_eq!(server.scrape("prometheus").await.status(), 200);
    assert_eq!(server.scrape("jane").await.status(), 403);
    let asked = api.reviews().len();
    api.stop().await;
    assert_eq!(server.scrape("prometheus").await.status(), 200);
    assert_eq!(server.scrape("jane").await.status(), 403);
    assert_eq!(api.reviews().len(), asked, "what it said is not asked again at once");
    let answer = server.scrape("another").await;
    assert_eq!(answer.status(), 503, "{}", answer.text);
    assert!(answer.text.contains("cannot ask the API server"), "{}", answer.text);
    assert!(!answer.text.contains("bridgewarden_ready"));
}

#[tokio::test]
async fn files_that_are_no_certificate_with_its_key_are_named() {
    let here: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let (authority, good) = (Authority::new(), files(&directory("wrong")));
    let refusal = async |files: CertificateFiles| {
        let error: TlsListenError = TlsListener::bind(here, files).await.expect_err("it cannot be used");
        error.to_string()
    };
    let missing = refusal(good.clone()).await;
    assert!(missing.contains("cannot read") && missing.contains("tls.crt"), "{missing}");
    authority.write(&good);
    let other = files(&directory("wrong-other"));
    authority.write(&other);
    let mixed =
        refusal(CertificateFiles { certificate: good.certificate.clone(), key: other.key.clone() }).await;
    assert!(mixed.contains("cannot be used with the key in"), "{mixed}");
    let swapped =
        refusal(CertificateFiles { certificate: good.key.clone(), key: good.certificate.clone() }).await;
    assert!(swapped.contains("has no certificate in PEM"), "{swapped}");
    let no_key =
        refusal(CertificateFiles { certificate: good.certificate.clone(), key: good.certificate }).await;
    assert!(no_key.contains("has no private key in PEM"), "{no_key}");
    fs::write(&good.key, "").expect("the file can be written");
    let directory_instead = refusal(CertificateFiles { certificate: "/".into(), key: good.key }).await;
    assert!(directory_instead.contains("cannot read /"), "{directory_instead}");
}
