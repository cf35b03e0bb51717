//! An agent that is started with another packet filter takes over its predecessor's rules.

use crate::setup::*;
use bridgewarden::model::PodKey;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt::Linger};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;
use support::field::{BACKENDS, DEADLINE, letter};

/// Dials web from a pod without a pause.
pub(crate) struct ConnectionProbe {
    stop: Arc<AtomicBool>,
    dialling: JoinHandle<(Vec<[Instant; 2]>, Vec<ErrorKind>)>,
}

impl ConnectionProbe {
    pub(crate) fn from(test: &NodeTest, pod: &str) -> ConnectionProbe {
        let namespace = test.field.testbed.pod_namespace(&PodKey::new("shop", pod)).expect("a pod").clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let dial = move || {
            let to = WEB.map(|to| SocketAddr::new(to.parse().expect("an address"), 80));
            let (mut open, mut closed) = (Vec::new(), Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                for to in to {
                    let begin = Instant::now();
                    match ask(to) {
                        Ok(()) => open.push([begin, Instant::now()]),
                        Err(error) => closed.push(error.kind()),
                    }
                }
            }
            (open, closed)
        };
        let dialling = std::thread::spawn(move || namespace.enter(dial).expect("the namespace is entered"));
        ConnectionProbe { stop, dialling }
    }

    /// How many connections succeeded, and how the others ended.
    pub(crate) fn end(self) -> (usize, Vec<ErrorKind>) {
        let (open, closed) = self.end_with_instants();
        (open.len(), closed)
    }

    /// When connections that succeeded began and ended, and how the others ended.
    pub(crate) fn end_with_instants(self) -> (Vec<[Instant; 2]>, Vec<ErrorKind>) {
        self.stop.store(true, Ordering::Relaxed);
        self.dialling.join().expect("it dials")
    }
}

/// Requests a listener's name and waits for the answer, so that connections are not opened faster than answered.
fn ask(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, DEADLINE)?;
    // A reset leaves neither side in TIME_WAIT.
    setsockopt(&stream, Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

/// near may reach web, far may not.
pub(crate) const WEB_ALLOWS_ITS_NODE: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{ipBlock: {cidr: 10.244.1.0/24}}, {ipBlock: {cidr: 'fd00:10:244:1::/64'}}]}]
";

/// The same in other words, which need other sets.
pub(crate) const WEB_ALLOWS_NEAR: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{ipBlock: {cidr: 10.244.1.11/32}}, {ipBlock: {cidr: 'fd00:10:244:1::11/128'}}]}]
";

/// What a packet filter of the node holds, as text.
fn listed(test: &NodeTest, backend: &str) -> String {
    match backend {
        "nftables" => test.on_node_a(&["nft", "list", "tables", "inet"]),
        variant => ["iptables", "ip6tables"]
            .map(|tables| variant.replace("iptables", tables))
            .map(|program| test.on_node_a(&[&format!("{program}-save"), "-t", "filter"]))
            .concat(),
    }
}

/// Whether a packet filter contains anything of the agent.
fn holds_ours(listed: &str) -> bool {
    listed.lines().any(|line| line.contains("KUBE-") || line == "table inet bridgewarden")
}

/// Every ordered pair of two packet filters.
fn switches() -> impl Iterator<Item = (&'static str, &'static str)> {
    let pairs = BACKENDS.into_iter().flat_map(|old| BACKENDS.map(|new| (old, new)));
    pairs.filter(|(old, new)| old != new)
}

#[test]
fn switch_of_the_backend_takes_over_without_letting_anybody_in_or_out() {
    for (old, new) in switches() {
        let id = format!("switch{}{}", letter(old), letter(new));
        let mut test = NodeTest::build(&id, old, Some(WEB_ALLOWS_ITS_NODE));
        test.start(&[]);
        test.wait_until_enforced();
        let theirs = match old {
            "nftables" => {
                test.on_node_a(&["nft", "add", "table", "inet", "theirs"]);
                "table inet theirs"
            }
            variant => {
                test.on_node_a(&[variant, "-A", "FORWARD", "-s", "198.51.100.9", "-j", "DROP"]);
                "-A FORWARD -s 198.51.100.9/32 -j DROP"
            }
        };
        assert!(holds_ours(&listed(&test, old)), "{}", listed(&test, old));
        assert_eq!(test.probe("far", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
        let (refused, allowed) = (ConnectionProbe::from(&test, "far"), ConnectionProbe::from(&test, "near"));

        test.field.stop(false);
        // Sets that only the old rules know must go after them.
        test.write("policy.yaml", WEB_ALLOWS_NEAR);
        test.backend = new;
        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_until_enforced();
        test.wait_for("the old rules go", || !holds_ours(&listed(&test, old)));
        let reads = "bridgewarden_sync_duration_seconds_count{phase=\"read\"}";
        test.wait_for("an audit", || test.metric("node-a", reads) >= 2.0);

        let ((let_in, kept_out), (passed, lost)) = (refused.end(), allowed.end());
        println!(
            "{old} to {new}: {} refused and {let_in} open; {passed} open and {lost:?} not",
            kept_out.len()
        );
        let refused = kept_out.iter().all(|kind| *kind == ErrorKind::ConnectionRefused);
        assert!(let_in == 0 && kept_out.len() > 100 && refused, "{let_in} got in\n{}", test.field.log());
        assert!(lost.is_empty() && passed > 100, "{lost:?} beside {passed}\n{}", test.field.log());
        let left = listed(&test, old);
        assert!(left.contains(theirs) && !holds_ours(&left), "{left}");
        if new == "nftables" {
            assert_eq!(test.on_node_a(&["ipset", "list", "-n"]), "", "no rule refers to a set any more");
        }
        assert_eq!(test.metric("node-a", "bridgewarden_drift_repairs_total"), 0.0);
        assert_eq!(test.probe("far", WEB[1], Protocol::Tcp), ProbeOutcome::Refused);
    }
}

#[test]
fn looking_for_the_other_variant_makes_no_table_of_it() {
    for backend in BACKENDS {
        let mut test = NodeTest::build(&format!("look{}", letter(backend)), backend, None);
        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_until_enforced();
        let reads = "bridgewarden_sync_duration_seconds_count{phase=\"read\"}";
        test.wait_for("an audit", || test.metric("node-a", reads) >= 2.0);
        if backend != "iptables-legacy" {
            for names in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
                assert_eq!(test.on_node_a(&["cat", names]), "", "{names}");
            }
        }
        if backend != "iptables-nft" {
            let mut own = vec!["table bridge bridgewarden", "table inet bridgewarden-reserved"];
            own.extend((backend == "nftables").then_some("table inet bridgewarden"));
            let listed = test.on_node_a(&["nft", "list", "tables"]);
            assert_eq!(BTreeSet::from_iter(listed.lines()), BTreeSet::from_iter(own));
        }
    }
}
