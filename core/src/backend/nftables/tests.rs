//! One node on a kernel in memory: the properties that only the backend `nftables` has.

mod choices;
mod owner;

use super::*;
use crate::apply::{Fake, PacketFilter};
use crate::compile::Plan;
use crate::model::{
    Block, Change as Fact, Cluster, Demand, Labels, NamedPort, Namespace, NamespaceName, Peer, Peers, Pod,
    PodKey, Policy, PortMatch, Ports, Requirement, Rule, Selector,
};
use crate::net::{PortRange, Protocol};
use crate::netfilter::iptables::{self, Payload, State};
use crate::netfilter::nftables::{Change, HookPoint, Outcome, Packet, Table, Verdict, trace_packet};
use crate::ownership::INET_TABLE;
use crate::render::PodToNode;
use std::net::IpAddr;

struct Node {
    cluster: Cluster,
    plan: Plan,
    backend: NftablesBackend,
    kernel: Fake,
}

fn options() -> Options {
    Options { backend: BackendName::Nftables, ..Options::default() }
}

impl Node {
    fn new(options: Options, facts: impl IntoIterator<Item = Fact>) -> Node {
        let mut kernel = Fake::default();
        kernel.switch_backend(BackendName::Nftables);
        let (cluster, backend) = (Cluster::new("node-a"), NftablesBackend::new(options));
        let mut node = Node { cluster, plan: Plan::default(), backend, kernel };
        let name = NamespaceName::new("shop");
        let labels = Labels::of_unknown_namespace(&name);
        node.apply(Fact::Namespace(Namespace { labels, name, terminating: false }));
        facts.into_iter().for_each(|fact| node.apply(fact));
        assert!(node.adopt() > 0);
        node
    }

    fn apply(&mut self, fact: Fact) {
        let touched = self.cluster.apply(fact);
        self.plan.update(&self.cluster, &touched);
    }

    /// Reads the kernel and writes differences; returns the number of steps.
    fn adopt(&mut self) -> usize {
        let actual = Actual::read(&mut self.kernel).expect("it is read");
        let delta = self.plan.take(&self.cluster);
        let steps = self.backend.adopt(View { cluster: &self.cluster, plan: &self.plan }, &delta, &actual);
        self.commit(&steps);
        steps.len()
    }

    /// Starts again with these options; returns the number of steps.
    fn restart(&mut self, options: Options) -> usize {
        self.backend = NftablesBackend::new(options);
        self.adopt()
    }

    /// Applies facts and enforces them together; returns the changes of the table of family inet.
    fn flush(&mut self, facts: impl IntoIterator<Item = Fact>) -> Vec<Change> {
        facts.into_iter().for_each(|fact| self.apply(fact));
        let delta = self.plan.take(&self.cluster);
        let view = View { cluster: &self.cluster, plan: &self.plan };
        let steps = self.backend.update(view, &delta).steps;
        self.commit(&steps);
        let batches = steps.into_iter().flat_map(|step| {
            if let Step::Transact(batches) = step { batches } else { panic!("no transaction: {step:?}") }
        });
        let inet = batches.filter(|batch| batch.family == TableFamily::Inet);
        inet.inspect(leads_to_no_chain_of_its_own).flat_map(|batch| batch.changes).collect()
    }

    fn commit(&mut self, steps: &[Step]) {
        self.kernel.commit_all(steps).expect("the kernel takes every step");
        let ruleset = self.backend.clone().ruleset(View { cluster: &self.cluster, plan: &self.plan });
        assert_eq!(Some(self.table()), ruleset.inet.as_ref());
    }

    fn table(&self) -> &Table {
        self.kernel.table_of_nft(TableFamily::Inet, INET_TABLE).expect("it is there")
    }

    fn outcome(&self, point: HookPoint, packet: &iptables::Packet) -> Outcome {
        trace_packet(self.table(), point, &Packet::from(packet)).outcome
    }

    /// Whether a forwarded segment passes.
    fn passes(&self, source: IpAddr, destination: IpAddr, port: u16) -> bool {
        self.outcome(HookPoint::Forward, &segment(source, destination, port)) == Outcome::Accepted
    }

    fn has(&self, part: &str) -> bool {
        let table = self.table();
        let names = table.chains.keys().chain(table.sets.keys()).chain(&table.counters);
        names.into_iter().any(|name| name.contains(part))
    }
}

/// No key that led somewhere else leads to a chain that the same transaction makes: a packet on its way could find it empty.
fn leads_to_no_chain_of_its_own(batch: &Batch) {
    let changes = || batch.changes.iter();
    for change in changes() {
        let Change::AddElements(map, come) = change else { continue };
        for (key, verdict) in come.iter() {
            let is_target = |change: &Change| matches!((change, verdict), (Change::AddChain(own, _), Some(Verdict::Goto(chain) | Verdict::Jump(chain))) if own == chain);
            let had = |change: &Change| matches!(change, Change::DeleteElements(own, gone) if own == map && gone.contains(key));
            assert!(!(changes().any(is_target) && changes().any(had)), "{batch:?}");
        }
    }
}

fn address(host: u8) -> IpAddr {
    [10, 244, 1, host].into()
}

fn outside() -> IpAddr {
    [192, 0, 2, 1].into()
}

fn segment(source: IpAddr, destination: IpAddr, port: u16) -> iptables::Packet {
    iptables::Packet {
        source,
        destination,
        payload: Payload::Transport { protocol: Protocol::Tcp, port },
        state: State::New,
        translated: false,
        connection_mark: 0,
        bridged: false,
        in_interface: "eth0".into(),
        out_interface: if destination == outside() { "eth0" } else { "cni0" }.into(),
        source_is_local: false,
    }
}

fn pod(name: &str, app: &str, host: u8) -> Fact {
    Fact::Pod(Pod {
        node: Some("node-a".into()),
        labels: Labels::new(&[("app".to_owned(), app.to_owned())].into()),
        addresses: vec![address(host)],
        ..Pod::new(PodKey::new("shop", name))
    })
}

fn gone(name: &str) -> Fact {
    Fact::PodGone(PodKey::new("shop", name))
}

fn selector(apps: &[&str]) -> Selector {
    let demand = Demand::In(apps.iter().map(|app| (*app).into()).collect());
    Selector::new([Requirement { key: "app".into(), demand }])
}

/// An ingress policy with one rule for each list of port ranges.
fn policy(name: &str, apps: &[&str], rules: &[&[(u16, u16)]]) -> Fact {
    let rule = |(index, ranges): (usize, &&[(u16, u16)])| {
        let port = |(first, last): &(u16, u16)| {
            PortMatch::Numbered(Protocol::Tcp, PortRange::new(*first, *last).expect("a range"))
        };
        let block = Block { cidr: format!("192.0.2.{index}/32").parse().expect("a prefix"), except: vec![] };
        let peers = Peers::Listed(vec![Peer::Block(block)]);
        Rule { index, peers, ports: Ports::Listed(ranges.iter().map(port).collect()) }
    };
    Fact::Policy(Policy {
        key: PolicyKey::new("shop", name),
        uid: None,
        version: Default::default(),
        subject: selector(apps),
        ingress: Some(rules.iter().enumerate().map(rule).collect()),
        egress: None,
        invalid_parts: Vec::new(),
        audit: Default::default(),
    })
}

/// A policy for both directions without rules.
fn closed(name: &str, apps: &[&str]) -> Fact {
    let Fact::Policy(policy) = policy(name, apps, &[]) else { panic!("it is a policy") };
    Fact::Policy(Policy { egress: Some(Vec::new()), ..policy })
}

fn policy_gone(name: &str) -> Fact {
    Fact::PolicyGone(PolicyKey::new("shop", name))
}

/// Allow 192.0.2.0 to reach ports 80 and 81 of `one`, and ports 81 and 82 of `two`.
fn two_policies() -> [Fact; 2] {
    [policy("one", &["one"], &[&[(80, 81)]]), policy("two", &["two"], &[&[(81, 82)]])]
}

#[test]
fn two_isolated_pods_at_an_address_must_both_allow_and_three_allow_nothing() {
    let peer = IpAddr::from([192, 0, 2, 0]);
    let mut node = Node::new(options(), two_policies().into_iter().chain([pod("a", "one", 10)]));
    let ports = |node: &Node| [80, 81, 82].map(|port| node.passes(peer, address(10), port));
    assert_eq!((ports(&node), node.has("SECOND-")), ([true, true, false], false));
    node.flush([pod("b", "two", 10)]);
    assert_eq!(ports(&node), [false, true, false]);
    node.flush([pod("c", "one", 10)]);
    assert_eq!(ports(&node), [false, true, false], "it asks what another asks");
    node.flush([closed("three", &["three"]), pod("d", "three", 10)]);
    assert_eq!(ports(&node), [false, false, false]);
    node.flush([gone("a"), gone("c"), gone("d")]);
    assert_eq!(ports(&node), [false, true, true]);
    node.flush([gone("b")]);
    assert_eq!(ports(&node), [false, false, false], "no pod is there");
    assert!(node.has("FORWARD-SECOND-"), "base chains stay");
    assert_eq!(node.restart(options()), 0, "and stay when the program starts again");
}

#[test]
fn two_isolated_pods_at_an_address_are_found_and_may_reach_the_node_if_both_may() {
    let options = Options { pod_to_node: PodToNode::Policy, ..options() };
    let egress = |name: &str, port: u16| {
        let Fact::Policy(policy) = policy(name, &[name], &[]) else { panic!("it is a policy") };
        let port = PortMatch::Numbered(Protocol::Tcp, PortRange::new(port, 82).expect("a range"));
        let rule = Rule { index: 0, peers: Peers::Anywhere, ports: Ports::Listed(vec![port]) };
        Fact::Policy(Policy { ingress: Some(vec![]), egress: Some(vec![rule]), ..policy })
    };
    let facts = [egress("one", 80), egress("two", 81), pod("a", "one", 10), pod("b", "two", 10)];
    let mut node = Node::new(options, facts);
    let to_node = |port| node.outcome(HookPoint::Input, &segment(address(10), [10, 244, 1, 1].into(), port));
    assert_eq!([80, 81].map(|port| to_node(port) == Outcome::Accepted), [false, true]);
    let six = |host: u16| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host]);
    for (name, app) in [("a", "one"), ("b", "two")] {
        let Fact::Pod(pod) = pod(name, app, 10) else { panic!("it is a pod") };
        node.flush([Fact::Pod(Pod { addresses: vec![six(10)], ..pod })]);
    }
    let solicitation = iptables::Packet {
        payload: Payload::Icmpv6(135),
        state: State::Untracked,
        ..segment(six(11), six(10), 0)
    };
    let mut on_link = Packet::from(&solicitation);
    on_link.bytes[7] = 255;
    assert!(trace_packet(node.table(), HookPoint::Forward, &on_link).is_accepted());
    assert!(!node.passes(six(11), six(10), 80));
}

#[test]
fn address_whose_pod_is_isolated_by_others_gets_another_chain_that_is_there_before() {
    let peer = IpAddr::from([192, 0, 2, 0]);
    let mut node = Node::new(options(), two_policies().into_iter().chain([pod("a", "one", 10)]));
    let changes = node.flush([pod("a", "two", 10)]);
    assert_eq!([80, 82].map(|port| node.passes(peer, address(10), port)), [false, true]);
    let of_map = |change: &&Change| matches!(change, Change::DeleteElements(set, _) | Change::AddElements(set, _) if **set == *"ISOLATED-INGRESS-4");
    assert_eq!(changes.iter().filter(of_map).count(), 2, "{changes:?}");
    let changes = node.flush([pod("b", "two", 11)]);
    assert!(changes.iter().all(|change| matches!(change, Change::AddElements(..))), "no rules: {changes:?}");
    node.flush([pod("b", "two", 12), gone("a")]);
    assert_eq!([11, 12].map(|host| node.passes(peer, address(host), 82)), [false, true]);
}

#[test]
fn profile_goes_while_another_begins_to_use_its_policies() {
    let peer = IpAddr::from([192, 0, 2, 0]);
    let both = [policy("one", &["one", "both"], &[&[(80, 81)]]), policy("two", &["both"], &[&[(82, 83)]])];
    let mut node = Node::new(options(), both.into_iter().chain([pod("a", "both", 10)]));
    let ports = |node: &Node| [80, 82].map(|port| node.passes(peer, address(10), port));
    assert_eq!(ports(&node), [true, true]);
    node.flush([pod("a", "one", 10)]);
    assert_eq!(ports(&node), [true, false]);
    node.flush([pod("a", "both", 10), pod("b", "one", 11)]);
    assert_eq!(ports(&node), [true, true]);
    node.flush([pod("a", "one", 10), pod("b", "both", 11)]);
    assert_eq!(ports(&node), [true, false]);
    node.flush([pod("a", "none", 10), pod("b", "none", 11)]);
    assert!(!node.has("KUBE-NWPLCY-"), "{}", node.table());
}

#[test]
fn port_ranges_that_change_are_asked_as_they_are_now() {
    let peer = |host: u8| IpAddr::from([192, 0, 2, host]);
    let two = |rules: &[&[(u16, u16)]]| policy("web", &["web"], rules);
    let mut node = Node::new(options(), [two(&[&[(80, 80), (90, 95)]]), pod("a", "web", 10)]);
    let ports = |node: &Node, host| [80, 81, 93, 443].map(|port| node.passes(peer(host), address(10), port));
    let sets =
        |node: &Node| node.table().sets.values().filter(|set| *set.kind.key == [KeyPart::Service]).count();
    assert_eq!((ports(&node, 0), sets(&node)), ([true, false, true, false], 1));
    node.flush([two(&[&[(81, 81), (443, 443)]])]);
    assert_eq!((ports(&node, 0), sets(&node)), ([false, true, false, true], 1));
    node.flush([two(&[&[(80, 80), (443, 443)], &[(81, 81), (443, 443)]])]);
    assert_eq!(ports(&node, 0), [true, false, false, true]);
    assert_eq!((ports(&node, 1), sets(&node)), ([false, true, false, true], 2));
    node.flush([two(&[&[(80, 80), (443, 443)], &[(80, 80), (443, 443)]])]);
    assert_eq!((ports(&node, 1), sets(&node)), ([true, false, false, true], 1), "both rules ask one set");
    assert_eq!(
        node.flush([policy_gone("web"), two(&[&[(80, 80), (443, 443)], &[(80, 80), (443, 443)]])]),
        []
    );
    node.flush([policy_gone("web"), two(&[&[(81, 81), (443, 443)]])]);
    assert_eq!((ports(&node, 0), sets(&node)), ([false, true, false, true], 1));
    node.flush([policy_gone("web")]);
    assert_eq!(sets(&node), 0);
    assert!(node.table().counters.is_empty());
}

#[test]
fn new_ranges_are_in_the_kernel_before_the_rules_that_ask_for_them() {
    let ranges = |first: u16| policy("web", &["web"], &[&[(first, first), (90, 95)]]);
    let mut node = Node::new(options(), [pod("a", "web", 10)]);
    for first in [80, 81] {
        node.apply(ranges(first));
        let delta = node.plan.take(&node.cluster);
        let view = View { cluster: &node.cluster, plan: &node.plan };
        let steps = node.backend.update(view, &delta).steps;
        let [Step::Transact(ahead), Step::Transact(rest)] = steps.as_slice() else { panic!("{steps:?}") };
        let [Batch { changes: ahead, .. }] = ahead.as_slice() else { panic!("{ahead:?}") };
        let of_ranges = |change: &Change| matches!(change, Change::AddSet(..) | Change::AddRanges(..));
        assert!(ahead.iter().all(of_ranges) && ahead.len() >= 2, "{ahead:?}");
        assert!(!rest.iter().flat_map(|batch| &batch.changes).any(of_ranges), "{rest:?}");
        node.commit(&steps);
    }
}

#[test]
fn policy_that_no_longer_isolates_in_a_direction_leaves_nothing_of_it() {
    let mut node = Node::new(options(), [closed("web", &["web"]), pod("a", "web", 10)]);
    assert_eq!(node.table().counters.len(), 2);
    node.flush([policy("web", &["web"], &[])]);
    assert_eq!((node.table().counters.len(), node.backend.policy_counters().len()), (1, 1));
    assert!(node.passes(address(10), outside(), 80) && !node.passes(outside(), address(10), 80));
    node.flush([closed("web", &["web"])]);
    assert!(!node.passes(address(10), outside(), 80));
    assert_eq!(node.restart(options()), 0);
    assert_eq!(node.backend.policy_counters().len(), 2);
}

#[test]
fn named_ports_are_found_in_both_families() {
    let own = [address(10), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 10])];
    let Fact::Pod(pod) = pod("a", "web", 10) else { panic!("it is a pod") };
    let ports = vec![NamedPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }];
    let pod = Pod { ports, addresses: own.into(), ..pod };
    let Fact::Policy(policy) = policy("web", &["web"], &[]) else { panic!("it is a policy") };
    for peers in [
        Peers::Anywhere,
        Peers::Listed(
            ["0.0.0.0/1", "192.0.0.0/8", "fc00::/7"]
                .map(|cidr| Peer::Block(Block { cidr: cidr.parse().expect("a prefix"), except: vec![] }))
                .into(),
        ),
    ] {
        let ports = Ports::Listed(vec![PortMatch::Named(Protocol::Tcp, "http".into())]);
        let ingress = Some(vec![Rule { index: 0, peers, ports }]);
        let mut node = Node::new(
            options(),
            [Fact::Policy(Policy { ingress, ..policy.clone() }), Fact::Pod(pod.clone())],
        );
        let sources = [outside(), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])];
        let open = |node: &Node, port| [0, 1].map(|family| node.passes(sources[family], own[family], port));
        assert_eq!((open(&node, 8080), open(&node, 80)), ([true; 2], [false; 2]));
        let ports = vec![NamedPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }];
        let changes = node.flush([Fact::Pod(Pod { ports, ..pod.clone() })]);
        assert_eq!((open(&node, 8080), open(&node, 80)), ([false; 2], [true; 2]));
        let of_elements =
            |change: &Change| matches!(change, Change::AddElements(..) | Change::DeleteElements(..));
        assert!(changes.iter().all(of_elements), "no rules: {changes:?}");
    }
}

#[test]
fn policy_of_many_rules_has_a_chain_and_one_of_few_is_part_of_its_profiles() {
    let peer = |host: u8| IpAddr::from([192, 0, 2, host]);
    let of_rules = |count: u16| {
        let ranges: Vec<[(u16, u16); 1]> = (0..count).map(|rule| [(80 + rule, 80 + rule)]).collect();
        policy("web", &["web", "both"], &ranges.iter().map(<[_; 1]>::as_slice).collect::<Vec<_>>())
    };
    let other = policy("other", &["both"], &[&[(443, 443)]]);
    let pods = [pod("a", "web", 10), pod("b", "both", 11)];
    let mut node = Node::new(options(), pods.into_iter().chain([other, of_rules(4)]));
    let chains = |node: &Node| node.table().chains.keys().filter(|name| name.starts_with("KUBE-")).count();
    let open = |node: &Node, rule: u8| {
        [10, 11].map(|host| node.passes(peer(rule), address(host), 80 + u16::from(rule)))
    };
    assert_eq!((chains(&node), open(&node, 3), open(&node, 4)), (2, [true; 2], [false; 2]));
    node.flush([of_rules(5)]);
    assert_eq!((chains(&node), open(&node, 3), open(&node, 4)), (3, [true; 2], [true; 2]));
    node.flush([of_rules(6)]);
    assert_eq!((chains(&node), open(&node, 5)), (3, [true; 2]));
    node.flush([of_rules(1)]);
    assert_eq!((chains(&node), open(&node, 0), open(&node, 1)), (2, [true; 2], [false; 2]));
    assert!(node.passes(peer(0), address(11), 443));
    assert_eq!(node.restart(options()), 0);
}
