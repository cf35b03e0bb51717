//! What the first packet of a connection costs its sender if a policy with 10,000 blocks and 1,000 ranges of ports allows it, and if one
//! with ten of each does: the whole way to the receiver is walked while it is sent.

use crate::print;
use bridgewarden::apply::{Actual, PacketFilter};
use bridgewarden::controller::Enforcer;
use bridgewarden::kernel::Host;
use bridgewarden::model::{
    Block, Change, Labels, Peer, Peers, Pod, PodKey, Policy, PolicyKey, PortMatch, Ports, Rule, Selector,
};
use bridgewarden::net::{PortRange, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::{Binding, Options};
use bridgewarden::testbed::Testbed;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use support::field::Field;
use support::manifest;

const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec: {nodeName: node-a}
status: {podIPs: [{ip: 10.244.1.10}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: near, labels: {app: client}}
spec: {nodeName: node-a}
status: {podIPs: [{ip: 10.244.1.11}]}
";
const WEB: [u8; 4] = [10, 244, 1, 10];
const NEAR: [u8; 4] = [10, 244, 1, 11];
/// A port to which nothing sends an answer.
const PORT: u16 = 65_000;
const FLOWS: u16 = 2_000;
const ROUNDS: usize = 6;

pub(crate) fn measure() {
    let world = manifest::parse(CLUSTER).expect("it reads");
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-nftables");
    let field =
        Field::build("benchnft", &world, Path::new("/nonexistent"), &logs).expect("the network stands");
    let bed = &field.testbed;
    let namespace = |name| bed.pod_namespace(&PodKey::new("shop", name)).expect("a pod").clone();
    let receiver = namespace("web").enter(|| UdpSocket::bind((IpAddr::from(WEB), PORT)).expect("a socket"));
    let mut lowest = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (count, lowest) in [None, Some((10, 10)), Some((10_000, 1_000))].into_iter().zip(&mut lowest) {
            enforce(bed, count);
            lowest.push(namespace("near").enter(quartile).expect("it is entered"));
        }
    }
    drop(receiver);
    for (what, lowest) in
        ["no policy", "10 blocks, 10 ranges", "10,000 blocks, 1,000 ranges"].iter().zip(lowest)
    {
        print(format_args!("  {what}: {lowest:?}, least {:?}", lowest.iter().min()));
    }
}

/// The time within which a quarter of the flows were sent.
fn quartile() -> Duration {
    let mut took = Vec::new();
    for _ in 0..FLOWS {
        let socket = UdpSocket::bind((IpAddr::from(NEAR), 0)).expect("a socket");
        let begun = Instant::now();
        socket.send_to(b"?", (IpAddr::from(WEB), PORT)).expect("sent");
        took.push(begun.elapsed());
    }
    took.sort();
    took[took.len() / 4]
}

/// Puts a policy with so many blocks and ranges of ports into force on node-a, or none.
fn enforce(bed: &Testbed, count: Option<(u32, u16)>) {
    let run = || {
        let options = Options { backend: BackendName::Nftables, binding: Binding::Off, ..Options::default() };
        let mut enforcer = Enforcer::new("node-a", options);
        for (name, address) in [("web", WEB), ("near", NEAR)] {
            let labels = Labels::new(&[("app".to_owned(), name.to_owned())].into());
            let (node, addresses) = (Some("node-a".into()), vec![address.into()]);
            enforcer.apply(Change::Pod(Pod {
                node,
                labels,
                addresses,
                ..Pod::new(PodKey::new("shop", name))
            }));
        }
        if let Some((blocks, ranges)) = count {
            enforcer.apply(policy(blocks, ranges));
        }
        let mut host = Host::new(BackendName::Nftables).expect("a host");
        let actual = Actual::read(&mut host).expect("read");
        host.commit_all(&enforcer.adopt(&actual).steps).expect("written");
    };
    bed.node_namespace("node-a").expect("a node").enter(run).expect("it is entered");
}

/// Lets the last of its blocks, in which near is, reach the last of its ranges, in which the port is.
fn policy(blocks: u32, ranges: u16) -> Change {
    let block = |number: u32| {
        let address = std::net::Ipv4Addr::from_bits(u32::from_be_bytes(NEAR) - 16 * (blocks - 1 - number));
        Peer::Block(Block { cidr: format!("{address}/32").parse().expect("a prefix"), except: vec![] })
    };
    let range = |number: u16| {
        let first = PORT - 3 * (ranges - 1 - number);
        PortMatch::Numbered(Protocol::Udp, PortRange::new(first, first + 1).expect("a range"))
    };
    let peers = Peers::Listed((0..blocks).map(block).collect());
    let ports = Ports::Listed((0..ranges).map(range).collect());
    Change::Policy(Policy {
        key: PolicyKey::new("shop", "web"),
        uid: None,
        version: Default::default(),
        subject: Selector::new([bridgewarden::model::Requirement {
            key: "app".into(),
            demand: bridgewarden::model::Demand::In(["web".into()].into()),
        }]),
        ingress: Some(vec![Rule { index: 0, peers, ports }]),
        egress: None,
        invalid_parts: Vec::new(),
        audit: Default::default(),
    })
}
