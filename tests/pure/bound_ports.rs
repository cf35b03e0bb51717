//! What ports of the bridge carry, frame by frame, on a kernel in memory: while a binding changes, and where the pod behind a port
//! is not known. `tests/ways_past` tries the table of ports with real packets.

use bridgewarden::apply::{Actual, Fake, PacketFilter, Step};
use bridgewarden::controller::Enforcer;
use bridgewarden::model::{
    Bridge, BridgePort, Change, Labels, LinkChange, Namespace, NamespaceName, Pod, PodKey, Policy, PolicyKey,
    Sandbox, SandboxKey, Selector, TunnelInputs,
};
use bridgewarden::netfilter::nftables::{Frame, HookPoint, TableFamily, trace};
use bridgewarden::ownership::BRIDGE_TABLE;
use bridgewarden::render::Options;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use support::frame::{ARP, Bytes, IPV4, Mac, UDP, arp, ethernet, ip, udp};

const NODE: &str = "node-a";
const GATEWAY: Mac = [2, 0, 0, 0, 0, 1];
const GROUP: Mac = [1, 0, 0x5e, 0, 0, 0xfb];
/// A type of frames for local experiments: policies know nothing of it.
const EXPERIMENT: u16 = 0x88b5;

fn address(host: u8) -> IpAddr {
    [10, 244, 1, host].into()
}

fn pod(name: &str) -> Change {
    Change::Pod(Pod { node: Some(NODE.into()), ..Pod::new(PodKey::new("shop", name)) })
}

/// A pod's sandbox behind a port, whether or not that port is known.
fn sandbox(of: &str, host: u8, made: u64, port: u32) -> Change {
    Change::Sandbox(Sandbox {
        key: SandboxKey::new(PodKey::new("shop", of), "sandbox"),
        uid: None,
        addresses: vec![address(host)],
        made: Duration::from_secs(made),
        devices: vec![format!("veth{port}").into()],
        hardware: None,
    })
}

fn port(index: u32) -> Change {
    let name = format!("veth{index}").into();
    Change::Link(LinkChange::Port(BridgePort { index, name, is_veth: true }))
}

/// Isolates every pod for egress and allows nothing, or is gone.
fn isolates(is_there: bool) -> Change {
    let key = PolicyKey::new("shop", "closed");
    if !is_there {
        return Change::PolicyGone(key);
    }
    Change::Policy(Policy {
        key,
        uid: None,
        version: Default::default(),
        subject: Selector::everything(),
        ingress: None,
        egress: Some(Vec::new()),
        invalid_parts: Vec::new(),
        audit: Default::default(),
    })
}

fn namespace() -> Change {
    let name = NamespaceName::new("shop");
    Change::Namespace(Namespace { labels: Labels::of_unknown_namespace(&name), name, terminating: false })
}

fn datagram(from: u8, to: Mac) -> Bytes {
    let (source, destination) = (address(from), address(1));
    let packet = ip(source, destination, UDP, &udp(source, destination, [40_000, 7777], b"letter"));
    ethernet(to, [2, 0, 0, 0, 0, from], IPV4, &packet)
}

struct Node {
    enforcer: Enforcer,
    kernel: Fake,
}

impl Node {
    fn with(facts: impl IntoIterator<Item = Change>) -> Node {
        let mut enforcer = Enforcer::new(NODE, Options::default());
        [namespace()].into_iter().chain(facts).for_each(|fact| enforcer.apply(fact));
        let mut kernel = Fake::default();
        let actual = Actual::read(&mut kernel).expect("a kernel in memory is read");
        let steps = enforcer.adopt(&actual).steps;
        kernel.commit_all(&steps).expect("it takes every step");
        Node { enforcer, kernel }
    }

    /// Carries out what has changed, and looks at the node each time after rules of iptables changed, which they must.
    fn flush_and_look(&mut self, mut look: impl FnMut(&mut Node)) {
        let mut changes = 0;
        for step in self.enforcer.flush().steps {
            self.kernel.commit(&step).expect("the kernel takes the step");
            if matches!(step, Step::Restore(..)) {
                changes += 1;
                look(self);
            }
        }
        assert!(changes > 0, "no rule changed");
    }

    /// Whether a frame gets into the bridge by a port.
    fn lets_in(&mut self, port: u32, bytes: Bytes) -> bool {
        self.passes(HookPoint::Prerouting, Frame { bytes, input: port, output: 0, mark: 0 })
    }

    fn passes(&mut self, point: HookPoint, frame: Frame) -> bool {
        trace(self.kernel.table_of_nft(TableFamily::Bridge, BRIDGE_TABLE).expect("a table"), point, &frame)
            .is_accepted()
    }
}

/// The new rules of iptables may allow an address to the pod that has it now, so the old pod's port gives it up before. A port's
/// isolation concerns only frames that iptables never sees, so it changes after the rules.
#[test]
fn while_rules_change_a_port_carries_what_both_bindings_do_and_isolation_follows() {
    for (hosts, isolated) in [
        ([10, 10], [false, true]),
        ([10, 10], [true, false]),
        ([10, 12], [false, true]),
        ([10, 12], [true, false]),
        ([10, 12], [true, true]),
    ] {
        let facts = |at: usize| [sandbox("web", hosts[at], 1, 7), isolates(isolated[at])];
        let mut node = Node::with([pod("web"), port(7)].into_iter().chain(facts(0)));
        let frames = [10, 12].map(|host| [GATEWAY, GROUP].map(|to| datagram(host, to))).concat();
        let look = |node: &mut Node| -> Vec<bool> {
            frames.iter().map(|frame| node.lets_in(7, frame.clone())).collect()
        };
        let old = look(&mut node);
        facts(1).into_iter().for_each(|fact| node.enforcer.apply(fact));
        let mut between = Vec::new();
        node.flush_and_look(|node| between.push(look(node)));
        let new = look(&mut node);
        assert_ne!(old, new, "{hosts:?}, {isolated:?}");
        for now in between {
            for (at, passes) in now.into_iter().enumerate() {
                let wanted = if hosts[0] == hosts[1] { old[at] } else { old[at] && new[at] };
                assert_eq!(passes, wanted, "{hosts:?}, {isolated:?}: frame {at}");
            }
        }
    }
}

#[test]
fn while_rules_change_a_port_whose_ethernet_address_changes_carries_nothing_under_either() {
    let web = |mac: Mac| {
        let Change::Sandbox(web) = sandbox("web", 10, 1, 7) else { panic!("it is a sandbox") };
        Change::Sandbox(Sandbox { hardware: Some(mac), ..web })
    };
    let macs: [Mac; 2] = [[2, 0, 0, 0, 0, 10], [2, 0, 0, 0, 0, 11]];
    let mut node = Node::with([pod("web"), web(macs[0]), port(7)]);
    [web(macs[1]), isolates(true)].into_iter().for_each(|fact| node.enforcer.apply(fact));
    let frames = macs.map(|from| [&datagram(10, GATEWAY)[..6], &from, &datagram(10, GATEWAY)[12..]].concat());
    assert_eq!(frames.clone().map(|frame| node.lets_in(7, frame)), [true, false]);
    node.flush_and_look(|node| {
        assert_eq!(frames.clone().map(|frame| node.lets_in(7, frame)), [false, false]);
    });
    assert_eq!(frames.map(|frame| node.lets_in(7, frame)), [false, true]);
}

/// Its address is a later pod's, but its process may still be there.
#[test]
fn port_of_an_unknown_pod_that_has_no_address_left_stays_closed() {
    let ghost = [sandbox("ghost", 10, 1, 7), port(7)];
    let mut node = Node::with(ghost.into_iter().chain([pod("web"), sandbox("web", 10, 2, 8)]));
    let frame = ethernet(GROUP, [2, 0, 0, 0, 0, 10], EXPERIMENT, b"letter");
    assert!(!node.lets_in(7, frame.clone()) && !node.lets_in(7, datagram(10, GROUP)));
    assert!(!node.passes(HookPoint::Forward, Frame { bytes: frame, input: 9, output: 7, mark: 0 }));
}

/// It is not isolated, since its address is the later pod's, but its process may still be there.
#[test]
fn port_of_a_known_pod_whose_address_is_a_later_ones_stays_closed() {
    let old = [pod("old"), sandbox("old", 10, 1, 7), port(7)];
    let mut node = Node::with(old.into_iter().chain([pod("web"), sandbox("web", 10, 2, 8), isolates(true)]));
    let frame = ethernet(GROUP, [2, 0, 0, 0, 0, 10], EXPERIMENT, b"letter");
    assert!(!node.lets_in(7, frame.clone()) && !node.lets_in(7, datagram(10, GROUP)));
    assert!(!node.passes(HookPoint::Forward, Frame { bytes: frame, input: 9, output: 7, mark: 0 }));
}

#[test]
fn port_without_a_known_pod_carries_no_address_whose_port_is_known() {
    let web = [pod("web"), sandbox("web", 10, 1, 7), port(7)];
    let client = [pod("client"), sandbox("client", 11, 1, 8)];
    let mut node = Node::with(web.into_iter().chain(client).chain([port(9)]));
    assert!(node.lets_in(7, datagram(10, GATEWAY)));
    assert!(!node.lets_in(9, datagram(10, GATEWAY)), "it is behind another port");
    assert!(node.lets_in(9, datagram(11, GATEWAY)), "it may be behind this one");
}

/// CNI announces an address before its result names it, so a port without a known pod may claim an address that no pod has.
#[test]
fn while_rules_change_a_port_without_a_known_pod_claims_no_address_that_is_or_was_anothers() {
    let comes = vec![sandbox("web", 10, 1, 7), port(7)];
    let key = SandboxKey::new(PodKey::new("shop", "web"), "sandbox");
    let goes = vec![Change::Link(LinkChange::PortGone(7)), Change::SandboxGone(key)];
    let mut node = Node::with([pod("web"), isolates(true), port(9)]);
    let own = Ipv4Addr::new(10, 244, 1, 10);
    let claim =
        ethernet(GATEWAY, [2, 0, 0, 0, 0, 9], ARP, &arp(2, ([2, 0, 0, 0, 0, 9], own), (GATEWAY, own)));
    for (facts, claims_before) in [(comes, true), (goes, false)] {
        assert_eq!(node.lets_in(9, claim.clone()), claims_before);
        facts.into_iter().for_each(|fact| node.enforcer.apply(fact));
        node.flush_and_look(|node| {
            assert!(!node.lets_in(9, claim.clone()), "claimed before: {claims_before}");
        });
        assert_ne!(node.lets_in(9, claim.clone()), claims_before);
    }
}

/// The new rules may allow an address that only the new port's rules deny to others.
#[test]
fn port_that_is_new_or_loses_its_pod_refuses_before_rules_change_what_it_refuses_after() {
    let key = SandboxKey::new(PodKey::new("shop", "web"), "sandbox");
    let web = || vec![pod("web"), sandbox("web", 10, 1, 7)];
    let client = || vec![pod("client"), sandbox("client", 11, 1, 8)];
    let ways = [
        // It comes, and carries what its pod sends and nothing else.
        ([web(), client()].concat(), vec![port(7)], 11),
        // Its pod is gone. The client's port is not known, so in the end the client may be behind this one.
        ([web(), client(), vec![port(7)]].concat(), vec![Change::SandboxGone(key)], 11),
    ];
    for (before, mut changes, host) in ways {
        let was_there = before.contains(&port(7));
        let mut node = Node::with(before);
        assert_eq!(node.lets_in(7, datagram(host, GATEWAY)), !was_there);
        changes.push(isolates(true));
        changes.into_iter().for_each(|fact| node.enforcer.apply(fact));
        node.flush_and_look(|node| {
            assert!(!node.lets_in(7, datagram(host, GATEWAY)), "was there: {was_there}");
        });
        assert_eq!(node.lets_in(7, datagram(host, GATEWAY)), was_there);
    }
}

/// The new rules may allow the address, and then only to the pod behind its port.
#[test]
fn address_that_gets_a_port_is_denied_to_ports_without_a_known_pod_before_rules_change() {
    let client = [pod("client"), sandbox("client", 11, 1, 8), isolates(true), port(9)];
    let web = [pod("web"), sandbox("web", 10, 1, 7), port(7)];
    let ways = [(port(8), 8), (sandbox("web", 11, 2, 7), 7), (sandbox("client", 11, 2, 10), 10)];
    for (gives, owner) in ways {
        let mut node = Node::with(client.clone().into_iter().chain(web.clone()).chain([port(10)]));
        assert!(node.lets_in(9, datagram(11, GATEWAY)), "it may be behind this one");
        [gives, isolates(false)].into_iter().for_each(|fact| node.enforcer.apply(fact));
        node.flush_and_look(|node| {
            assert!(!node.lets_in(9, datagram(11, GATEWAY)), "it is behind {owner}");
        });
        assert!(node.lets_in(owner, datagram(11, GATEWAY)));
    }
}

/// What the node unpacks is dropped where it goes on to the node, or to a network behind a port, and nowhere else.
#[test]
fn packet_for_a_tunnel_of_the_nodes_leaves_the_bridge_by_no_way() {
    let uplink = BridgePort { index: 9, name: "eth1".into(), is_veth: false };
    let tunnels = TunnelInputs { udp_ports: [8472].into(), protocols: [4, 47].into() };
    let bridge = |tunnels| Change::Link(LinkChange::Bridge(Bridge { tunnels, ..Bridge::default() }));
    let facts = [pod("web"), sandbox("web", 10, 1, 7), port(7), port(8), bridge(tunnels)];
    let mut node = Node::with(facts.into_iter().chain([Change::Link(LinkChange::Port(uplink))]));
    let of = |protocol, payload: &[u8]| {
        let packet = ip(address(10), address(1), protocol, payload);
        ethernet(GATEWAY, [2, 0, 0, 0, 0, 10], IPV4, &packet)
    };
    let to_port = |port| of(UDP, &udp(address(10), address(1), [40_000, port], b"letter"));
    let frames = [to_port(8472), of(4, &[0x45; 20]), of(47, &[0; 8]), to_port(4789), of(41, &[0x60; 40])];
    let mut passes = |point, input, output| {
        frames.clone().map(|bytes| node.passes(point, Frame { bytes, input, output, mark: 0 }))
    };
    let kept = [false, false, false, true, true];
    assert_eq!(passes(HookPoint::Input, 7, 0), kept);
    assert_eq!(passes(HookPoint::Input, 8, 0), kept, "the pod behind the port is not known");
    assert_eq!(passes(HookPoint::Forward, 7, 9), kept);
    assert_eq!(passes(HookPoint::Prerouting, 7, 0), [true; 5], "it may be for a neighbour");
    assert_eq!(passes(HookPoint::Input, 9, 0), [true; 5], "another node sends it");

    node.enforcer.apply(bridge(TunnelInputs { udp_ports: [4789].into(), ..TunnelInputs::default() }));
    node.kernel.commit_all(&node.enforcer.flush().steps).expect("it takes every step");
    let [old, new] = [to_port(8472), to_port(4789)]
        .map(|bytes| node.passes(HookPoint::Input, Frame { bytes, input: 7, output: 0, mark: 0 }));
    assert_eq!([old, new], [true, false], "the tunnel has another port");
}

/// Behind a port that is no veth are networks.
#[test]
fn port_that_leads_to_no_pod_carries_any_address() {
    let uplink = BridgePort { index: 9, name: "eth1".into(), is_veth: false };
    let mut node = Node::with([isolates(true), Change::Link(LinkChange::Port(uplink))]);
    assert!(node.lets_in(9, datagram(200, GATEWAY)) && node.lets_in(9, datagram(200, GROUP)));
}
