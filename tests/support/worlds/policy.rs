//! Random policies: every feature of the API, and every invalid form of its parts.

use super::Random;
use super::cluster::{NAMESPACE_LABELS, NAMESPACES, POD_LABELS};
use bridgewarden::api::{
    IntOrString, IpBlock, LabelSelector, LabelSelectorRequirement, NetworkPolicy, NetworkPolicyEgressRule,
    NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec, ObjectMeta,
    UnknownFields,
};
use bridgewarden::explain::oracle::World;
use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer};

/// The percentage of invalid parts.
const INVALID: usize = 4;

/// Together with the namespaces' names, these collide when joined without a separator: `team` + `a-p`, `tea` + `ma-p`.
const NAMES: [&str; 6] = ["a-p", "ma-p", "ama-p", "p", "q", "r"];

/// Prefixes over pods, nodes and outside hosts, of which many overlap.
const CIDRS: [&str; 24] = [
    "0.0.0.0/0",
    "128.0.0.0/1",
    "10.0.0.0/8",
    "10.244.0.0/16",
    "10.244.1.0/24",
    "10.244.2.0/24",
    "10.244.1.77/24",
    "10.244.1.8/29",
    "10.244.2.13/32",
    "10.244.1.10/32",
    "192.168.100.0/24",
    "192.168.100.2/32",
    "203.0.113.0/24",
    "203.0.113.0/25",
    "203.0.113.10/32",
    "::/0",
    "8000::/1",
    "fd00::/8",
    "fd00:10:244::/48",
    "fd00:10:244:1::/64",
    "fd00:10:244:2::/64",
    "fd00:10:244:1::10/128",
    "2001:db8:ffff::/64",
    "2001:db8:ffff::/121",
];

const INVALID_CIDRS: [&str; 6] = ["", "10.244.1.10", "10.244.0.0/33", "10.244/16", "::/129", "everywhere"];

/// A policy in one of the world's namespaces, with a name that is free there.
pub(super) fn policy(random: &mut Random, world: &World) -> NetworkPolicy {
    let namespace = random.pick(&world.namespaces).metadata.name.clone();
    let taken = |name: &str| {
        let mut policies = world.policies.iter().map(|policy| &policy.metadata);
        policies.any(|metadata| metadata.namespace.as_deref() == Some(&namespace) && metadata.name == name)
    };
    let base = random.pick(&NAMES).to_string();
    let mut name = base.clone();
    for number in 1.. {
        if !taken(&name) {
            break;
        }
        name = format!("{base}-{number}");
    }
    let metadata = ObjectMeta { name, namespace: Some(namespace), ..ObjectMeta::default() };
    NetworkPolicy { metadata, spec: spec(random) }
}

/// A random spec of a policy.
pub(super) fn spec(random: &mut Random) -> NetworkPolicySpec {
    let pod_selector =
        if random.chance(25) { LabelSelector::default() } else { selector(random, &POD_LABELS) };
    let ingress = list(random, &[15, 15, 45, 20, 5], |random| NetworkPolicyIngressRule {
        from: list(random, &[15, 5, 45, 25, 10], peer),
        ports: ports(random),
        unknown: unknown(random),
    });
    let egress = list(random, &[30, 10, 40, 15, 5], |random| NetworkPolicyEgressRule {
        to: list(random, &[15, 5, 45, 25, 10], peer),
        ports: ports(random),
        unknown: unknown(random),
    });
    let types: &[&[&str]] = &[&[], &["Ingress"], &["Egress"], &["Ingress", "Egress"], &["Egress", "Ingress"]];
    let policy_types = if random.chance(INVALID) {
        Some(vec![random.pick(&["ingress", "Both", ""]).to_string()])
    } else {
        let types = random.pick(types);
        (!types.is_empty() || random.chance(30)).then(|| types.iter().map(|kind| kind.to_string()).collect())
    };
    NetworkPolicySpec { pod_selector, ingress, egress, policy_types, unknown: unknown(random) }
}

/// A list that is absent, empty, or has 1, 2 or 3 items, by these percentages.
fn list<T>(
    random: &mut Random,
    percent: &[usize; 5],
    mut item: impl FnMut(&mut Random) -> T,
) -> Option<Vec<T>> {
    let mut luck = random.below(100);
    let kind = percent.iter().position(|percent| match luck.checked_sub(*percent) {
        Some(rest) => {
            luck = rest;
            false
        }
        None => true,
    });
    let length = kind.unwrap_or(0).checked_sub(1)?;
    Some((0..length).map(|_| item(random)).collect())
}

fn peer(random: &mut Random) -> NetworkPolicyPeer {
    let mut peer = NetworkPolicyPeer { unknown: unknown(random), ..NetworkPolicyPeer::default() };
    let kinds = if random.chance(2 * INVALID) { 6 } else { 4 };
    match random.below(kinds) {
        0 => peer.pod_selector = Some(selector(random, &POD_LABELS)),
        1 => peer.namespace_selector = Some(namespace_selector(random)),
        2 => {
            peer.pod_selector = Some(selector(random, &POD_LABELS));
            peer.namespace_selector = Some(namespace_selector(random));
        }
        3 => peer.ip_block = Some(ip_block(random)),
        4 => {
            peer.ip_block = Some(ip_block(random));
            peer.pod_selector = Some(LabelSelector::default());
        }
        _ => {}
    }
    peer
}

fn namespace_selector(random: &mut Random) -> LabelSelector {
    if random.chance(25) {
        let name = random.pick(&NAMESPACES).to_string();
        let match_labels = Some([("kubernetes.io/metadata.name".to_string(), name)].into());
        return LabelSelector { match_labels, ..LabelSelector::default() };
    }
    selector(random, &NAMESPACE_LABELS)
}

fn selector(random: &mut Random, alphabet: &[(&str, &[&str])]) -> LabelSelector {
    let mut selector = LabelSelector { unknown: unknown(random), ..LabelSelector::default() };
    if random.chance(12) {
        return selector;
    }
    if random.chance(60) {
        let (key, values) = random.pick(alphabet);
        selector.match_labels = Some([(key.to_string(), random.pick(values).to_string())].into());
        if random.chance(INVALID) {
            selector.match_labels = Some([(key.to_string(), "two words".to_string())].into());
        }
    }
    if selector.match_labels.is_none() || random.chance(25) {
        let count = 1 + random.below(2);
        selector.match_expressions = Some((0..count).map(|_| requirement(random, alphabet)).collect());
    }
    selector
}

fn requirement(random: &mut Random, alphabet: &[(&str, &[&str])]) -> LabelSelectorRequirement {
    let (key, values) = random.pick(alphabet);
    let operator = *random.pick(&["In", "NotIn", "Exists", "DoesNotExist"]);
    let mut values: Vec<String> =
        random.some(values, 60).into_iter().map(|value| value.to_string()).collect();
    if operator.ends_with("In") {
        if values.is_empty() && !random.chance(INVALID) {
            values.push("web".to_string());
        }
    } else if !random.chance(INVALID) {
        values.clear();
    }
    let mut key = key.to_string();
    if random.chance(INVALID) {
        key = random.pick(&["", "-app", "a/b/c", "app\n"]).to_string();
    } else if random.chance(INVALID) && operator.ends_with("In") {
        values.push(random.pick(&["two words", "\"quoted\"", "-web"]).to_string());
    }
    let operator = if random.chance(INVALID) { "Equals" } else { operator };
    let values = (!values.is_empty() || random.chance(30)).then_some(values);
    LabelSelectorRequirement { key, operator: operator.to_string(), values, unknown: unknown(random) }
}

fn ip_block(random: &mut Random) -> IpBlock {
    if random.chance(INVALID) {
        return IpBlock { cidr: random.pick(&INVALID_CIDRS).to_string(), ..IpBlock::default() };
    }
    let cidr = *random.pick(&CIDRS);
    let inside: Vec<&str> = CIDRS.into_iter().filter(|inner| lies_strictly_inside(inner, cidr)).collect();
    let mut except: Vec<String> = Vec::new();
    if !inside.is_empty() && random.chance(50) {
        except.extend((0..=random.below(2)).map(|_| random.pick(&inside).to_string()));
    }
    if random.chance(INVALID) {
        // Of the other family, outside, the same, or no prefix at all.
        except.push(random.pick(&["fd00::/48", "198.51.100.0/24", cidr, "10.244.1.10"]).to_string());
    }
    IpBlock {
        cidr: cidr.to_string(),
        except: (!except.is_empty() || random.chance(20)).then_some(except),
        unknown: unknown(random),
    }
}

/// Whether an `except` may name `inner` in a block of `outer`.
fn lies_strictly_inside(inner: &str, outer: &str) -> bool {
    let parse = |text: &str| text.parse::<bridgewarden::net::IpNet>().map(|net| net.trunc());
    matches!((parse(inner), parse(outer)), (Ok(inner), Ok(outer)) if inner != outer && outer.contains(&inner))
}

fn ports(random: &mut Random) -> Option<Vec<NetworkPolicyPort>> {
    if random.chance(4) {
        // More than the fifteen that one multiport match takes.
        let numbers = (0..20).map(|number| IntOrString::Int(9081 + number));
        return Some(numbers.map(|port| NetworkPolicyPort { port: Some(port), ..absent() }).collect());
    }
    list(random, &[25, 5, 40, 20, 10], port)
}

fn port(random: &mut Random) -> NetworkPolicyPort {
    let mut port = NetworkPolicyPort { unknown: unknown(random), ..absent() };
    port.protocol = random.pick(&[None, None, Some("TCP"), Some("UDP"), Some("SCTP")]).map(str::to_string);
    let number = |random: &mut Random| *random.pick(&[80, 443, 8080, 9090, 53, 5353, 3868]);
    match random.below(10) {
        0 => {}
        1..=4 => port.port = Some(IntOrString::Int(number(random))),
        5..=7 => {
            let name = random.pick(&["web", "web", "dns", "dns", "metrics", "signal", "nowhere"]);
            port.port = Some(IntOrString::String(name.to_string()));
        }
        _ => {
            let (first, last) =
                *random.pick(&[(1, 65535), (80, 443), (81, 8080), (53, 53), (443, 9090), (5353, 65535)]);
            port.port = Some(IntOrString::Int(first));
            port.end_port = Some(last);
        }
    }
    if random.chance(2 * INVALID) {
        spoil(random, &mut port);
    }
    port
}

/// Makes one thing about the port wrong.
fn spoil(random: &mut Random, port: &mut NetworkPolicyPort) {
    match random.below(10) {
        0 => (port.port, port.end_port) = (Some(IntOrString::Int(0)), Some(9090)),
        1 => port.port = Some(IntOrString::Int(70_000)),
        2 => port.port = Some(IntOrString::Int(-80)),
        3 => (port.port, port.end_port) = (Some(IntOrString::Int(443)), Some(80)),
        4 => (port.port, port.end_port) = (Some(IntOrString::Int(80)), Some(70_000)),
        5 => (port.port, port.end_port) = (None, Some(9090)),
        6 => (port.port, port.end_port) = (Some(IntOrString::String("web".to_string())), Some(9090)),
        _ => port.protocol = Some(random.pick(&["tcp", "ICMP", ""]).to_string()),
    }
}

fn absent() -> NetworkPolicyPort {
    NetworkPolicyPort::default()
}

/// Rarely, a key that the API does not have.
fn unknown(random: &mut Random) -> UnknownFields {
    if !random.chance(1) {
        return UnknownFields::default();
    }
    let keys = MapDeserializer::<_, Error>::new([("fromTheFuture", true)].into_iter());
    UnknownFields::deserialize(keys).expect("a map of one key is a map of keys")
}
