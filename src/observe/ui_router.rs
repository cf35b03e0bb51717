//! What the page of the node consists of, and which requests get it.

use super::Journal;
use crate::flow::{Account, Record};
use crate::status::AgentStatus;
use axum::Router;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::future::ready;
use std::net::IpAddr;
use std::sync::Arc;

/// How many denied flows the page shows.
const FLOWS: usize = 100;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What every response says. The page may load and ask only what is served beside it, nothing may embed it, and nothing keeps it.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (CACHE_CONTROL, "no-store"),
];

/// A file beside the page: its path, its media type and its text.
pub type UiFile = (&'static str, &'static str, &'static str);

/// The page of the node, by GET or HEAD. `page` makes its HTML, `status` is its health, and `denied` has its denied flows.
pub fn ui_router<P, S>(
    files: impl IntoIterator<Item = UiFile>,
    page: impl Fn() -> P + Clone + Send + Sync + 'static,
    status: impl Fn() -> S + Clone + Send + Sync + 'static,
    denied: Journal,
) -> Router
where
    P: Future<Output = Arc<str>> + Send,
    S: Future<Output = AgentStatus> + Send,
{
    let page = move || {
        let page = page();
        async move { answer(StatusCode::OK, HTML, page.await.to_string()) }
    };
    let live = move || {
        let (status, denied) = (status(), denied.clone());
        async move { answer(StatusCode::OK, JSON, live(&status.await, &denied.latest(FLOWS)).to_string()) }
    };
    let mut router = Router::new().route("/", get(page)).route("/live.json", get(live));
    for (path, media_type, text) in files {
        router = router.route(path, get(move || ready(answer(StatusCode::OK, media_type, text.to_owned()))));
    }
    router
        .fallback(|| {
            ready(answer(StatusCode::NOT_FOUND, TEXT, "no such page; the page of the node is /\n".to_owned()))
        })
        .layer(from_fn(guard))
}

fn answer(status: StatusCode, media_type: &'static str, text: String) -> Response {
    (status, [(CONTENT_TYPE, media_type)], text).into_response()
}

/// Answers only who asks for this host. The site of an attacker may have a name that its DNS server suddenly says is 127.0.0.1; a
/// browser then sends this name, and would let the site's scripts read the answer.
async fn guard(request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    let is_local = match (hosts.next(), hosts.next(), request.uri().authority()) {
        (Some(host), None, None) => host.to_str().is_ok_and(is_this_host),
        (Some(host), None, Some(named)) => {
            host.to_str().is_ok_and(is_this_host) && is_this_host(named.as_str())
        }
        (None, _, _) | (Some(_), Some(_), _) => false,
    };
    let mut response = if is_local {
        next.run(request).await
    } else {
        let why = "this page is served for this host only: ask for http://localhost, http://127.0.0.1 or http://[::1]\n";
        answer(StatusCode::MISDIRECTED_REQUEST, TEXT, why.to_owned())
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a host with or without a port is this one, as a name or a loopback address.
fn is_this_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_loopback = address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !host.contains('@') && (is_loopback || name.eq_ignore_ascii_case("localhost"))
}

/// What changes on the page.
fn live(status: &AgentStatus, denied: &[Record]) -> Value {
    let flows: Vec<Value> = denied.iter().map(flow).collect();
    json!({"status": status, "flows": flows})
}

fn flow(record: &Record) -> Value {
    let Account { verdict, direction, source, destination, protocol, port, .. } = &record.account;
    let port = port.map_or_else(|| protocol.clone(), |port| format!("{port}/{protocol}"));
    json!({
        "number": record.number,
        "last": record.last,
        "count": record.count,
        "from": source.to_string(),
        "to": destination.to_string(),
        "port": port,
        "verdict": verdict.to_string(),
        "direction": direction.to_string(),
        "why": record.account.why(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_taken() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:20246", "127.9.9.9", "[::1]", "[::1]:80"]
        {
            assert!(is_this_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "node-a",
            "10.0.0.1",
            "[::ffff:127.0.0.1]",
            "localhost@evil.example",
            "evil.example@localhost",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(!is_this_host(host), "{host}");
        }
    }
}
