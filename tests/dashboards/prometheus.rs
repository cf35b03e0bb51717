//! A real Prometheus, and what it answers.

use bridgewarden::testbed::Netns;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::http;

/// Where it listens, in its own network namespace.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
/// Where agents are scraped.
const AGENTS_PORT: u16 = 20245;

/// A program of Prometheus': where `make setup` unpacks it, or else from PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = crate::project("target/prometheus").join(name);
    if own.exists() { own } else { name.into() }
}

/// Runs promtool with a text as its input. Fails with what it said.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Result<String, String> {
    let path = program("promtool");
    let failed = |error: io::Error| format!("cannot run {}: {error}; make setup installs it", path.display());
    let mut child = Command::new(&path)
        .args(arguments)
        .current_dir(crate::project(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    written.map_err(|error| format!("promtool did not read to the end: {error}: {said}"))?;
    if output.status.success() { Ok(said) } else { Err(format!("promtool {arguments:?}: {said}")) }
}

/// A series over time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimeSeries {
    pub(crate) labels: BTreeMap<String, String>,
    /// Seconds since the Unix epoch, and the value then.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct PrometheusServer {
    child: Child,
    namespace: Netns,
}

impl PrometheusServer {
    /// Starts one that scrapes these agents every second and evaluates the chart's rules as often.
    pub(crate) fn start(
        namespace: &Netns,
        directory: &Path,
        agents: &[(&str, IpAddr)],
    ) -> Result<PrometheusServer, String> {
        let target = |(name, address): &(&str, IpAddr)| {
            let at = SocketAddr::new(*address, AGENTS_PORT).to_string();
            json!({"targets": [at], "labels": {"instance": name}})
        };
        let targets: Vec<Value> = agents.iter().map(target).collect();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [crate::project(crate::rules::FILE)],
            "scrape_configs": [{"job_name": "bridgewarden", "static_configs": targets}],
        });
        let file = directory.join("prometheus.json");
        std::fs::write(&file, config.to_string())
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let log = directory.join("prometheus.log");
        let log = File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let mut command = Command::new(program("prometheus"));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("samples").display()))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child =
            namespace.spawn(&mut command).map_err(|error| format!("{error}; make setup installs it"))?;
        Ok(PrometheusServer { child, namespace: namespace.clone() })
    }

    /// What an expression gives at every second of a range.
    pub(crate) fn range(&self, expression: &str, from: f64, to: f64) -> Result<Vec<TimeSeries>, String> {
        let query = encoded(expression);
        let path = format!("/api/v1/query_range?query={query}&start={from}&end={to}&step=1");
        lines(&self.ask(&path)?, "values").ok_or_else(|| format!("{expression}: an answer of another shape"))
    }

    /// What an expression gives at one time.
    pub(crate) fn at(&self, expression: &str, time: f64) -> Result<Vec<TimeSeries>, String> {
        let path = format!("/api/v1/query?query={}&time={time}", encoded(expression));
        lines(&self.ask(&path)?, "value").ok_or_else(|| format!("{expression}: an answer of another shape"))
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = http::get(&self.namespace, ADDRESS, path, Duration::from_secs(30));
        let body = answer.map_err(|error| format!("Prometheus does not answer: {error:#}"))?.body;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"].clone()),
            _ => Err(format!("{path}: {body}")),
        }
    }
}

impl Drop for PrometheusServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The series of an answer, whose points are below `key`: a list of pairs, or one pair.
fn lines(result: &Value, key: &str) -> Option<Vec<TimeSeries>> {
    let line = |series: &Value| {
        let labels = series["metric"].as_object()?.iter();
        let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let pairs = match key {
            "values" => series[key].as_array()?.clone(),
            _ => vec![series[key].clone()],
        };
        let points = pairs.iter().map(|pair| Some((pair[0].as_f64()?, number(pair[1].as_str()?)?)));
        Some(TimeSeries { labels: labels.collect(), points: points.collect::<Option<_>>()? })
    };
    result.as_array()?.iter().map(line).collect()
}

/// A number as Prometheus writes it: `+Inf` and `NaN` among them.
fn number(text: &str) -> Option<f64> {
    text.trim_start_matches('+').parse().ok()
}

/// A text as it may stand in a query of a URL (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
