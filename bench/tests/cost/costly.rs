//! What one policy with thousands of peers asks of a real kernel, beside 3,000 pods with labels of their own.

use crate::node::in_namespace;
use bridgewarden::apply::{Actual, PacketFilter, Tally};
use bridgewarden::controller::Enforcer;
use bridgewarden::kernel::Host;
use bridgewarden::model::{Change, Labels, Pod, PodKey};
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::render::Options;
use bridgewarden::source::convert;
use bridgewarden_bench::cluster::LOCAL_NODE;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const PODS: usize = 3_000;

fn pod(number: usize) -> Change {
    let labels = [("own".to_owned(), format!("v{number}"))];
    Change::Pod(Pod {
        node: Some(if number < 10 { LOCAL_NODE } else { "node-elsewhere" }.into()),
        labels: Labels::new(&labels.into()),
        addresses: vec![IpAddr::from([10, 250, (number / 250) as u8, (number % 250) as u8])],
        ..Pod::new(PodKey::new("crowd", &format!("pod-{number}")))
    })
}

fn not_in(number: usize) -> Value {
    json!({"podSelector": {"matchExpressions": [
        {"key": "own", "operator": "NotIn", "values": [format!("v{number}")]}]}})
}

fn policy(ingress: Vec<Value>) -> Change {
    let object = json!({"metadata": {"namespace": "crowd", "name": "costly"},
                        "spec": {"podSelector": {}, "ingress": ingress}});
    Change::Policy(convert::policy(&serde_json::from_value(object).expect("an object of the API's shape")))
}

/// What a policy asks of the kernel until it is in force, how long that takes, and the longest flush.
fn cost(name: &str, change: Change) -> (Tally, Duration, Duration) {
    in_namespace(name, || {
        let mut enforcer = Enforcer::new(LOCAL_NODE, Options::default());
        (0..PODS).for_each(|number| enforcer.apply(pod(number)));
        let mut kernel = Host::new(Variant::Nft).expect("a kernel");
        let actual = Actual::read(&mut kernel).expect("it is read");
        let first = enforcer.adopt(&actual);
        kernel.commit_all(&first.steps).expect("the kernel takes it");
        let (before, start, mut longest) = (kernel.tally(), Instant::now(), Duration::ZERO);
        enforcer.apply(change);
        while enforcer.is_behind() {
            let begun = Instant::now();
            let flush = enforcer.flush();
            kernel.commit_all(&flush.steps).expect("the kernel takes it");
            longest = longest.max(begun.elapsed());
        }
        let (after, took) = (kernel.tally(), start.elapsed());
        let tally = Tally {
            processes: after.processes - before.processes,
            netlink_writes: after.netlink_writes - before.netlink_writes,
            elements: after.elements - before.elements,
            restores: after.restores - before.restores,
            transactions: after.transactions - before.transactions,
            cut: 0,
        };
        (tally, took, longest)
    })
}

#[test]
fn thousands_of_peers_ask_the_kernel_for_each_pod_once() {
    let mut tallies = Vec::new();
    for peers in [17, 2_000, 12_000] {
        let (tally, took, longest) =
            cost("peers", policy(vec![json!({"from": (0..peers).map(not_in).collect::<Vec<_>>()})]));
        eprintln!("{peers} peers: {tally:?} in {took:?}, the longest flush {longest:?}");
        assert_eq!(tally.elements, PODS as u64 + 10, "each pod, and ten that are isolated");
        tallies.push(tally);
    }
    assert!(tallies.iter().all(|tally| *tally == tallies[0]), "{tallies:?}");
}

/// Nothing can be shared among rules with ports of their own: the limits bound what is written.
#[test]
fn rules_with_ports_of_their_own_ask_for_no_more_than_the_limits() {
    let rule = |number: usize| json!({"from": [not_in(number)], "ports": [{"port": number + 1}]});
    let (tally, took, longest) = cost("ports", policy((0..2_000).map(rule).collect()));
    eprintln!("2,000 rules: {tally:?} in {took:?}, the longest flush {longest:?}");
    assert!(tally.elements <= 256 * PODS as u64, "{tally:?}");
}
