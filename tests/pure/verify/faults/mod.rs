//! Faults planted in a kernel in memory: each is found, and named.

mod of_audits;
mod of_iptables;
mod of_nftables;

use super::{evidence, written};
use bridgewarden::apply::Fake;
use bridgewarden::controller::Enforcer;
use bridgewarden::net::Family;
use bridgewarden::netfilter::ipset::Element;
use bridgewarden::netfilter::nftables::{Elements, Rule, Table, TableFamily, Verdict};
use bridgewarden::netfilter::{BackendName, SetName};
use bridgewarden::ownership::{BRIDGE_TABLE, INET_TABLE};
use bridgewarden::verify::{Evidence, VerificationOutcome, differences, verify};
use std::net::IpAddr;
use support::backends::options;
use support::manifest;
use support::story_node::first_lists;
use support::worlds::{Random, Scene, attach_pods};

const CLUSTER: &str = include_str!("../../../verify/cluster.yaml");

/// A node that enforces the cluster, and its kernel.
fn node(backend: BackendName) -> (Enforcer, Fake) {
    node_of(backend, CLUSTER)
}

fn node_of(backend: BackendName, cluster: &str) -> (Enforcer, Fake) {
    let mut scene = Scene::from(manifest::parse(cluster).expect("the cluster reads"));
    attach_pods(&mut scene, &mut Random::new(1));
    let mut enforcer = Enforcer::new("node-a", options(backend));
    first_lists("node-a", &scene).into_iter().for_each(|fact| enforcer.apply(fact));
    let kernel = written(&mut enforcer);
    (enforcer, kernel)
}

/// A fault: what it is, how it is made, and a word of its name.
type Fault<S> = (&'static str, fn(&mut S), &'static str);

/// What verification finds on a backend with each of these faults.
fn find_all(backend: BackendName, faults: &[Fault<Fake>]) {
    find_all_in(backend, CLUSTER, faults);
}

fn find_all_in(backend: BackendName, cluster: &str, faults: &[Fault<Fake>]) {
    for (what, plant, word) in faults {
        let (mut enforcer, mut kernel) = node_of(backend, cluster);
        let before = kernel.clone();
        plant(&mut kernel);
        assert!(format!("{before:?}") != format!("{kernel:?}"), "{what}: nothing was planted");
        let evidence = evidence(&mut kernel, enforcer.options());
        found(what, word, &mut enforcer, &evidence);
    }
}

fn found(what: &str, word: &str, enforcer: &mut Enforcer, evidence: &Evidence) {
    let verification = verify(evidence, &enforcer.expectation());
    let words = match &verification.finding {
        VerificationOutcome::Verified => panic!("{what}: {} decisions verified", verification.decisions),
        VerificationOutcome::Differs(example) => example.to_string(),
        VerificationOutcome::Unjudged(why) => why.clone(),
    };
    let named = differences(&enforcer.ruleset(), evidence);
    assert!(!named.is_empty(), "{what}: no difference");
    assert!(named.iter().any(|one| one.contains(word)), "{what}: {named:#?} do not say {word}: {words}");
}

fn chain_of(kernel: &mut Fake, family: Family, such: impl Fn(&str, &[String]) -> bool) -> String {
    let table = kernel.table(family);
    let found = table.iter().find(|(name, rules)| such(name, rules));
    found.map(|(name, _)| name.clone()).expect("there is such a chain")
}

fn pod_chain(kernel: &mut Fake, family: Family) -> String {
    chain_of(kernel, family, |name, _| name.starts_with("KUBE-POD-SPECIFIC-FW-0"))
}

fn policy_chain(kernel: &mut Fake, family: Family) -> String {
    chain_of(kernel, family, |name, rules| {
        name.starts_with("KUBE-NWPLCY-0") && rules.iter().any(|rule| rule.contains("--match-set"))
    })
}

fn set(kernel: &mut Fake, such: impl Fn(&str) -> bool) -> SetName {
    let names = kernel.sets().iter().filter(|(name, set)| such(name.as_str()) && !set.elements.is_empty());
    names.map(|(name, _)| name.clone()).next().expect("there is such a set")
}

fn elements(kernel: &mut Fake, such: impl Fn(&str) -> bool) -> &mut std::collections::BTreeSet<Element> {
    let name = set(kernel, such);
    &mut kernel.sets().get_mut(&name).expect("it is there").elements
}

fn forward(kernel: &mut Fake) -> &mut Vec<String> {
    kernel.table(Family::V4).get_mut("FORWARD").expect("a built-in chain")
}

fn in_chain<'k>(kernel: &'k mut Fake, family: Family, chain: &str) -> &'k mut Vec<String> {
    kernel.table(family).get_mut(chain).expect("it is there")
}

fn bridge(kernel: &mut Fake) -> &mut Table {
    kernel.tables_of_nft().get_mut(&(TableFamily::Bridge, BRIDGE_TABLE.into())).expect("it is there")
}

fn inet(kernel: &mut Fake) -> &mut Table {
    kernel.tables_of_nft().get_mut(&(TableFamily::Inet, INET_TABLE.into())).expect("it is there")
}

fn remove_first(elements: &mut Elements) {
    let first = elements.keys().next().expect("an element").to_vec();
    elements.remove(&first);
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

const STRANGER: &str = "10.244.2.21";

const OF_PORTS: [Fault<Fake>; 5] = [
    (
        "no table of ports",
        |kernel| drop(kernel.tables_of_nft().remove(&(TableFamily::Bridge, BRIDGE_TABLE.into()))),
        "is missing",
    ),
    (
        "a port that is not bound",
        |kernel| remove_first(&mut bridge(kernel).sets.get_mut("from").expect("a map").elements),
        "set from of table bridge bridgewarden lacks",
    ),
    (
        "a port bound to another's address",
        |kernel| {
            let chains = &mut bridge(kernel).chains;
            let mut own = chains.iter_mut().filter(|(name, _)| {
                name.strip_prefix("from-").is_some_and(|rest| rest.parse::<u32>().is_ok())
            });
            let (one, other) = (own.next().expect("a port").1, own.next().expect("another").1);
            std::mem::swap(&mut one.rules, &mut other.rules);
        },
        "what does not belong there",
    ),
    (
        "a port that accepts everything",
        |kernel| {
            let chains = &mut bridge(kernel).chains;
            let own = chains
                .iter_mut()
                .find(|(name, _)| name.strip_prefix("from-").is_some_and(|rest| rest.parse::<u32>().is_ok()));
            own.expect("a port").1.rules.insert(0, Rule::verdict(Verdict::Accept));
        },
        "what does not belong there: accept",
    ),
    (
        "a port that announces another's address",
        |kernel| {
            let bound = &mut bridge(kernel).sets.get_mut("bound4").expect("a set").elements;
            let mut key = bound.keys().next().expect("an element").to_vec();
            key[4..8].copy_from_slice(&[10, 244, 2, 21]);
            bound.insert(&key, None);
        },
        "too many",
    ),
];

#[test]
fn faults_in_the_table_of_ports_are_found_and_named_beside_each_backend() {
    for backend in support::backends::BACKENDS {
        find_all(backend, &OF_PORTS);
    }
}

#[test]
fn bridge_that_shows_no_packets_and_tables_that_sleep_are_found() {
    for backend in [BackendName::IptablesNft, BackendName::IptablesLegacy, BackendName::Nftables] {
        let (mut enforcer, mut kernel) = node(backend);
        let right = evidence(&mut kernel, enforcer.options());
        for sees_bridged in [[false, true], [true, false]] {
            let evidence = Evidence { sees_bridged, ..right.clone() };
            found("a bridge that shows no packets", "are not shown", &mut enforcer, &evidence);
        }
        let tables: &[&str] = match backend {
            BackendName::IptablesNft => &["ip filter", "ip6 filter", "bridge bridgewarden"],
            BackendName::IptablesLegacy => &["bridge bridgewarden"],
            BackendName::Nftables => &["inet bridgewarden", "bridge bridgewarden"],
        };
        for table in tables {
            let mut evidence = right.clone();
            evidence.actual.dormant.insert((*table).into());
            found("a dormant table", "is dormant", &mut enforcer, &evidence);
        }
    }
}
