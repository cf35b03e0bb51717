//! The setup of these tests: three pods on two nodes, and manifests that a test edits.

use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Probe, ProbeOutcome};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;
use support::field::{BACKENDS, DEADLINE, Field, letter};
use support::manifest;

/// A directory of manifests that a test edits, and the cluster it describes.
pub(crate) struct NodeTest {
    pub(crate) field: Field,
    pub(crate) manifests: PathBuf,
    pub(crate) backend: &'static str,
}

pub(crate) const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}
---
apiVersion: v1
kind: Pod
metadata:
  namespace: shop
  name: web
  labels: {app: web}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d9c, uid: a, controller: true}]
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}]}
status: {podIPs: [{ip: 10.244.1.10}, {ip: 'fd00:10:244:1::10'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: near, labels: {app: client}}
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 80}]}]}
status: {podIPs: [{ip: 10.244.1.11}, {ip: 'fd00:10:244:1::11'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: far, labels: {app: client}}
spec: {nodeName: node-b, containers: [{name: c, ports: [{containerPort: 80}]}]}
status: {podIPs: [{ip: 10.244.2.20}, {ip: 'fd00:10:244:2::20'}]}
";

pub(crate) const WEB_ALLOWS_CLIENTS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
";

pub(crate) const WEB_DENIES_INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
";

pub(crate) const NEAR_DENIES_EGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: near}
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}
";

pub(crate) const WEB: [&str; 2] = ["10.244.1.10", "fd00:10:244:1::10"];

impl NodeTest {
    pub(crate) fn build(id: &str, backend: &'static str, policy: Option<&str>) -> NodeTest {
        NodeTest::build_with(id, backend, CLUSTER, policy)
    }

    /// The same with another cluster.
    pub(crate) fn build_with(
        id: &str,
        backend: &'static str,
        cluster: &str,
        policy: Option<&str>,
    ) -> NodeTest {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root; run: sudo -E make test");
        let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("node-{id}"));
        let manifests = here.join("manifests");
        let _ = std::fs::remove_dir_all(&here);
        std::fs::create_dir_all(&manifests).expect("a directory of our own");
        let world = manifest::parse(cluster).expect("the cluster reads");
        let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden"));
        let field = Field::build(id, &world, program, &here).expect("the network stands");
        let test = NodeTest { field, manifests, backend };
        test.write("cluster.yaml", cluster);
        if let Some(policy) = policy {
            test.write("policy.yaml", policy);
        }
        test
    }

    pub(crate) fn start(&mut self, more: &[&str]) {
        self.field.start(&self.manifests, self.backend, more).expect("the controllers start");
    }

    /// Writes a manifest in one instant, as a careful editor does.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let draft = self.manifests.join(format!(".{name}.draft"));
        std::fs::write(&draft, text).expect("the manifest is written");
        std::fs::rename(&draft, self.manifests.join(name)).expect("the manifest is in place");
    }

    pub(crate) fn probe(&self, from: &str, to: &str, protocol: Protocol) -> ProbeOutcome {
        let to: IpAddr = to.parse().expect("an address");
        self.field.testbed.probe(&Probe::new(Endpoint::pod("shop", from), to, protocol, 80))
    }

    pub(crate) fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        self.wait_for_all(what, || if holds() { Ok(()) } else { Err(String::new()) });
    }

    /// Waits until nothing differs; the failure has the last difference. Only a look that began after the deadline fails: the machine may
    /// stand still during one.
    pub(crate) fn wait_for_all(&self, what: &str, mut look: impl FnMut() -> Result<(), String>) {
        let start = Instant::now();
        loop {
            let begun = start.elapsed();
            let Err(difference) = look() else { return };
            if begun > DEADLINE {
                let pages = ["node-a", "node-b"].map(|node| self.get(node, "/readyz"));
                panic!("{what}: not within {DEADLINE:?}\n{difference}\n{pages:#?}\n{}", self.field.log());
            }
        }
    }

    pub(crate) fn wait_until_enforced(&self) {
        self.field.await_ready().expect("enforced");
    }

    /// A page of a node's agent; empty if it does not answer.
    pub(crate) fn get(&self, node: &str, path: &str) -> String {
        self.field.page(node, path).map(|page| page.body).unwrap_or_default()
    }

    pub(crate) fn metric(&self, node: &str, series: &str) -> f64 {
        let page = self.get(node, "/metrics");
        let line = page.lines().find(|line| line.starts_with(&format!("{series} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in {page}"))
    }

    pub(crate) fn on_node_a(&self, words: &[&str]) -> String {
        self.field.run("node-a", words).expect("the program runs")
    }
}

pub(crate) fn on_each_backend(run: impl Fn(&'static str, char)) {
    for backend in BACKENDS {
        run(backend, letter(backend));
    }
}

/// For what is about iptables alone.
pub(crate) fn on_each_variant(run: impl Fn(&'static str, char)) {
    for backend in BACKENDS.into_iter().filter(|backend| backend.starts_with("iptables-")) {
        run(backend, letter(backend));
    }
}

/// The iptables that other programs of the node use: that of the backend, or the one over nf_tables.
pub(crate) fn iptables_beside(backend: &str) -> &'static str {
    if backend == "iptables-legacy" { "iptables-legacy" } else { "iptables-nft" }
}

/// The rules of IPv4 that the agent of node-a wrote, as their packet filter lists them, with counters.
pub(crate) fn rules(test: &NodeTest, backend: &str) -> String {
    match backend {
        "nftables" => test.on_node_a(&["nft", "list", "table", "inet", "bridgewarden"]),
        variant => test.on_node_a(&[&format!("{variant}-save"), "-c", "-t", "filter"]),
    }
}

/// Whether the rules evaluate or deny what a pod receives.
pub(crate) fn isolates(rules: &str, pod: &str, address: &str) -> bool {
    let mut map = rules.split("map ISOLATED-INGRESS-4 {").skip(1);
    match map.next().and_then(|rest| rest.split_once('}')) {
        Some((elements, _)) => elements.contains(&format!("{address} : ")),
        None => rules.contains(&format!("ingress of {pod}")),
    }
}
