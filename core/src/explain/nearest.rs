//! Finds the rule that would have allowed a denied connection but for one difference.
//!
//! Comes in: the cluster, the policies that isolate a pod, and a packet that none of them allows. Goes out: the rule
//! that differs in one thing only, and the difference in words. It decides nothing: the kernel has already denied the
//! packet.

mod peer;
mod port;

use crate::model::{Cluster, Direction, Policy, PolicyKey, Rule};
use crate::net::Flow;

/// The one thing in which a rule differs from a connection. The order is that of likelihood: the likelier mistake comes
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Differs {
    /// The port.
    Port,
    /// The protocol.
    Protocol,
    /// A label of the peer.
    PodLabel,
    /// A label of the peer's namespace.
    NamespaceLabel,
    /// The peer's namespace, where no namespaceSelector is given.
    Namespace,
    /// An exception of a block.
    Except,
    /// The peer's address, which no block contains.
    Address,
}

impl Differs {
    /// A short, fixed word.
    pub fn word(self) -> &'static str {
        match self {
            Differs::Port => "port",
            Differs::Protocol => "protocol",
            Differs::PodLabel => "pod-label",
            Differs::NamespaceLabel => "namespace-label",
            Differs::Namespace => "namespace",
            Differs::Except => "except",
            Differs::Address => "address",
        }
    }
}

/// A rule that would have allowed a connection but for one difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestRule {
    /// Its policy.
    pub policy: PolicyKey,
    /// Its index in the policy's list, from 0.
    pub rule: usize,
    /// The difference.
    pub differs: Differs,
    /// The difference in words, as the continuation of the rule's name.
    pub note: String,
}

/// How a peer or the ports of a rule differ from a connection, as the continuation of "would allow it except for".
struct Miss {
    differs: Differs,
    note: String,
}

/// Whether a part of a rule matches a connection, and if not, the difference if there is only one.
enum Fit {
    Takes,
    Misses(Miss),
    IsFar,
}

/// The rule of these policies that would have allowed a connection which they deny in this direction, except for one
/// difference. `None` if each rule differs by more, or there are no rules.
pub fn nearest(
    cluster: &Cluster,
    policies: &[PolicyKey],
    direction: Direction,
    denied: &Flow,
) -> Option<NearestRule> {
    let policies = policies.iter().filter_map(|key| cluster.policy(key));
    let rules = policies
        .flat_map(|policy| policy.rules(direction).into_iter().flatten().map(move |rule| (policy, rule)));
    let missing = rules.filter_map(|(policy, rule)| miss(cluster, policy, rule, direction, denied));
    missing.min_by(|one, other| one.differs.cmp(&other.differs))
}

fn miss(
    cluster: &Cluster,
    policy: &Policy,
    rule: &Rule,
    direction: Direction,
    denied: &Flow,
) -> Option<NearestRule> {
    let peer = direction.peer_end(denied);
    let miss = match (peer::fit(cluster, policy, &rule.peers, peer), port::fit(cluster, &rule.ports, denied))
    {
        (Fit::Takes, Fit::Misses(miss)) | (Fit::Misses(miss), Fit::Takes) => miss,
        (Fit::Takes, Fit::Takes | Fit::IsFar)
        | (Fit::Misses(_), Fit::Misses(_) | Fit::IsFar)
        | (Fit::IsFar, Fit::Takes | Fit::Misses(_) | Fit::IsFar) => return None,
    };
    let note = format!("would allow it except for {}", miss.note);
    Some(NearestRule { policy: policy.key.clone(), rule: rule.index, differs: miss.differs, note })
}

/// The first few of a list of words, for a sentence.
fn few<T: ToString>(words: impl Iterator<Item = T>) -> String {
    const FEW: usize = 5;
    let mut all: Vec<String> = words.map(|word| word.to_string()).collect();
    let more = all.len().saturating_sub(FEW);
    all.truncate(FEW);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Block, Change, Demand, Labels, NamedPort, Namespace, NamespaceName, NamespaceScope, Peer, Peers, Pod,
        PodKey, PortMatch, Ports, Requirement, Selector,
    };
    use crate::net::{PortRange, Protocol};
    use std::collections::BTreeSet;

    const WEB: [u8; 4] = [10, 244, 1, 10];
    const CLIENT: [u8; 4] = [10, 244, 1, 11];
    const STRANGER: [u8; 4] = [192, 0, 2, 1];

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    fn selector(pairs: &[(&str, &str)]) -> Selector {
        Selector::new(pairs.iter().map(|(key, value)| Requirement {
            key: (*key).into(),
            demand: Demand::In(BTreeSet::from([Box::from(*value)])),
        }))
    }

    fn pods(namespaces: NamespaceScope, pairs: &[(&str, &str)]) -> Peers {
        Peers::Listed(vec![Peer::Pods { namespaces, pods: selector(pairs) }])
    }

    fn block(cidr: &str, except: &[&str]) -> Peers {
        let except = except.iter().map(|except| except.parse().unwrap()).collect();
        Peers::Listed(vec![Peer::Block(Block { cidr: cidr.parse().unwrap(), except })])
    }

    fn tcp(port: u16) -> PortMatch {
        PortMatch::Numbered(Protocol::Tcp, PortRange::single(port).unwrap())
    }

    /// The nearest rule for `other/client` with app=client, in a namespace with team=b, which `shop/web` denies on
    /// 8080/TCP.
    fn nearest_of(rules: Vec<(Peers, Ports)>, source: [u8; 4]) -> Option<(usize, Differs, String)> {
        let mut cluster = Cluster::new("node-a");
        let pod = |key: PodKey, address: [u8; 4], app: &str, port: u16| {
            Change::Pod(Pod {
                node: Some("node-a".into()),
                labels: labels(&[("app", app)]),
                ports: vec![NamedPort { name: "http".into(), protocol: Protocol::Tcp, port }],
                addresses: vec![address.into()],
                ..Pod::new(key)
            })
        };
        let rule = |(index, (peers, ports))| Rule { index, peers, ports };
        let policy = Policy {
            key: PolicyKey::new("shop", "web"),
            uid: None,
            version: Default::default(),
            subject: Selector::everything(),
            ingress: Some(rules.into_iter().enumerate().map(rule).collect()),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        };
        let name = NamespaceName::new("other");
        let team = labels(&[("team", "b")]);
        cluster.apply(Change::Namespace(Namespace { name, labels: team, terminating: false }));
        cluster.apply(pod(PodKey::new("shop", "web"), WEB, "web", 80));
        cluster.apply(pod(PodKey::new("other", "client"), CLIENT, "client", 9000));
        cluster.apply(Change::Policy(policy));
        let (source, destination) = (source.into(), WEB.into());
        let port = Some((Protocol::Tcp, 8080));
        let denied = Flow { source, destination, port };
        let policies = [PolicyKey::new("shop", "web")];
        let nearest = nearest(&cluster, &policies, Direction::Ingress, &denied)?;
        Some((nearest.rule, nearest.differs, nearest.note))
    }

    fn differs(peers: Peers, ports: Ports, source: [u8; 4], wanted: Differs, note: &str) {
        let (rule, differs, words) = nearest_of(vec![(peers, ports)], source).expect("it is one thing");
        assert_eq!((rule, differs, words), (0, wanted, format!("would allow it except for {note}")));
    }

    fn anywhere() -> NamespaceScope {
        NamespaceScope::Matching(Selector::everything())
    }

    #[test]
    fn rule_that_misses_by_its_ports_says_which_it_allows() {
        let listed = |ports: &[PortMatch]| Ports::Listed(ports.to_vec());
        let named = PortMatch::Named(Protocol::Tcp, "http".into());
        let range = PortMatch::Numbered(Protocol::Tcp, PortRange::new(1, 9).unwrap());
        let cases = [
            (vec![tcp(80)], Differs::Port, "the port: 80/TCP, not 8080/TCP"),
            (vec![named], Differs::Port, "the port: http (80/TCP there), not 8080/TCP"),
            (vec![tcp(443), range], Differs::Port, "the port: 443/TCP, 1-9/TCP, not 8080/TCP"),
            (
                vec![PortMatch::Protocol(Protocol::Udp)],
                Differs::Protocol,
                "the protocol: any UDP, not 8080/TCP",
            ),
        ];
        for (ports, wanted, note) in cases {
            differs(Peers::Anywhere, listed(&ports), STRANGER, wanted, note);
        }
        let many: Vec<PortMatch> = (1..8).map(tcp).collect();
        let note = "the port: 1/TCP, 2/TCP, 3/TCP, 4/TCP, 5/TCP and 2 more, not 8080/TCP";
        differs(Peers::Anywhere, listed(&many), STRANGER, Differs::Port, note);
    }

    #[test]
    fn rule_that_misses_by_a_label_says_which_and_what_is_there_instead() {
        let note = "a label: pods with app=web, and other/client has app=client";
        differs(pods(anywhere(), &[("app", "web")]), Ports::All, CLIENT, Differs::PodLabel, note);
        let note = "a label: pods with tier=a, and other/client has no label tier";
        differs(
            pods(anywhere(), &[("app", "client"), ("tier", "a")]),
            Ports::All,
            CLIENT,
            Differs::PodLabel,
            note,
        );
        let scope = NamespaceScope::Matching(selector(&[("team", "a")]));
        let note = "a label of the namespace: namespaces with team=a, and other has team=b";
        differs(pods(scope, &[("app", "client")]), Ports::All, CLIENT, Differs::NamespaceLabel, note);
        let note = "the namespace: without a namespaceSelector the peer selects only pods of shop, and other/client is not one";
        differs(
            pods(NamespaceScope::Own, &[("app", "client")]),
            Ports::All,
            CLIENT,
            Differs::Namespace,
            note,
        );
    }

    #[test]
    fn block_that_misses_says_by_what() {
        let note = "an exception: 192.0.0.0/16 except 192.0.2.0/24, which holds 192.0.2.1";
        differs(block("192.0.0.0/16", &["192.0.2.0/24"]), Ports::All, STRANGER, Differs::Except, note);
        let note = "the address: 10.0.0.0/8 does not contain 192.0.2.1";
        differs(block("10.0.0.0/8", &[]), Ports::All, STRANGER, Differs::Address, note);
        assert_eq!(
            nearest_of(vec![(block("fd00::/8", &[]), Ports::All)], STRANGER),
            None,
            "the other family"
        );
    }

    #[test]
    fn rule_that_misses_by_two_things_is_not_near() {
        let scope = || NamespaceScope::Matching(selector(&[("team", "a")]));
        for (peers, ports) in [
            (pods(anywhere(), &[("app", "web")]), Ports::Listed(vec![tcp(80)])),
            (pods(anywhere(), &[("app", "web"), ("tier", "a")]), Ports::All),
            (pods(scope(), &[("app", "web")]), Ports::All),
            (pods(NamespaceScope::Own, &[("app", "web")]), Ports::All),
            (Peers::Listed(Vec::new()), Ports::All),
            (Peers::Anywhere, Ports::Listed(Vec::new())),
        ] {
            assert_eq!(nearest_of(vec![(peers.clone(), ports)], CLIENT), None, "{peers:?}");
        }
        assert_eq!(nearest_of(vec![(pods(anywhere(), &[]), Ports::All)], STRANGER), None, "no pod's address");
        assert_eq!(nearest_of(Vec::new(), CLIENT), None);
    }

    #[test]
    fn of_several_rules_the_likeliest_mistake_is_reported() {
        let by_address = (block("10.0.0.0/16", &[]), Ports::All);
        let by_label = (pods(anywhere(), &[("app", "web")]), Ports::All);
        let by_port = (Peers::Anywhere, Ports::Listed(vec![tcp(80)]));
        let found = |rules| nearest_of(rules, CLIENT).map(|(rule, differs, _)| (rule, differs));
        let two = vec![by_address.clone(), by_label.clone()];
        assert_eq!(found(two), Some((1, Differs::PodLabel)));
        assert_eq!(found(vec![by_address, by_label, by_port.clone(), by_port]), Some((2, Differs::Port)));
    }
}
