//! Faults in the rules and sets of iptables.

use super::{Fault, STRANGER, address, elements, find_all, forward, in_chain, pod_chain, policy_chain};
use bridgewarden::apply::Fake;
use bridgewarden::net::Family;
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::ipset::Element;

const OF_IPTABLES: [Fault<Fake>; 20] = [
    (
        "a rule of a policy removed",
        |kernel| {
            let chain = policy_chain(kernel, Family::V4);
            in_chain(kernel, Family::V4, &chain).clear();
        },
        "is empty",
    ),
    (
        "a pod's chain flushed",
        |kernel| {
            let chain = pod_chain(kernel, Family::V4);
            in_chain(kernel, Family::V4, &chain).clear();
        },
        "is empty",
    ),
    (
        "a pod's chain without its REJECT",
        |kernel| {
            let chain = pod_chain(kernel, Family::V4);
            in_chain(kernel, Family::V4, &chain).retain(|rule| !rule.contains("REJECT"));
        },
        "lacks its rule",
    ),
    (
        "REJECT made RETURN",
        |kernel| {
            let chain = pod_chain(kernel, Family::V4);
            for rule in in_chain(kernel, Family::V4, &chain) {
                if let Some((head, _)) = rule.split_once("REJECT") {
                    *rule = format!("{head}RETURN");
                }
            }
        },
        "-j RETURN",
    ),
    (
        "a wrong mark",
        |kernel| {
            let chain = policy_chain(kernel, Family::V4);
            for rule in in_chain(kernel, Family::V4, &chain) {
                *rule = rule.replace("0x10000/0x10000", "0x20000/0x20000");
            }
        },
        "0x20000",
    ),
    (
        "rules in another order",
        |kernel| {
            let chain = pod_chain(kernel, Family::V4);
            in_chain(kernel, Family::V4, &chain).reverse();
        },
        "in another order",
    ),
    (
        "a foreign ACCEPT before ours",
        |kernel| forward(kernel).insert(0, "-i cni0 -j ACCEPT".into()),
        "before its jump",
    ),
    (
        "a foreign ACCEPT of some packets before ours",
        |kernel| {
            forward(kernel).insert(0, "-s 10.244.2.0/24 -p tcp -m tcp --dport 8443 -j ACCEPT".into());
        },
        "8443",
    ),
    (
        "a foreign rule that cannot be evaluated before ours",
        |kernel| {
            forward(kernel).insert(0, "-m statistic --mode random --probability 0.5 -j ACCEPT".into());
        },
        "before its jump",
    ),
    (
        "a foreign chain before ours",
        |kernel| {
            forward(kernel).insert(0, "-j THEIRS".into());
            kernel.table(Family::V4).insert("THEIRS".into(), vec!["-s 10.244.2.21/32 -j ACCEPT".into()]);
        },
        "THEIRS",
    ),
    ("no jump to ours", |kernel| forward(kernel).retain(|rule| !rule.contains("KUBE-NWPLCY")), "has no jump"),
    (
        "no rules of IPv6",
        |kernel| {
            kernel.table(Family::V6).clear();
        },
        "(IPv6)",
    ),
    (
        "a lost member",
        |kernel| assert!(elements(kernel, |name| name.contains("-P4-")).pop_last().is_some()),
        "lacks",
    ),
    (
        "a member too many",
        |kernel| {
            elements(kernel, |name| name.contains("-P4-")).insert(Element::Address(address(STRANGER)));
        },
        "10.244.2.21 too many",
    ),
    (
        "swapped sets",
        |kernel| {
            let [one, other] = [0, 1].map(|skip| {
                let mut peers = kernel.sets().keys().filter(|name| name.as_str().contains("-P4-"));
                peers.nth(skip).cloned().expect("two sets")
            });
            let first = kernel.sets()[&one].clone();
            let second = kernel.sets().insert(other, first).expect("it was there");
            kernel.sets().insert(one, second);
        },
        "too many",
    ),
    (
        "an address that is no longer isolated",
        |kernel| {
            assert!(elements(kernel, |name| name.ends_with("ISOLATED-INGRESS-4")).pop_first().is_some());
        },
        "ISOLATED-INGRESS-4 lacks",
    ),
    (
        "an address that is no longer of this node",
        |kernel| assert!(elements(kernel, |name| name.ends_with("LOCAL-4")).pop_first().is_some()),
        "LOCAL-4 lacks",
    ),
    (
        "an address that never was of this node",
        |kernel| {
            elements(kernel, |name| name.ends_with("LOCAL-4"))
                .insert(Element::Address(address("10.244.1.77")));
        },
        "10.244.1.77 too many",
    ),
    (
        "a block without its exception",
        |kernel| {
            elements(kernel, |name| name.contains("-B4-"))
                .retain(|element| !matches!(element, Element::Net { nomatch: true, .. }));
        },
        "lacks 203.0.113.128/25 nomatch",
    ),
    (
        "a named port of another number",
        |kernel| {
            let ports = elements(kernel, |name| name.contains("-N4-"));
            let wrong = ports.pop_first().map(|element| match element {
                Element::AddressPort(address, protocol, port) => {
                    Element::AddressPort(address, protocol, port + 1)
                }
                other @ (Element::Address(_) | Element::Net { .. }) => other,
            });
            ports.extend(wrong);
        },
        "tcp:81 too many",
    ),
];

#[test]
fn faults_in_rules_and_sets_of_iptables_are_found_and_named() {
    find_all(BackendName::IptablesNft, &OF_IPTABLES);
}
