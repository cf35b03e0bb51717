//! Asks the daemon for its pages.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Where the daemon listens.
pub(crate) const ADDRESS: &str = "127.0.0.1:20245";

/// A page, status line and headers included.
pub(crate) fn page(path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(ADDRESS)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The numbers of the daemon at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Asks for them.
    pub(crate) fn read() -> Result<Metrics> {
        let page = page("/metrics").context("cannot read the daemon's metrics")?;
        let series = page.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("bridgewarden_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(Metrics(series.collect()))
    }

    /// The value of a series, by its name without the prefix; 0 for one that is not there.
    pub(crate) fn get(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// By how much the series grew since `before`.
    pub(crate) fn growth(&self, before: &Metrics, series: &str) -> f64 {
        self.get(series) - before.get(series)
    }

    /// How many changes were told to be in force.
    pub(crate) fn enforced(&self) -> f64 {
        self.get("seen_to_enforced_seconds_count")
    }

    /// Seconds from seen to in force, of all changes since `before` together.
    pub(crate) fn seen_to_enforced(&self, before: &Metrics) -> f64 {
        self.growth(before, "seen_to_enforced_seconds_sum")
    }

    /// How often the kernel was asked to change something since `before`.
    pub(crate) fn writes(&self, before: &Metrics) -> f64 {
        ["set", "rules"]
            .iter()
            .map(|what| self.growth(before, &format!("kernel_writes_total{{kind=\"{what}\"}}")))
            .sum()
    }
}
