//! The finer points; random clusters are compared with the oracle in `tests/pure`.

use super::*;
use crate::model::{
    Block, Demand, Labels, NamedPort, Namespace, NamespaceName, NamespaceScope, Owner, Peer, Peers, Pod,
    Policy, PolicyKey, PortMatch, Ports, Requirement, Rule, Selector,
};
use crate::net::{PortRange, Protocol};
use std::sync::Arc;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
}

fn selector(pairs: &[(&str, &str)]) -> Selector {
    Selector::new(pairs.iter().map(|(key, value)| Requirement {
        key: (*key).into(),
        demand: Demand::In([Box::from(*value)].into()),
    }))
}

/// A pod `shop/NAME` of StatefulSet `OWNER`.
fn pod(name: &str, owner: &str, pairs: &[(&str, &str)], addresses: &[&str]) -> Pod {
    Pod {
        labels: labels(pairs),
        owner: Some(Arc::new(Owner { kind: "StatefulSet".into(), name: owner.into() })),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Pod::new(PodKey::new("shop", name))
    }
}

fn tcp(port: u16) -> Ports {
    Ports::Listed(vec![PortMatch::Numbered(Protocol::Tcp, PortRange::single(port).unwrap())])
}

fn pods(pairs: &[(&str, &str)]) -> Peers {
    Peers::Listed(vec![Peer::Pods { namespaces: NamespaceScope::Own, pods: selector(pairs) }])
}

fn block(cidr: &str) -> Peers {
    Peers::Listed(vec![Peer::Block(Block { cidr: cidr.parse().unwrap(), except: Vec::new() })])
}

fn rules(rules: Vec<(Peers, Ports)>) -> Option<Vec<Rule>> {
    let rules = rules.into_iter().enumerate();
    Some(rules.map(|(index, (peers, ports))| Rule { index, peers, ports }).collect())
}

fn policy(
    name: &str,
    subject: &[(&str, &str)],
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
) -> Policy {
    let (key, subject) = (PolicyKey::new("shop", name), selector(subject));
    Policy {
        key,
        uid: None,
        version: Default::default(),
        subject,
        ingress,
        egress,
        invalid_parts: Vec::new(),
        audit: Default::default(),
    }
}

fn snapshot(pods: Vec<Pod>, policies: Vec<Policy>) -> Snapshot {
    let name = NamespaceName::new("shop");
    let namespace =
        Namespace { name: name.clone(), labels: Labels::of_unknown_namespace(&name), terminating: false };
    Snapshot {
        namespaces: [(name, namespace)].into(),
        pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
        policies: policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
        ..Snapshot::default()
    }
}

/// What is allowed from one pod of `shop` to another, by family.
fn between(reach: &Reach, from: &str, to: &str) -> [Option<String>; 2] {
    let class = |name: &str| reach.class_of(&PodKey::new("shop", name)).unwrap();
    let mut pairs = reach.pairs();
    let answer = pairs.between(class(from), class(to));
    Family::BOTH.map(|family| pairs.ports(answer, family).map(ToString::to_string))
}

fn both(text: &str) -> [Option<String>; 2] {
    [Some(text.to_owned()), Some(text.to_owned())]
}

#[test]
fn labels_that_no_selector_asks_for_keep_no_pods_apart() {
    let named =
        |name: &str| pod(name, "web", &[("app", "web"), ("statefulset.kubernetes.io/pod-name", name)], &[]);
    let pods_of_web = vec![named("web-0"), named("web-1"), named("web-2")];
    let isolated = policy("p", &[("app", "web")], rules(vec![(pods(&[("app", "web")]), tcp(80))]), None);
    let reach = Reach::new(&snapshot(pods_of_web.clone(), vec![isolated.clone()]));
    let classes: Vec<usize> = reach.classes().iter().map(|class| class.pods().len()).collect();
    assert_eq!(classes, [3, 0, 0, 0], "one of pods, that of any pod, and all addresses of both families");
    assert_eq!(between(&reach, "web-0", "web-1"), both("80/TCP"));
    let asks = policy("q", &[("statefulset.kubernetes.io/pod-name", "web-1")], rules(vec![]), None);
    let snapshot = snapshot(pods_of_web, vec![isolated, asks]);
    let ends: Vec<String> =
        Reach::new(&snapshot).ends(&snapshot).iter().map(|end| end.name.to_string()).collect();
    assert_eq!(
        ends,
        [
            "shop/statefulset/web (web-0, web-2)",
            "shop/statefulset/web (web-1)",
            "any IPv4 address outside",
            "any IPv6 address outside"
        ]
    );
}

#[test]
fn named_port_is_what_each_destination_declares() {
    let listening = |name: &str, port: u16| Pod {
        ports: vec![NamedPort { name: "http".into(), protocol: Protocol::Tcp, port }],
        ..pod(name, name, &[("app", "web")], &[])
    };
    let named = Ports::Listed(vec![PortMatch::Named(Protocol::Tcp, "http".into())]);
    let client = pod("client", "client", &[("app", "client")], &[]);
    let egress = policy("out", &[("app", "client")], None, rules(vec![(Peers::Anywhere, named.clone())]));
    let ingress = policy("in", &[("app", "web")], rules(vec![(Peers::Anywhere, named)]), None);
    let all = || vec![listening("a", 80), listening("b", 8080), client.clone()];
    for policies in [vec![egress.clone()], vec![ingress.clone()], vec![egress, ingress]] {
        let reach = Reach::new(&snapshot(all(), policies));
        assert_eq!(between(&reach, "client", "a"), both("80/TCP"));
        assert_eq!(between(&reach, "client", "b"), both("8080/TCP"));
    }
}

#[test]
fn connection_has_the_families_that_both_ends_have() {
    let dual = pod("dual", "dual", &[("app", "dual")], &["10.0.0.1", "fd00::1"]);
    let v4 = pod("four", "four", &[], &["10.0.0.2"]);
    let allow = policy("p", &[("app", "dual")], rules(vec![(block("10.0.0.0/8"), tcp(80))]), None);
    let other = pod("other", "other", &[], &["10.0.0.3", "fd00::3"]);
    let reach = Reach::new(&snapshot(vec![dual, v4, other], vec![allow]));
    assert_eq!(between(&reach, "four", "dual"), [Some("80/TCP".to_owned()), None]);
    assert_eq!(between(&reach, "other", "dual"), [Some("80/TCP".to_owned()), Some("none".to_owned())]);
}

#[test]
fn pod_of_unknown_address_is_in_no_block_but_one_of_all_addresses() {
    let closed = |peers| policy("p", &[("app", "db")], rules(vec![(peers, tcp(80))]), None);
    let all = || vec![pod("db", "db", &[("app", "db")], &[]), pod("web", "web", &[], &[])];
    for (cidr, expected) in [("10.0.0.0/8", ["none", "none"]), ("0.0.0.0/0", ["80/TCP", "none"])] {
        let reach = Reach::new(&snapshot(all(), vec![closed(block(cidr))]));
        assert_eq!(between(&reach, "web", "db"), expected.map(|text| Some(text.to_owned())), "{cidr}");
    }
}

#[test]
fn any_pod_may_what_every_pod_may() {
    let everywhere = NamespaceScope::Matching(Selector::everything());
    let any_pod = Peers::Listed(vec![Peer::Pods { namespaces: everywhere, pods: Selector::everything() }]);
    let ingress = rules(vec![(any_pod, tcp(53)), (pods(&[]), tcp(80)), (block("0.0.0.0/0"), tcp(443))]);
    let dns = pod("dns", "dns", &[], &["10.0.0.1", "fd00::1"]);
    let reach = Reach::new(&snapshot(vec![dns], vec![policy("p", &[], ingress, None)]));
    let mut pairs = reach.pairs();
    let answer = pairs.between(reach.any_pod(), reach.class_of(&PodKey::new("shop", "dns")).unwrap());
    let texts = Family::BOTH.map(|family| pairs.ports(answer, family).unwrap().to_string());
    assert_eq!(texts, ["53/TCP, 443/TCP", "53/TCP"]);
}

#[test]
fn reason_names_the_isolating_policies_and_the_rules_that_allow() {
    let web = pod("web", "web", &[("app", "web")], &[]);
    let db = pod("db", "db", &[("app", "db")], &[]);
    let ingress = rules(vec![(pods(&[("app", "api")]), tcp(1)), (pods(&[("app", "web")]), tcp(5432))]);
    let snapshot = snapshot(
        vec![web, db],
        vec![policy("db", &[("app", "db")], ingress, None), policy("shut", &[], rules(vec![]), None)],
    );
    let reach = Reach::new(&snapshot);
    let class = |name: &str| reach.class_of(&PodKey::new("shop", name)).unwrap();
    let reason = |direction| reach.reason(class("web"), class("db"), Family::V4, direction).unwrap();
    assert_eq!(reason(Direction::Egress), DirectionReason { isolating: vec![], allowing: vec![] });
    let found = reason(Direction::Ingress);
    assert_eq!(found.isolating, [PolicyKey::new("shop", "db"), PolicyKey::new("shop", "shut")]);
    let [rule] = &found.allowing[..] else { panic!("{found:?}") };
    assert_eq!(
        (rule.policy.to_string(), rule.rule, rule.ports.to_string()),
        ("shop/db".to_owned(), 1, "5432/TCP".to_owned())
    );
}

mod difference {
    use super::*;

    fn compare(old: &Snapshot, new: &Snapshot) -> Difference {
        let (before, after) = (Reach::new(old), Reach::new(new));
        Difference::between(
            ReachState { snapshot: old, reach: &before },
            ReachState { snapshot: new, reach: &after },
        )
    }

    fn lines(difference: &Difference) -> Vec<String> {
        let name = |place: usize| {
            let names: Vec<String> = difference.groups[place].ends.iter().map(ToString::to_string).collect();
            names.join(" + ")
        };
        let pairs = difference.pairs.iter().flat_map(|pair| {
            pair.families.iter().map(move |family| {
                let (from, to) = (name(pair.from), name(pair.to));
                format!("{} {from} -> {to}: +{} -{}", family.family, family.opened(), family.closed())
            })
        });
        pairs.collect()
    }

    #[test]
    fn equal_snapshots_differ_in_nothing() {
        let one = snapshot(
            vec![pod("a", "a", &[], &[]), pod("b", "b", &[], &["10.0.0.1"])],
            vec![policy("p", &[], rules(vec![]), None)],
        );
        assert!(compare(&one, &one).is_empty());
    }

    #[test]
    fn policy_that_isolates_closes_what_it_does_not_allow() {
        let pods_of_both =
            || vec![pod("db", "db", &[("app", "db")], &[]), pod("web", "web", &[("app", "web")], &[])];
        let isolated =
            policy("p", &[("app", "db")], rules(vec![(pods(&[("app", "web")]), Ports::All)]), None);
        let difference =
            compare(&snapshot(pods_of_both(), vec![]), &snapshot(pods_of_both(), vec![isolated]));
        let isolation: Vec<_> =
            difference.isolation.iter().map(|own| (own.direction, own.isolated)).collect();
        assert_eq!(isolation, [(Direction::Ingress, true)]);
        assert_eq!(
            lines(&difference),
            [
                "IPv4 shop/statefulset/db -> shop/statefulset/db: +none -all",
                "IPv6 shop/statefulset/db -> shop/statefulset/db: +none -all",
                "IPv4 any IPv4 address outside -> shop/statefulset/db: +none -all",
                "IPv6 any IPv6 address outside -> shop/statefulset/db: +none -all",
            ]
        );
    }

    #[test]
    fn addresses_are_divided_where_blocks_of_either_snapshot_begin_and_end() {
        let with = |cidr: &str| {
            let db = pod("db", "db", &[("app", "db")], &["10.0.0.1"]);
            snapshot(vec![db], vec![policy("p", &[("app", "db")], rules(vec![(block(cidr), tcp(80))]), None)])
        };
        let difference = compare(&with("192.0.2.0/24"), &with("192.0.2.128/25"));
        assert_eq!(lines(&difference), ["IPv4 192.0.2.0/25 -> shop/statefulset/db: +none -80/TCP"]);
    }

    #[test]
    fn pods_of_a_workload_that_are_treated_differently_are_compared_one_by_one() {
        let of_web =
            || vec![pod("web-0", "web", &[("n", "0")], &[]), pod("web-1", "web", &[("n", "1")], &[])];
        let shut = policy("p", &[("n", "1")], None, rules(vec![]));
        let difference = compare(&snapshot(of_web(), vec![]), &snapshot(of_web(), vec![shut]));
        let found = lines(&difference);
        assert_eq!(found.len(), 6, "{found:#?}");
        assert_eq!(found[0], "IPv4 shop/statefulset/web (web-1) -> shop/statefulset/web (web-0): +none -all");
        assert!(found.iter().all(|line| line.contains("web (web-1) -> ")), "{found:#?}");
    }

    #[test]
    fn workload_that_comes_opens_what_it_may_reach() {
        let web = pod("web", "web", &[], &["10.0.0.1"]);
        let shut = policy("p", &[], rules(vec![(pods(&[]), tcp(80))]), rules(vec![(pods(&[]), tcp(80))]));
        let db = pod("db", "db", &[], &["10.0.0.2"]);
        let before = snapshot(vec![web.clone()], vec![shut.clone()]);
        let difference = compare(&before, &snapshot(vec![web, db], vec![shut]));
        let came: Vec<String> = difference.came_and_went().map(|group| group.ends[0].to_string()).collect();
        assert_eq!(came, ["shop/statefulset/db"]);
        assert_eq!(lines(&difference).len(), 3, "{:#?}", lines(&difference));
    }

    #[test]
    fn families_say_nothing_where_addresses_are_not_known_on_one_side() {
        let with = |addresses: &[&str]| {
            snapshot(vec![pod("a", "a", &[], addresses), pod("b", "b", &[], addresses)], Vec::new())
        };
        assert!(compare(&with(&[]), &with(&["10.0.0.1"])).is_empty());
        assert!(!compare(&with(&["10.0.0.1", "fd00::1"]), &with(&["10.0.0.1"])).is_empty());
    }
}
