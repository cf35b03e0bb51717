//! Creates metrics together with their documentation, from which `docs/metrics.md` and tests are made.

use super::process::Process;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::fmt;

/// The type of a metric, in Prometheus' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricKind {
    /// A count that only grows until the process restarts.
    Counter,
    /// A number that may go up and down.
    Gauge,
    /// Durations sorted into buckets, with their sum and count.
    Histogram,
}

impl MetricKind {
    /// The name in a `# TYPE` line.
    pub fn word(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The documentation of a metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Documentation {
    /// Its full name, prefix included.
    pub name: String,
    /// Its type.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it means, in a sentence.
    pub help: String,
}

/// A registry, and what is registered in it.
pub(super) struct Catalog {
    prefix: &'static str,
    registry: Registry,
    entries: Vec<Documentation>,
}

impl Catalog {
    /// An empty one, whose metrics' names all begin with `prefix`.
    pub(super) fn new(prefix: &'static str) -> Catalog {
        Catalog { prefix, registry: Registry::new(), entries: Vec::new() }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> IntCounter {
        self.add(MetricKind::Counter, IntCounter::with_opts(self.opts(name, help)))
    }

    pub(super) fn counters(&mut self, name: &str, labels: &[&str], help: &str) -> IntCounterVec {
        self.add(MetricKind::Counter, IntCounterVec::new(self.opts(name, help), labels))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        self.add(MetricKind::Gauge, IntGauge::with_opts(self.opts(name, help)))
    }

    /// A gauge whose value need not be whole.
    pub(super) fn real_gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(MetricKind::Gauge, Gauge::with_opts(self.opts(name, help)))
    }

    pub(super) fn real_gauges(&mut self, name: &str, labels: &[&str], help: &str) -> GaugeVec {
        self.add(MetricKind::Gauge, GaugeVec::new(self.opts(name, help), labels))
    }

    pub(super) fn gauges(&mut self, name: &str, labels: &[&str], help: &str) -> IntGaugeVec {
        self.add(MetricKind::Gauge, IntGaugeVec::new(self.opts(name, help), labels))
    }

    /// `buckets` are upper bounds in seconds.
    pub(super) fn histogram(&mut self, name: &str, buckets: &[f64], help: &str) -> Histogram {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.add(MetricKind::Histogram, Histogram::with_opts(opts))
    }

    /// `buckets` are upper bounds in seconds.
    pub(super) fn histograms(
        &mut self,
        name: &str,
        labels: &[&str],
        buckets: &[f64],
        help: &str,
    ) -> HistogramVec {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.add(MetricKind::Histogram, HistogramVec::new(opts, labels))
    }

    /// The usual `process_*` metrics of this process; they carry no prefix, as everywhere.
    pub(super) fn process(&mut self) {
        let collector = Process::of_this();
        let described: Vec<(String, String)> = Collector::desc(&collector)
            .into_iter()
            .map(|desc| (desc.fq_name.clone(), desc.help.clone()))
            .collect();
        for (name, help) in described {
            let kind = if name.ends_with("_total") { MetricKind::Counter } else { MetricKind::Gauge };
            self.entries.push(Documentation { name, kind, labels: Vec::new(), help });
        }
        self.registry.register(Box::new(collector)).expect("the process collector is registered once");
    }

    /// Every metric, in the order in which it was made.
    pub(super) fn entries(&self) -> &[Documentation] {
        &self.entries
    }

    /// Every metric that has a value, in Prometheus' text format 0.0.4.
    pub(super) fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("a registry gathers only metrics that have a name and a value")
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}{name}", self.prefix), help)
    }

    fn add<C>(&mut self, kind: MetricKind, made: prometheus::Result<C>) -> C
    where
        C: Collector + Clone + 'static,
    {
        let metric = made.expect("names and labels are constants that tests have seen");
        for desc in metric.desc() {
            self.entries.push(Documentation {
                name: desc.fq_name.clone(),
                kind,
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            });
        }
        self.registry.register(Box::new(metric.clone())).expect("every metric has a name of its own");
        metric
    }
}
