//! The program on a node, which watches a real API server.

use anyhow::{Context, Result, ensure};
use bridgewarden::netfilter::BackendName;
use bridgewarden::ownership::INET_TABLE;
use bridgewarden::testbed::Netns;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::control_plane::KillOnDrop;
use support::http::{self, Answer};
use support::program::output;

/// The address of its pages.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 20245);
/// The timeout of a page.
const PATIENCE: Duration = Duration::from_secs(5);
/// The deadline for a new agent to become ready.
const START: Duration = Duration::from_secs(60);
/// An agent that has not written for this long has nothing left to do.
const REST: Duration = Duration::from_millis(500);

/// How a node is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeSetup {
    pub(crate) name: &'static str,
    pub(crate) backend: BackendName,
    pub(crate) watch_list: &'static str,
}

/// The nodes: between them, every backend and both ways to list.
pub(crate) const NODES: [NodeSetup; 3] = [
    NodeSetup { name: "node-a", backend: BackendName::IptablesNft, watch_list: "on" },
    NodeSetup { name: "node-b", backend: BackendName::IptablesLegacy, watch_list: "off" },
    NodeSetup { name: "node-c", backend: BackendName::Nftables, watch_list: "on" },
];

/// An agent's process.
#[derive(Debug)]
pub(crate) struct NodeAgent {
    pub(crate) node: NodeSetup,
    namespace: Netns,
    log: PathBuf,
    _child: KillOnDrop,
}

/// A kernel's rules and sets, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelState {
    rules: String,
    sets: String,
}

impl NodeAgent {
    /// Starts it.
    pub(crate) fn start(
        node: NodeSetup,
        namespace: &Netns,
        program: &Path,
        kubeconfig: &Path,
        log: PathBuf,
    ) -> Result<NodeAgent> {
        let _ = fs::remove_file(&log);
        let backend = node.backend.name();
        let kubeconfig = kubeconfig.display().to_string();
        let address = ADDRESS.to_string();
        let flags = [
            ["--kubeconfig", &kubeconfig],
            ["--node-name", node.name],
            ["--backend", backend],
            ["--watch-list", node.watch_list],
            ["--http-addr", &address],
            // Ignores the pods of the machine that the test runs on.
            ["--cni-results-dir", ""],
            ["--flows-socket", ""],
            ["--status-socket", ""],
            ["--log-format", "text"],
        ];
        let arguments: Vec<String> =
            ["run"].into_iter().chain(flags.into_iter().flatten()).map(str::to_owned).collect();
        let child = KillOnDrop::start(namespace, program, &arguments, &log)?;
        Ok(NodeAgent { node, namespace: namespace.clone(), log, _child: child })
    }

    /// Waits until it is ready, and returns how long that took.
    pub(crate) fn is_ready(&self) -> Result<Duration> {
        let start = Instant::now();
        while !self.page("/readyz").is_ok_and(|page| page.status == 200) {
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            ensure!(start.elapsed() < START, "{} is not ready after {START:?}:\n{}", self.node.name, log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(start.elapsed())
    }

    /// The answer of `/readyz`.
    pub(crate) fn readiness(&self) -> Result<Answer> {
        self.page("/readyz")
    }

    /// The value of a series, its labels included; 0 for one that is not there.
    pub(crate) fn metric(&self, series: &str) -> Result<f64> {
        let page = self.page("/metrics")?.body;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(Ok(0.0), |value| value.parse().with_context(|| format!("{series} is {value}")))
    }

    /// The number of kernel writes.
    pub(crate) fn writes(&self) -> Result<f64> {
        let kinds = ["rules", "set"];
        let each =
            kinds.map(|kind| self.metric(&format!("bridgewarden_kernel_writes_total{{kind=\"{kind}\"}}")));
        each.into_iter().sum()
    }

    /// Waits until it has not written to the kernel for a while.
    pub(crate) fn rests(&self) -> Result<()> {
        let (start, mut writes) = (Instant::now(), self.writes()?);
        loop {
            std::thread::sleep(REST);
            let now = self.writes()?;
            if now == writes {
                return Ok(());
            }
            writes = now;
            ensure!(start.elapsed() < START, "{} keeps writing to the kernel", self.node.name);
        }
    }

    /// The number of complete lists of each resource it has read.
    pub(crate) fn lists(&self) -> Result<[f64; 3]> {
        let [namespaces, policies, pods] = ["namespaces", "networkpolicies", "pods"].map(|resource| {
            self.metric(&format!("bridgewarden_watch_lists_total{{resource=\"{resource}\"}}"))
        });
        Ok([namespaces?, policies?, pods?])
    }

    /// Its resident memory, in MiB.
    pub(crate) fn memory(&self) -> Result<f64> {
        Ok(self.metric("process_resident_memory_bytes")? / f64::from(1 << 20))
    }

    /// The rules and sets of its node, without counters.
    pub(crate) fn held(&self) -> Result<KernelState> {
        match self.node.backend {
            BackendName::IptablesNft => self.held_by_iptables("nft"),
            BackendName::IptablesLegacy => self.held_by_iptables("legacy"),
            BackendName::Nftables => {
                let rules =
                    output(&self.namespace, &["nft", "--stateless", "list", "table", "inet", INET_TABLE])?;
                Ok(KernelState { rules, sets: String::new() })
            }
        }
    }

    fn held_by_iptables(&self, variant: &str) -> Result<KernelState> {
        let saves = ["iptables", "ip6tables"].map(|family| format!("{family}-{variant}-save"));
        let mut rules = String::new();
        for save in saves {
            let text = output(&self.namespace, &[&save, "-t", "filter"])?;
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                rules.push_str(line.split(" [").next().unwrap_or_default());
                rules.push('\n');
            }
        }
        let text = output(&self.namespace, &["ipset", "save"])?;
        let mut sets: Vec<&str> = text.lines().collect();
        sets.sort_unstable();
        Ok(KernelState { rules, sets: sets.join("\n") })
    }

    pub(crate) fn log(&self) -> String {
        format!("--- {}\n{}", self.node.name, fs::read_to_string(&self.log).unwrap_or_default())
    }

    fn page(&self, path: &str) -> Result<Answer> {
        http::get(&self.namespace, ADDRESS, path, PATIENCE)
    }
}

impl KernelState {
    /// The differences, one a line.
    pub(crate) fn moved_to(&self, after: &KernelState) -> String {
        let lines = |held: &KernelState| {
            held.rules.lines().chain(held.sets.lines()).map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let (before, after) = (lines(self), lines(after));
        let gone = before.difference(&after).map(|line| format!("- {line}"));
        let come = after.difference(&before).map(|line| format!("+ {line}"));
        gone.chain(come).collect::<Vec<_>>().join("\n")
    }

    /// The number of lines that describe sets.
    pub(crate) fn elements(&self) -> usize {
        self.sets.lines().count()
    }
}
