//! Reports about the agent: metrics, health, the HTTP pages that serve them, denied flows, the page of the node, Events and the log.
//!
//! Comes in: counts, durations and outcomes from the other rooms. Goes out: text for people and for Prometheus, and Events. This
//! room requests nothing from other rooms and does not know what a policy means; no client of its pages can slow the agent down.

mod build;
mod catalog;
mod certificate;
mod connections;
mod event_name;
mod events;
mod fact;
mod health;
mod journal;
mod kube_router;
mod log;
mod metrics;
mod page;
mod per_policy;
mod process;
mod scraper_decisions;
mod scraper_review;
mod series;
mod server;
mod status_socket;
mod tls_listener;
mod ui_address;
mod ui_router;
mod ui_server;

pub use build::*;
pub use catalog::*;
pub use certificate::*;
pub use events::*;
pub use fact::*;
pub use health::*;
pub use journal::*;
pub use log::*;
pub use metrics::*;
pub use per_policy::*;
pub use scraper_review::*;
pub use server::*;
pub use status_socket::*;
pub use tls_listener::*;
pub use ui_address::*;
pub use ui_router::*;
pub use ui_server::*;
