//! How long the kernel takes for a change when 10, 1,000 and 10,000 policies are in force: 100 pods on the node, each selected by a
//! hundredth of the policies. Each policy has a set of ranges and three rules, which are part of the chain of a profile.

use crate::{in_namespace, print};
use bridgewarden::apply::{Actual, PacketFilter};
use bridgewarden::controller::Enforcer;
use bridgewarden::kernel::Host;
use bridgewarden::model::{
    Block, Change, Demand, Labels, Namespace, NamespaceName, NamespaceScope, Peer, Peers, Pod, PodKey,
    Policy, PolicyKey, PortMatch, Ports, Requirement, Rule, Selector,
};
use bridgewarden::net::{PortRange, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::{Binding, Options};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PODS: u16 = 100;
const ROUNDS: u16 = 100;

/// A change, and how it is undone.
type Edit = fn(u16) -> [Change; 2];

const EDITS: [(&str, Edit); 4] = [
    ("pod on another node starts: an element of a set", |round| {
        let name = format!("far-{round}");
        [pod("node-b", &name, "peer", [10, 245, 1, round as u8]), Change::PodGone(PodKey::new("shop", &name))]
    }),
    ("pod of the node starts: elements of maps with verdicts", |round| {
        let name = format!("near-{round}");
        [pod("node-a", &name, "0", [10, 244, 2, round as u8]), Change::PodGone(PodKey::new("shop", &name))]
    }),
    ("a policy changes: the chain of a profile is rewritten", |_| [policy(0, 444), policy(0, 443)]),
    ("policy is created: its set, and the chain of a profile", |_| {
        [policy(60_000, 443), Change::PolicyGone(PolicyKey::new("shop", "policy-60000"))]
    }),
];

pub(crate) fn measure() {
    print(format_args!("median (shortest, longest) of {ROUNDS}, and of undoing it"));
    for policies in [10, 1_000, 10_000] {
        in_namespace(move || measure_at(policies));
    }
    print(format_args!(
        "an element of a set beside a profile's chain that is rewritten without a pause, 1,000 policies"
    ));
    for round in 1..=3 {
        for (what, is_shared) in [("with one socket", true), ("with a socket for each thread", false)] {
            print(format_args!("  {what}, {round}: {}", in_namespace(move || measure_beside(is_shared))));
        }
    }
}

/// What an element waits while another thread changes rules, if both write by one socket or each by its own.
fn measure_beside(is_shared: bool) -> String {
    let (mut enforcer, mut host) = start(1_000);
    let mut beside =
        if is_shared { host.beside() } else { Host::new(BackendName::Nftables) }.expect("a host");
    let rewrites = [444, 443].map(|port| {
        enforcer.apply(policy(0, port));
        enforcer.flush().steps
    });
    let members = EDITS[0].1(0).map(|change| {
        enforcer.apply(change);
        enforcer.flush().steps
    });
    let is_done = AtomicBool::new(false);
    let mut took = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                rewrites.iter().for_each(|steps| host.commit_all(steps).expect("written"));
            }
        });
        for _ in 0..1_000 {
            for steps in &members {
                let begun = Instant::now();
                beside.commit_all(steps).expect("written");
                took.push(begun.elapsed());
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
    took.sort();
    let micros = |part: usize| took[took.len() * part / 100].as_secs_f64() * 1e6;
    format!("median {:.0} us, p90 {:.0} us, p99 {:.0} us", micros(50), micros(90), micros(99))
}

/// A node on which so many policies are in force.
fn start(policies: u16) -> (Enforcer, Host) {
    let options = Options { backend: BackendName::Nftables, binding: Binding::Off, ..Options::default() };
    let mut enforcer = Enforcer::new("node-a", options);
    // Without it, a policy that is deleted stays in force.
    enforcer.apply(Change::Namespace(Namespace {
        name: NamespaceName::new("shop"),
        labels: Labels::default(),
        terminating: false,
    }));
    for number in 0..policies {
        enforcer.apply(policy(number, 443));
    }
    for number in 0..PODS {
        enforcer.apply(pod(
            "node-a",
            &format!("pod-{number}"),
            &number.to_string(),
            [10, 244, 1, number as u8],
        ));
    }
    let mut host = Host::new(BackendName::Nftables).expect("a host");
    let actual = Actual::read(&mut host).expect("read");
    let steps = enforcer.adopt(&actual).steps;
    let begun = Instant::now();
    host.commit_all(&steps).expect("written");
    print(format_args!("{policies} policies, written in {:?}", begun.elapsed()));
    (enforcer, host)
}

fn measure_at(policies: u16) {
    let (mut enforcer, mut host) = start(policies);
    for (what, edit) in EDITS {
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for (change, took) in edit(round).into_iter().zip(&mut took) {
                enforcer.apply(change);
                let steps = enforcer.flush().steps;
                assert!(!steps.is_empty(), "{what}");
                let begun = Instant::now();
                host.commit_all(&steps).expect("written");
                took.push(begun.elapsed());
            }
        }
        let [done, undone] = took.map(summary);
        print(format_args!("  {what}: {done}; {undone}"));
    }
}

fn summary(mut took: Vec<Duration>) -> String {
    took.sort();
    let micros = |place: usize| took[place].as_secs_f64() * 1e6;
    format!("{:.0} us ({:.0}, {:.0})", micros(took.len() / 2), micros(0), micros(took.len() - 1))
}

fn pod(node: &str, name: &str, app: &str, address: [u8; 4]) -> Change {
    Change::Pod(Pod {
        node: Some(node.into()),
        labels: Labels::new(&[("app".to_owned(), app.to_owned())].into()),
        addresses: vec![IpAddr::from(address)],
        ..Pod::new(PodKey::new("shop", name))
    })
}

fn selector(app: &str) -> Selector {
    Selector::new([Requirement { key: "app".into(), demand: Demand::In([app.into()].into()) }])
}

fn policy(number: u16, port: u16) -> Change {
    let ports = |first, last| {
        Ports::Listed(vec![PortMatch::Numbered(Protocol::Tcp, PortRange::new(first, last).expect("a range"))])
    };
    let [high, low] = number.to_be_bytes();
    let blocks = [
        format!("172.{}.{low}.0/28", 16 + high % 16).parse().expect("a prefix"),
        format!("100.{}.{low}.0/28", 64 + high % 64).parse().expect("a prefix"),
    ];
    let blocks = blocks.into_iter().map(|cidr| Peer::Block(Block { cidr, except: vec![] })).collect();
    let pods = vec![Peer::Pods { namespaces: NamespaceScope::Own, pods: selector("peer") }];
    let rules = [
        (Peers::Listed(blocks), ports(80, 80)),
        (Peers::Listed(pods), ports(port, port)),
        (Peers::Anywhere, ports(8000, 8100)),
    ];
    let rule = |(index, (peers, ports))| Rule { index, peers, ports };
    Change::Policy(Policy {
        key: PolicyKey::new("shop", &format!("policy-{number}")),
        uid: None,
        version: Default::default(),
        subject: selector(&(number % PODS).to_string()),
        ingress: Some(rules.into_iter().enumerate().map(rule).collect()),
        egress: None,
        invalid_parts: Vec::new(),
        audit: Default::default(),
    })
}
