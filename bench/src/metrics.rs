//! The agent's metrics and pages.

use anyhow::{Context, Result};
use bridgewarden::testbed::Netns;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use support::http;

/// The address at which it listens, in its own namespace.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 20245);
/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One of its pages.
pub(crate) fn page(from: &Netns, path: &str) -> Result<String> {
    Ok(http::get(from, ADDRESS, path, PATIENCE)?.body)
}

/// Its numbers at one moment.
#[derive(Clone, Debug)]
pub(crate) struct AgentMetrics(BTreeMap<String, f64>);

impl AgentMetrics {
    pub(crate) fn of(from: &Netns) -> Result<AgentMetrics> {
        let page = page(from, "/metrics").context("cannot read the agent's metrics")?;
        let series = page.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("bridgewarden_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(AgentMetrics(series.collect()))
    }

    /// The value of a series, by its name without the prefix; 0 for one that does not exist.
    pub(crate) fn get(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// By how much a series grew since `before`.
    pub(crate) fn growth(&self, before: &AgentMetrics, series: &str) -> f64 {
        self.get(series) - before.get(series)
    }

    /// How many changes the agent has reported as enforced.
    pub(crate) fn enforced(&self) -> f64 {
        self.get("seen_to_enforced_seconds_count")
    }

    /// How many requests that change something were sent to the kernel since `before`.
    pub(crate) fn writes(&self, before: &AgentMetrics) -> f64 {
        let written = |kind| self.growth(before, &format!("kernel_writes_total{{kind=\"{kind}\"}}"));
        ["set", "rules"].into_iter().map(written).sum()
    }
}
