//! The pages: metrics, health, and an index of them.

use super::{Health, Metrics, ScraperReview};
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::fmt::Write;
use std::future::ready;
use std::time::Instant;

const TEXT: &str = "text/plain; charset=utf-8";
const ALL: &str = "Bridgewarden\n\n\
    /metrics  numbers for Prometheus\n\
    /livez    whether the daemon is alive (also /healthz)\n\
    /readyz   whether policies are enforced, check by check\n";
const HEALTH: &str = "Bridgewarden\n\n\
    /livez    whether the daemon is alive (also /healthz)\n\
    /readyz   whether policies are enforced, check by check\n\n\
    /metrics is served over TLS, at the address that --metrics-addr gives\n";
const METRICS: &str = "Bridgewarden\n\n\
    /metrics  numbers for Prometheus\n";

/// Every page, by GET or HEAD.
pub(super) fn router(metrics: Metrics, health: Health) -> Router {
    with_metrics(with_health(with_index(ALL), &health), metrics, health)
}

/// The pages of health alone.
pub(super) fn health_router(health: &Health) -> Router {
    with_health(with_index(HEALTH), health)
}

/// The metrics alone, for clients that may read them if there is a review.
pub(super) fn metrics_router(metrics: Metrics, health: Health, review: Option<ScraperReview>) -> Router {
    let router = with_metrics(Router::new(), metrics, health);
    let router = match review {
        Some(review) => router.route_layer(from_fn(move |request, next| review.clone().guard(request, next))),
        None => router,
    };
    router.merge(with_index(METRICS))
}

fn with_index(index: &'static str) -> Router {
    Router::new()
        .route("/", get(move || ready(page(StatusCode::OK, index.to_owned()))))
        .fallback(move || ready(page(StatusCode::NOT_FOUND, format!("no such page\n\n{index}"))))
}

fn with_health(router: Router, health: &Health) -> Router {
    let alive = {
        let health = health.clone();
        move || ready(live_page(&health))
    };
    let enforcing = {
        let health = health.clone();
        move || ready(ready_page(&health))
    };
    router.route("/healthz", get(alive.clone())).route("/livez", get(alive)).route("/readyz", get(enforcing))
}

fn with_metrics(router: Router, metrics: Metrics, health: Health) -> Router {
    router.route("/metrics", get(move || ready(metrics_page(&metrics, &health))))
}

fn metrics_page(metrics: &Metrics, health: &Health) -> Response {
    metrics.ready(&health.ready());
    ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], metrics.text()).into_response()
}

fn live_page(health: &Health) -> Response {
    match health.live(Instant::now()) {
        Ok(()) => page(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => page(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn ready_page(health: &Health) -> Response {
    let mut text = String::new();
    let mut status = StatusCode::OK;
    for (name, outcome) in health.checks() {
        let _ = match outcome {
            Ok(()) => {
                let remarks = health.remarks(name).join("; ");
                let gap = if remarks.is_empty() { "" } else { ": " };
                writeln!(text, "[+]{name} ok{gap}{}", one_line(&remarks))
            }
            Err(reason) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                writeln!(text, "[-]{name} failed: {}", one_line(&reason))
            }
        };
    }
    text.push_str(if status == StatusCode::OK { "readyz check passed\n" } else { "readyz check failed\n" });
    page(status, text)
}

fn one_line(reason: &str) -> String {
    let lines: Vec<&str> = reason.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

fn page(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, TEXT)], text).into_response()
}
