//! The real kernel as a judge: a scenario's cluster in network namespaces, with real controllers on its nodes.

use crate::http;
use crate::program::output;
use crate::reach::Name;
use crate::scenario::{Probe, ProbeOutcome, Scenario};
use crate::topology::{self, NODES, Node};
use anyhow::Context;
use bridgewarden::api::Pod;
use bridgewarden::explain::oracle::World;
use bridgewarden::model::PodKey;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::source::convert;
use bridgewarden::testbed::{self, Endpoint, Layout, Netns, PodPlacement, Testbed};
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which packet filter the controllers write to.
pub const BACKENDS: [&str; 3] = ["iptables-nft", "iptables-legacy", "nftables"];

/// A letter for a backend, which makes the namespace names of a test unique.
pub fn letter(backend: &str) -> char {
    match backend {
        "iptables-nft" => 'n',
        "iptables-legacy" => 'l',
        "nftables" => 't',
        _ => panic!("{backend} is no backend"),
    }
}

/// How long a change may take to be enforced before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The address at which a controller serves HTTP.
const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20245);

/// A cluster in namespaces and the controllers on its nodes.
pub struct Field {
    /// The network.
    pub testbed: Testbed,
    program: PathBuf,
    logs: PathBuf,
    controllers: Vec<Child>,
}

impl Field {
    /// Builds the network of a world. `program` is the built `bridgewarden`; logs are written below `logs`.
    ///
    /// # Errors
    /// A message for people.
    pub fn build(id: &str, world: &World, program: &Path, logs: &Path) -> Result<Field, String> {
        Testbed::sweep(id).map_err(|error| error.to_string())?;
        let nodes = NODES.map(|node| node.name.to_owned()).into();
        let pods = NODES.map(hosts).into_iter().chain(world.pods.iter().filter_map(place)).collect();
        let testbed = Testbed::build(id, &Layout::new(nodes, pods)).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(logs).map_err(|error| format!("cannot make {}: {error}", logs.display()))?;
        Ok(Field { testbed, program: program.into(), logs: logs.into(), controllers: Vec::new() })
    }

    /// Makes the outside host answer on the scenario's other external addresses, too.
    ///
    /// # Errors
    /// The output of a program that failed.
    pub fn add_outside_addresses(&self, scenario: &Scenario) -> Result<(), String> {
        let is_other = |probe: &&Probe| matches!(probe.destination, Name::Stranger(_));
        let addresses: BTreeSet<IpAddr> =
            scenario.probes.iter().filter(is_other).map(|probe| probe.destination_address).collect();
        let outside = self.testbed.namespace(&Endpoint::Outside).ok_or("there is no outside")?;
        for address in addresses {
            let (program, host) = match address {
                IpAddr::V4(_) => ("iptables-nft", topology::outside(Family::V4).to_string()),
                IpAddr::V6(_) => ("ip6tables-nft", topology::outside(Family::V6).to_string()),
            };
            let own = address.to_string();
            printed(outside, &["ip", "address", "add", &own, "dev", "lo"])?;
            printed(
                outside,
                &[program, "-t", "nat", "-A", "PREROUTING", "-d", &own, "-j", "DNAT", "--to", &host],
            )?;
            printed(self.testbed.router_namespace(), &["ip", "route", "add", &own, "via", &host])?;
        }
        Ok(())
    }

    /// Starts a controller on each node. `{node}` in `more` is replaced by the node's name.
    ///
    /// # Errors
    /// A message for people.
    pub fn start(&mut self, manifests: &Path, backend: &str, more: &[&str]) -> Result<(), String> {
        for node in NODES {
            let log = self.logs.join(format!("{}.log", node.name));
            let log =
                File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
            let mut command = Command::new(&self.program);
            command.arg("run").arg("--manifests").arg(manifests);
            command.args(["--node-name", node.name, "--backend", backend]);
            command.arg("--flows-socket").arg(self.flows_socket(node));
            command.arg("--status-socket").arg(self.status_socket(node));
            if !more.iter().any(|word| word.starts_with("--cni-results-dir")) {
                command.arg("--cni-results-dir").arg(self.testbed.cni_results_dir(node.name));
            }
            command.args(more.iter().map(|word| word.replace("{node}", node.name)));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let controller = self.node(node.name)?.spawn(&mut command).map_err(|error| error.to_string())?;
            self.controllers.push(controller);
        }
        Ok(())
    }

    /// Waits until every controller is ready, so that all rules are in force.
    ///
    /// # Errors
    /// The content of `/readyz` and of the logs, if that takes longer than the deadline.
    pub fn await_ready(&self) -> Result<(), String> {
        let start = Instant::now();
        for node in NODES {
            loop {
                let begun = start.elapsed();
                if self.is_ready(node.name) {
                    break;
                }
                if begun > DEADLINE {
                    let page = self.page(node.name, "/readyz");
                    return Err(format!("{} is not ready: {page:?}\n{}", node.name, self.log()));
                }
            }
        }
        Ok(())
    }

    /// Whether a node's controller reports that all rules are in force.
    pub fn is_ready(&self, node: &str) -> bool {
        self.page(node, "/readyz").is_ok_and(|page| page.status == 200)
    }

    /// A page of a node's controller.
    ///
    /// # Errors
    /// There is no answer.
    pub fn page(&self, node: &str, path: &str) -> anyhow::Result<http::Answer> {
        let namespace = self.testbed.node_namespace(node).context("there is no such node")?;
        http::get(namespace, HTTP, path, Duration::from_secs(5))
    }

    /// The socket on which a node's controller serves denied flows.
    pub fn flows_socket(&self, node: Node) -> PathBuf {
        self.logs.join(format!("{}.flows", node.name))
    }

    /// The socket on which a node's controller serves its status.
    pub fn status_socket(&self, node: Node) -> PathBuf {
        self.logs.join(format!("{}.status", node.name))
    }

    /// Ends the controllers; with `kill`, by SIGKILL. The rules in force stay in force.
    ///
    /// # Panics
    /// A controller does not end by itself before the deadline; it is killed first.
    pub fn stop(&mut self, kill: bool) {
        for mut controller in self.controllers.drain(..) {
            let signal =
                if kill { nix::sys::signal::Signal::SIGKILL } else { nix::sys::signal::Signal::SIGTERM };
            let pid = i32::try_from(controller.id()).expect("process ids fit");
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
            let start = Instant::now();
            while matches!(controller.try_wait(), Ok(None)) {
                if start.elapsed() > DEADLINE {
                    let _ = controller.kill();
                    let _ = controller.wait();
                    assert!(std::thread::panicking(), "a controller did not end on {signal}");
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Runs `bridgewarden cleanup` on each node.
    ///
    /// # Errors
    /// Its output, if it failed.
    pub fn clean_up(&self) -> Result<(), String> {
        for node in NODES {
            let program = self.program.to_string_lossy();
            self.run(node.name, &[&program, "cleanup"])?;
        }
        Ok(())
    }

    /// Runs a program on a node and returns its output.
    ///
    /// # Errors
    /// Its output, if it failed.
    pub fn run(&self, node: &str, words: &[&str]) -> Result<String, String> {
        printed(self.node(node)?, words)
    }

    /// What the controllers logged.
    pub fn log(&self) -> String {
        let read = |node: Node| {
            let path = self.logs.join(format!("{}.log", node.name));
            format!("--- {}\n{}", node.name, std::fs::read_to_string(path).unwrap_or_default())
        };
        NODES.map(read).concat()
    }

    /// Tries connections until all are as expected; returns how long that took.
    ///
    /// # Errors
    /// Every difference at the deadline, one per line, and the controllers' logs.
    pub fn settle(&self, asked: &[Asked]) -> Result<Duration, String> {
        let start = Instant::now();
        let mut left: Vec<&Asked> = asked.iter().collect();
        loop {
            let begun = start.elapsed();
            left = self.differing(&left).into_iter().map(|(asked, _)| asked).collect();
            if left.is_empty() {
                return Ok(start.elapsed());
            }
            if begun > DEADLINE {
                return Err(format!("{}\n{}", self.report(&self.differing(&left)), self.log()));
            }
        }
    }

    /// Tries all connections again. A datagram that happens to have the ports of an earlier flow passes until that flow
    /// is cut, so differences are tried again until the deadline.
    ///
    /// # Errors
    /// Every difference that remains, one per line, and the controllers' logs.
    pub fn hold(&self, asked: &[Asked]) -> Result<(), String> {
        self.settle(asked).map(drop)
    }

    fn differing<'a>(&self, asked: &[&'a Asked]) -> Vec<(&'a Asked, testbed::ProbeOutcome)> {
        let probes: Vec<_> = asked.iter().map(|asked| asked.probe.clone()).collect();
        let outcomes = self.testbed.probe_all(&probes);
        let pairs = asked.iter().copied().zip(outcomes);
        pairs.filter(|(asked, outcome)| !asked.is_met_by(outcome)).collect()
    }

    fn report(&self, differing: &[(&Asked, testbed::ProbeOutcome)]) -> String {
        let line = |(asked, outcome): &(&Asked, testbed::ProbeOutcome)| {
            let wanted = if asked.open { "open" } else { "denied" };
            format!("{}: {:?} should be {wanted} and is {outcome:?}", asked.place, asked.probe)
        };
        differing.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn node(&self, name: &str) -> Result<&Netns, String> {
        self.testbed.node_namespace(name).ok_or_else(|| format!("there is no node {name}"))
    }
}

fn printed(namespace: &Netns, words: &[&str]) -> Result<String, String> {
    output(namespace, words).map_err(|error| format!("{error:#}"))
}

impl Drop for Field {
    fn drop(&mut self) {
        self.stop(true);
    }
}

/// A connection to try, and its expected outcome.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where it is defined, for messages.
    pub place: String,
    /// The connection.
    pub probe: testbed::Probe,
    /// Whether it is expected to be established.
    pub open: bool,
    /// Whether it is to a Service's address. Then a denial is an ICMP error, which ends a connect over IPv6 only after
    /// a second.
    pub to_service: bool,
}

impl Asked {
    /// Whether this outcome is the expected one. A denied TCP connection must be refused at once. The denial of a
    /// datagram need not be reported, because the kernel limits ICMP errors.
    fn is_met_by(&self, outcome: &testbed::ProbeOutcome) -> bool {
        match (self.open, self.probe.protocol) {
            (true, _) => *outcome == testbed::ProbeOutcome::Open,
            (false, Protocol::Tcp) if !self.to_service => *outcome == testbed::ProbeOutcome::Refused,
            (false, Protocol::Tcp | Protocol::Udp | Protocol::Sctp) => {
                matches!(outcome, testbed::ProbeOutcome::Refused | testbed::ProbeOutcome::Timeout)
            }
        }
    }
}

/// A scenario's questions that can be tried on this kernel: those of SCTP only if it has sockets of SCTP.
pub fn asked(scenario: &Scenario) -> Vec<Asked> {
    let probes = scenario.probes.iter().filter(|probe| can_be_tried(probe.protocol));
    probes
        .filter_map(|probe| {
            let real =
                testbed::Probe::new(endpoint(probe)?, probe.destination_address, probe.protocol, probe.port);
            Some(Asked {
                place: format!("{}/reach.txt:{}", scenario.name, probe.line),
                probe: real.from_address(probe.source_address),
                open: probe.expected != ProbeOutcome::Denied,
                to_service: false,
            })
        })
        .collect()
}

/// Whether this kernel has sockets of a protocol.
pub fn can_be_tried(protocol: Protocol) -> bool {
    protocol != Protocol::Sctp || testbed::has_sctp()
}

fn endpoint(probe: &Probe) -> Option<Endpoint> {
    match &probe.source {
        Name::Pod { namespace, name } => Some(Endpoint::pod(namespace, name)),
        Name::Node(node) => Some(Endpoint::node(node)),
        Name::Outside => Some(Endpoint::Outside),
        Name::Service { .. } | Name::Stranger(_) => None,
    }
}

/// A host-network pod of the node, which gives the node the address that scenarios use for it.
pub fn hosts(node: Node) -> PodPlacement {
    PodPlacement {
        pod: PodKey::new("kube-system", &format!("{}-itself", node.name)),
        node: node.name.to_owned(),
        addresses: Family::BOTH.map(|family| node.address(family)).into(),
        listens: Vec::new(),
        host_network: true,
    }
}

/// The placement of a pod; `None` for one that has finished.
fn place(pod: &Pod) -> Option<PodPlacement> {
    if matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let listens = containers.flat_map(|container| &container.ports).filter_map(|port| {
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
        Some((protocol, u16::try_from(port.container_port).ok()?))
    });
    Some(PodPlacement {
        pod: convert::pod(pod).0.key,
        node: pod.spec.node_name.clone()?,
        addresses: pod.status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect(),
        listens: listens.filter(|(protocol, _)| can_be_tried(*protocol)).collect(),
        host_network: pod.spec.host_network == Some(true),
    })
}
