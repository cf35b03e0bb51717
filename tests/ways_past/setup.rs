//! The setup: a cluster with pods of every kind of isolation, and agents that enforce it.

use crate::hosts::{Hosts, PODS, namespace_of};
use bridgewarden::net::Family;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::field::{DEADLINE, Field, letter};
use support::manifest;
use support::program::output;
use support::topology::Node;

/// How pods are kept from spoofing addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each pod is bound to its port of the bridge.
    Ports,
    /// There is no CNI result, so that it isn't known which pod is behind which port.
    Unbound,
    /// By rules of iptables alone, as on a kernel without tables of family bridge.
    Addresses,
}

impl Mode {
    pub(crate) const ALL: [Mode; 3] = [Mode::Ports, Mode::Unbound, Mode::Addresses];

    fn flags(self) -> &'static [&'static str] {
        match self {
            Mode::Ports => &[],
            Mode::Unbound => &["--cni-results-dir="],
            Mode::Addresses => &["--bind-addresses=addresses"],
        }
    }

    fn letter(self) -> char {
        match self {
            Mode::Ports => 'p',
            Mode::Unbound => 'u',
            Mode::Addresses => 'a',
        }
    }
}

const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: virtual, labels: {bridgewarden.io/bind-addresses: 'off'}}
";

const POLICIES: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: in}
spec:
  podSelector: {matchExpressions: [{key: role, operator: In, values: [in, far-in, shut]}]}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchExpressions: [{key: role, operator: In, values: [friend, far-friend]}]}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: out}
spec:
  podSelector: {matchExpressions: [{key: role, operator: In, values: [out, far-out]}]}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchExpressions: [{key: role, operator: In, values: [target, far-target]}]}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: shut}
spec: {podSelector: {matchLabels: {role: shut}}, policyTypes: [Egress]}
";

fn pod(name: &str, node: &str, number: u8) -> String {
    let node = Node::named(node).expect("a node");
    let [v4, v6] = Family::BOTH.map(|family| node.pod_address(family, number));
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{namespace: {}, name: {name}, labels: {{role: {name}}}}}
spec: {{nodeName: {}, containers: [{{name: c, ports: [{{containerPort: 80}}, {{containerPort: 80, protocol: UDP}}]}}]}}
status: {{podIPs: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}
",
        namespace_of(name),
        node.name
    )
}

fn cluster() -> String {
    let pods = PODS.map(|(name, node, number)| pod(name, node, number));
    format!("{NAMESPACES}{}---{POLICIES}", pods.concat())
}

/// A cluster with agents, and a packet socket in each host.
pub(crate) struct BypassTest {
    pub(crate) field: Field,
    pub(crate) hosts: Hosts,
    pub(crate) mode: Mode,
    pub(crate) backend: &'static str,
    manifests: PathBuf,
    more: Vec<&'static str>,
    pub(crate) attempts: u32,
    processors: CpuSet,
}

impl BypassTest {
    pub(crate) fn build(name: &str, backend: &'static str, mode: Mode, more: &[&'static str]) -> BypassTest {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root; run: sudo -E make test");
        let id = format!("{name}{}{}", letter(backend), mode.letter());
        let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ways-{id}"));
        let manifests = here.join("manifests");
        let _ = std::fs::remove_dir_all(&here);
        std::fs::create_dir_all(&manifests).expect("a directory of our own");
        let cluster = cluster();
        std::fs::write(manifests.join("cluster.yaml"), &cluster).expect("the manifest is written");
        let world = manifest::parse(&cluster).expect("the cluster reads");
        let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden"));
        let field = Field::build(&id, &world, program, &here).expect("the network stands");
        let hosts = Hosts::of(&field.testbed);
        let more = [mode.flags(), more].concat();
        let processors = sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("the processors are known");
        let mut test = BypassTest { field, hosts, mode, backend, manifests, more, attempts: 0, processors };
        test.introduce();
        test.start();
        // What one thread sends from one processor arrives in order, through any number of veths and bridges.
        pin();
        test.warm_up();
        test
    }

    /// Starts the agents.
    pub(crate) fn launch(&mut self) {
        // An agent may run on any processor, whichever the sending thread keeps to.
        let this = nix::unistd::Pid::from_raw(0);
        let kept = sched_getaffinity(this).expect("the processors are known");
        sched_setaffinity(this, &self.processors).expect("the thread may wander");
        self.field.start(&self.manifests, self.backend, &self.more).expect("the agents start");
        sched_setaffinity(this, &kept).expect("the thread stays on one processor");
    }

    fn start(&mut self) {
        self.launch();
        self.field.await_ready().expect("the agents enforce");
    }

    /// Fills all neighbour tables, so that no row waits for neighbour discovery.
    pub(crate) fn introduce(&self) {
        for node in ["node-a", "node-b"] {
            for host in self.hosts.on(node) {
                let device = if host.name == node { "cni0" } else { "eth0" };
                let mut script = String::new();
                for other in self.hosts.on(node).filter(|other| other.name != host.name) {
                    let mac = other.mac.map(|octet| format!("{octet:02x}")).join(":");
                    for address in [other.v4.to_string(), other.v6.to_string(), other.link_local.to_string()]
                    {
                        writeln!(
                            script,
                            "ip neigh replace {address} lladdr {mac} nud permanent dev {device}"
                        )
                        .expect("a string grows");
                    }
                }
                output(&host.namespace, &["sh", "-ec", &script]).expect("neighbours are introduced");
            }
        }
    }

    /// Sends on every path until it arrives: then the routers know each other.
    fn warm_up(&mut self) {
        for to in self.hosts.names() {
            for from in ["friend", "far-friend"] {
                // What comes to a node from another one doesn't pass its bridge.
                let is_node = to.starts_with("node-");
                if to == from || is_node && self.hosts.get(from).node != to {
                    continue;
                }
                let start = Instant::now();
                while !self.fence_arrives(from, to, Duration::from_millis(200)) {
                    assert!(start.elapsed() < DEADLINE, "{from} does not reach {to}\n{}", self.field.log());
                }
            }
        }
    }

    /// Runs a shell's commands in the namespace of a host.
    pub(crate) fn shell(&self, host: &str, script: &str) -> String {
        output(&self.hosts.get(host).namespace, &["sh", "-ec", script]).expect("the commands succeed")
    }
}

fn pin() {
    let this = nix::unistd::Pid::from_raw(0);
    let may = sched_getaffinity(this).expect("the processors are known");
    let allowed: Vec<usize> = (0..CpuSet::count()).filter(|cpu| may.is_set(*cpu).unwrap_or(false)).collect();
    let mut one = CpuSet::new();
    one.set(allowed[fastrand::usize(..allowed.len())]).expect("a processor");
    sched_setaffinity(this, &one).expect("the thread stays on one processor");
}
