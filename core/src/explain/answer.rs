//! The answer to a question: a case for each class of ends that policies can distinguish.

use super::case::{Case, CaseAnswer, CaseEnd};
use super::classes::{classes, keep_families, others, two_ends};
use super::ends::CaseMembers;
use super::lookup::{FoundName, Lookup, LookupError};
use super::question::{DestinationName, EndName};
use super::snapshot_judge::SnapshotJudge;
use crate::model::{NamespaceName, Service};
use crate::net::{Family, IpNet, Verdict};

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'s> {
    /// Its cases, never empty.
    pub cases: Vec<AnsweredCase<'s>>,
    /// What should be known about the question.
    pub notes: Vec<String>,
}

/// One case of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredCase<'s> {
    /// The outcome for one connection of this case.
    pub answer: CaseAnswer<'s>,
    /// The families with this outcome.
    pub families: Vec<Family>,
    /// The same connection in the other ones of these families.
    pub in_other_families: Vec<Case>,
    /// The sources of which the same holds.
    pub sources: CaseMembers,
    /// The destinations of which the same holds.
    pub destinations: CaseMembers,
}

impl Answer<'_> {
    /// Allowed if every case is; then an asked port is open between all ends.
    pub fn verdict(&self) -> Verdict {
        let allowed = self.cases.iter().all(|case| case.answer.verdict() == Verdict::Allowed);
        if allowed { Verdict::Allowed } else { Verdict::Denied }
    }

    /// Whether some cases are allowed and others denied.
    pub fn is_mixed(&self) -> bool {
        let mut verdicts = self.cases.iter().map(|case| case.answer.verdict());
        let first = verdicts.next();
        verdicts.any(|verdict| Some(verdict) != first)
    }
}

/// Answers a question. `namespace` is that of names without one.
///
/// # Errors
/// A name that is not in this cluster, or a port that the destination does not have.
pub fn ask<'s>(
    judge: &SnapshotJudge<'s>,
    namespace: &NamespaceName,
    source: &EndName,
    destination: &DestinationName,
) -> Result<Answer<'s>, LookupError> {
    let lookup = Lookup { snapshot: judge.snapshot(), namespace };
    let (from, mut to) = (lookup.end(source)?, lookup.end(&destination.end)?);
    let behind = lookup.behind_node_port(&to, destination);
    if let Some((service, _)) = behind {
        to = FoundName::Service(service, lookup.pods_of_service(service));
    }
    let through_node = behind.is_some();
    let destination = behind.as_ref().map_or(destination, |(_, port)| port);
    let mut sources = classes(judge, &lookup, &from, &to, None)?;
    let mut destinations = classes(judge, &lookup, &to, &from, Some(destination))?;
    keep_families(&mut sources, source, &from);
    keep_families(&mut destinations, &destination.end, &to);
    let are_workloads = matches!(from, FoundName::Workload(_))
        && matches!(to, FoundName::Workload(_) | FoundName::Service(..));
    let mut cases: Vec<AnsweredCase<'s>> = Vec::new();
    let pairs = || {
        sources.iter().flat_map(|source| destinations.iter().map(move |destination| (source, destination)))
    };
    let is_one_pod = |(one, other): (&CaseEnd, &CaseEnd)| one == other && matches!(one, CaseEnd::Pod { .. });
    // Of several pods, a question is about two.
    let has_two = pairs().any(|(source, destination)| {
        let mut ends = source.ends.keys().filter_map(|family| two_ends(source, destination, *family));
        ends.any(|ends| !is_one_pod(ends))
    });
    for (source, destination) in pairs() {
        for family in source.ends.keys() {
            let Some((one, other)) = two_ends(source, destination, *family) else { continue };
            if has_two && is_one_pod((one, other)) {
                continue;
            }
            let case = Case {
                source: one.clone(),
                destination: other.clone(),
                family: *family,
                port: destination.port,
                replicas: are_workloads,
            };
            let answer = judge.judge(&case);
            let (sources, destinations) = others(&source.members, &destination.members);
            let same = cases.iter_mut().find(|case| {
                (&case.sources, &case.destinations) == (&sources, &destinations)
                    && case.answer.case.port == answer.case.port
                    && says_the_same(&case.answer, &answer)
            });
            match same {
                Some(same) => {
                    same.families.push(*family);
                    same.in_other_families.push(case);
                }
                None => cases.push(AnsweredCase {
                    answer,
                    families: vec![*family],
                    in_other_families: Vec::new(),
                    sources,
                    destinations,
                }),
            }
        }
    }
    if cases.is_empty() {
        let (source_end, destination) = (source.to_string(), destination.end.to_string());
        return Err(LookupError::NoFamily { source_end, destination });
    }
    let cases = join_blocks(cases);
    Ok(Answer { notes: notes(judge, &from, &to, destination, through_node), cases })
}

/// Whether two families are treated alike by the same rules: what the rules miss by may name other addresses.
fn says_the_same(one: &CaseAnswer<'_>, other: &CaseAnswer<'_>) -> bool {
    (&one.allowed, one.to_itself) == (&other.allowed, other.to_itself) && rules(one) == rules(other)
}

/// Joins the parts of a prefix of which the same rules hold: what they miss by may name other addresses.
fn join_blocks(cases: Vec<AnsweredCase<'_>>) -> Vec<AnsweredCase<'_>> {
    let mut joined: Vec<AnsweredCase<'_>> = Vec::new();
    for case in cases {
        let same = joined.iter_mut().find(|other| {
            other.families == case.families
                && other.answer.allowed == case.answer.allowed
                && rules(&other.answer) == rules(&case.answer)
                && can_join(&other.sources, &case.sources)
                && can_join(&other.destinations, &case.destinations)
        });
        match same {
            Some(other) => {
                join(&mut other.sources, case.sources);
                join(&mut other.destinations, case.destinations);
            }
            None => joined.push(case),
        }
    }
    joined
}

/// Which parts of the rules match, rule by rule.
fn rules(answer: &CaseAnswer<'_>) -> Vec<(bool, bool)> {
    let policies = answer.sides.iter().flat_map(|side| side.policies.iter().chain(&side.audited));
    let rules = policies.flat_map(|policy| &policy.rules);
    rules.map(|rule| (rule.peer_matches(), rule.port_matches())).collect()
}

fn can_join(one: &CaseMembers, other: &CaseMembers) -> bool {
    one == other || matches!((one, other), (CaseMembers::Blocks(_), CaseMembers::Blocks(_)))
}

fn join(into: &mut CaseMembers, from: CaseMembers) {
    if let (CaseMembers::Blocks(into), CaseMembers::Blocks(from)) = (into, from) {
        into.extend(from);
        *into = IpNet::aggregate(into);
    }
}

/// What should be known about an end.
fn notes(
    judge: &SnapshotJudge<'_>,
    from: &FoundName<'_>,
    to: &FoundName<'_>,
    destination: &DestinationName,
    through_node: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    if let (true, FoundName::Service(service, _)) = (through_node, to) {
        notes.push(format!(
            "this port of a node leads to Service {}: the answer is about its pods",
            service.key
        ));
    }
    if let (FoundName::Workload(sources), FoundName::Workload(pods) | FoundName::Service(_, pods)) =
        (from, to)
        && let ([one], [other]) = (&sources[..], &pods[..])
        && one.key == other.key
    {
        notes.push(format!("{} stands for two pods of its workload at the two ends", one.key));
    }
    for found in [from, to] {
        if let FoundName::Block(prefix) = found {
            let inside = judge
                .snapshot()
                .pods
                .values()
                .filter(|pod| pod.addresses.iter().any(|address| prefix.contains(address)));
            let count = inside.count();
            if count > 0 {
                notes.push(format!(
                    "{count} pods have addresses in {prefix}: the answer is about the other addresses, so ask about these pods \
                     by name"
                ));
            }
        }
    }
    let from_outside = matches!(from, FoundName::Address(_) | FoundName::Block(_));
    if let FoundName::Service(service, _) = to
        && service.translates_source
        && (from_outside || through_node || is_outer(service, destination))
    {
        notes.push(format!(
            "a node may put its own address in place of the source of a connection from outside to Service {}, unless the Service's \
             externalTrafficPolicy is Local. Ask with a node as the source, too",
            service.key
        ));
    }
    notes
}

/// Whether a question names a Service by an address that it has outside the cluster.
fn is_outer(service: &Service, destination: &DestinationName) -> bool {
    matches!(&destination.end, EndName::Address(address) if service.outer_addresses.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Block, Demand, Labels, NamedPort, Owner, Peer, Peers, Pod, PodKey, Policy, PolicyKey, PortMatch,
        Ports, Requirement, Rule, Selector, Service, ServiceKey, ServicePort, Snapshot, TargetPort,
    };
    use crate::net::Protocol;
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;
    use std::sync::Arc;

    fn pod(name: &str, app: &str, address: Option<&str>, port: u16) -> Pod {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let owner = Owner { kind: "StatefulSet".into(), name: app.into() };
        Pod {
            node: Some("node-a".into()),
            owner: Some(Arc::new(owner)),
            labels: Labels::new(&labels),
            ports: vec![NamedPort { name: "pg".into(), protocol: Protocol::Tcp, port }],
            addresses: address.into_iter().map(|text| text.parse().unwrap()).collect(),
            ..Pod::new(PodKey::new("shop", name))
        }
    }

    fn block(cidr: &str, except: &[&str]) -> Peer {
        let except = except.iter().map(|text| text.parse().unwrap()).collect();
        Peer::Block(Block { cidr: cidr.parse().unwrap(), except })
    }

    /// Two pods of `db`, one of `web`, and a policy that lets these peers reach `db` on its port `pg`.
    fn cluster(peers: Vec<Peer>, addresses: [Option<&str>; 3]) -> Snapshot {
        let app = Requirement { key: "app".into(), demand: Demand::In(BTreeSet::from(["db".into()])) };
        let ports = Ports::Listed(vec![PortMatch::Named(Protocol::Tcp, "pg".into())]);
        let policy = Policy {
            key: PolicyKey::new("shop", "db"),
            uid: None,
            version: Default::default(),
            subject: Selector::new([app]),
            ingress: Some(vec![Rule { index: 0, peers: Peers::Listed(peers), ports }]),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        };
        let selector = BTreeMap::from([("app".to_owned(), "db".to_owned())]);
        let port = |name: &str, port, target| ServicePort {
            name: name.into(),
            protocol: Protocol::Tcp,
            port,
            target,
            node_port: None,
        };
        let service = Service {
            key: ServiceKey::new("shop", "db"),
            selector: Some(Labels::new(&selector)),
            ports: vec![
                port("main", 5432, TargetPort::Name("pg".into())),
                port("other", 80, TargetPort::Number(81)),
            ],
            addresses: vec!["10.96.0.7".parse().unwrap()],
            outer_addresses: Vec::new(),
            translates_source: true,
        };
        let [web, db_0, db_1] = addresses;
        let mut snapshot = Snapshot::default();
        for pod in [pod("web-0", "web", web, 1), pod("db-0", "db", db_0, 5432), pod("db-1", "db", db_1, 6432)]
        {
            snapshot.pods.insert(pod.key.clone(), pod);
        }
        snapshot.nodes.insert("node-a".into(), vec!["192.0.2.1".parse().unwrap()]);
        snapshot.services.insert(service.key.clone(), service);
        snapshot.policies.insert(policy.key.clone(), policy);
        snapshot
    }

    const ADDRESSES: [Option<&str>; 3] = [Some("10.244.1.1"), Some("10.244.1.2"), Some("10.244.1.3")];

    fn asked(snapshot: &Snapshot, source: &str, destination: &str) -> Result<Vec<String>, LookupError> {
        let judge = SnapshotJudge::new(snapshot);
        let namespace = NamespaceName::new("shop");
        let answer = ask(&judge, &namespace, &source.parse().unwrap(), &destination.parse().unwrap())?;
        let members = |members: &CaseMembers| match members {
            CaseMembers::Pods(pods) => pods.iter().map(|key| key.name.to_string()).collect(),
            CaseMembers::Itself => vec!["itself".to_owned()],
            CaseMembers::Blocks(prefixes) => prefixes.iter().map(ToString::to_string).collect(),
        };
        let line = |case: &AnsweredCase<'_>| {
            let (from, to) = (members(&case.sources).join("+"), members(&case.destinations).join("+"));
            format!("{from} {to} {}", case.answer.allowed)
        };
        let mut lines: Vec<String> = answer.cases.iter().map(line).collect();
        lines.sort();
        Ok(lines)
    }

    fn all_pods() -> Peer {
        Peer::Pods { namespaces: crate::model::NamespaceScope::Own, pods: Selector::everything() }
    }

    #[test]
    fn pods_that_policies_distinguish_are_cases_of_their_own() {
        let snapshot = cluster(vec![all_pods()], ADDRESSES);
        let lines = asked(&snapshot, "web-0", "shop/sts/db").unwrap();
        assert_eq!(lines, ["web-0 db-0 5432/TCP", "web-0 db-1 6432/TCP"], "their port has other numbers");
        assert_eq!(
            asked(&snapshot, "web-0", "sts/db:5432").unwrap(),
            ["web-0 db-0 5432/TCP", "web-0 db-1 none"]
        );
        assert_eq!(asked(&snapshot, "sts/db", "web-0:1").unwrap(), ["db-0 web-0 1/TCP", "db-1 web-0 1/TCP"]);
        let by_address = cluster(vec![block("10.244.1.1/32", &[])], ADDRESSES);
        assert_eq!(asked(&by_address, "10.244.1.1", "db-0:pg").unwrap(), ["itself db-0 5432/TCP"]);
    }

    #[test]
    fn port_of_a_service_is_asked_of_each_pod_under_its_own_number() {
        let snapshot = cluster(vec![all_pods()], ADDRESSES);
        let wanted = ["web-0 db-0 5432/TCP", "web-0 db-1 6432/TCP"];
        for service in ["shop/svc/db:5432", "svc/db:main", "10.96.0.7:5432"] {
            assert_eq!(asked(&snapshot, "web-0", service).unwrap(), wanted, "{service}");
        }
        assert_eq!(asked(&snapshot, "web-0", "svc/db:80").unwrap(), ["web-0 db-0 none", "web-0 db-1 none"]);
        for (service, problem) in [("svc/db", "several ports"), ("svc/db:81", "does not have this port")] {
            let error = asked(&snapshot, "web-0", service).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("main (5432/TCP), other (80/TCP)"), "{error}");
        }
    }

    #[test]
    fn block_is_divided_where_policies_divide_it() {
        let snapshot = cluster(vec![block("198.51.0.0/16", &["198.51.100.0/24"])], ADDRESSES);
        let lines = asked(&snapshot, "198.51.0.0/16", "db-0:pg").unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines.contains(&"198.51.100.0/24 db-0 none".to_owned()), "{lines:?}");
        let lines = asked(&snapshot, "198.51.100.0/25", "db-0:pg").unwrap();
        assert_eq!(lines, ["198.51.100.0/25 db-0 none"]);
    }

    #[test]
    fn address_that_is_not_known_is_in_a_block_of_all_addresses_only() {
        for (peer, allowed) in [
            (block("0.0.0.0/0", &[]), "5432/TCP"),
            (block("0.0.0.0/0", &["192.0.2.0/24"]), "none"),
            (block("10.0.0.0/8", &[]), "none"),
            (block("::/0", &[]), "none"),
            (all_pods(), "5432/TCP"),
        ] {
            let snapshot = cluster(vec![peer.clone()], [None; 3]);
            let lines = asked(&snapshot, "web-0", "db-0:pg").unwrap();
            assert_eq!(lines, [format!("web-0 db-0 {allowed}")], "{peer:?}");
        }
    }

    #[test]
    fn own_node_is_allowed_and_another_address_is_not() {
        let snapshot = cluster(vec![all_pods()], ADDRESSES);
        assert_eq!(asked(&snapshot, "node/node-a", "db-0:pg").unwrap(), ["itself db-0 5432/TCP"]);
        assert_eq!(asked(&snapshot, "192.0.2.1", "db-0:pg").unwrap(), ["itself db-0 5432/TCP"]);
        assert_eq!(asked(&snapshot, "192.0.2.2", "db-0:pg").unwrap(), ["itself db-0 none"]);
        assert_eq!(asked(&snapshot, "db-0", "db-0:9").unwrap(), ["db-0 db-0 9/TCP"], "to itself");
    }

    #[test]
    fn name_that_means_nothing_is_answered_with_names_that_do() {
        let snapshot = cluster(vec![all_pods()], ADDRESSES);
        for (source, destination, expected) in [
            ("web", "db-0:1", "there is no pod shop/web; there is shop/web-0"),
            ("nope/web-0", "db-0:1", "there is no pod in namespace nope; there is namespace shop"),
            ("deploy/db", "db-0:1", "there is no deployment shop/db; there is shop/db-0"),
            ("node/node-b", "db-0:1", "there is no node node-b; there is node-a"),
            ("web-0", "db-0:https", "shop/db-0 declares no port `https`; there is pg (5432/TCP)"),
            ("web-0", "192.0.2.7:https", "the port `https` needs a number"),
            ("web-0", "2001:db8::1", "no family of addresses in common"),
        ] {
            let error = asked(&snapshot, source, destination).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn pods_of_a_workload_are_asked_about_each_other_and_not_about_themselves() {
        let snapshot = cluster(vec![block("192.0.2.0/24", &[])], ADDRESSES);
        for question in [("sts/db", "sts/db:5432"), ("db-0", "sts/db:5432"), ("db-0", "svc/db:5432")] {
            let lines = asked(&snapshot, question.0, question.1).unwrap();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(" none")), "{lines:?}");
        }
        assert_eq!(asked(&snapshot, "db-0", "10.244.1.2:5432").unwrap(), ["db-0 itself 5432/TCP"]);
    }

    #[test]
    fn pod_that_stands_for_its_workload_is_two_pods_if_both_ends_are_the_workload() {
        let mut snapshot = cluster(vec![block("192.0.2.0/24", &[])], [None; 3]);
        snapshot.pods.remove(&PodKey::new("shop", "db-1"));
        assert_eq!(asked(&snapshot, "sts/db", "sts/db:5432").unwrap(), ["db-0 db-0 none"]);
        assert_eq!(asked(&snapshot, "sts/db", "svc/db:5432").unwrap(), ["db-0 db-0 none"]);
        assert_eq!(asked(&snapshot, "db-0", "db-0:5432").unwrap(), ["db-0 db-0 5432/TCP"]);
    }

    #[test]
    fn address_of_a_node_or_a_service_is_asked_about_and_no_other() {
        let peers = || vec![block("192.0.2.0/24", &[]), block("2001:db8::/64", &[])];
        let mut snapshot = cluster(peers(), ADDRESSES);
        let addresses = ["198.51.100.1", "192.0.2.9", "2001:db8::9"].map(|text| text.parse().unwrap());
        snapshot.nodes.insert("node-b".into(), addresses.into());
        for pod in snapshot.pods.values_mut() {
            let IpAddr::V4(address) = pod.addresses[0] else { panic!("it is IPv4") };
            pod.addresses.push(address.to_ipv6_mapped().segments().map(|part| part ^ 0xfd00).into());
        }
        assert_eq!(asked(&snapshot, "192.0.2.9", "db-0:pg").unwrap(), ["itself db-0 5432/TCP"]);
        assert_eq!(asked(&snapshot, "198.51.100.1", "db-0:pg").unwrap(), ["itself db-0 none"]);
        assert_eq!(asked(&snapshot, "2001:db8::9", "db-0:pg").unwrap(), ["itself db-0 5432/TCP"]);
        let judge = SnapshotJudge::new(&snapshot);
        let (source, destination) = ("web-0".parse().unwrap(), "svc/db:5432".parse().unwrap());
        let answer = ask(&judge, &NamespaceName::new("shop"), &source, &destination).unwrap();
        assert!(
            answer.cases.iter().all(|case| case.families == [Family::V4]),
            "the Service has no IPv6 address"
        );
    }

    #[test]
    fn port_of_a_node_and_an_outer_address_lead_to_the_pods_of_their_service() {
        let mut snapshot = cluster(vec![all_pods()], ADDRESSES);
        let service = snapshot.services.get_mut(&ServiceKey::new("shop", "db")).unwrap();
        service.ports[0].node_port = Some(30432);
        service.outer_addresses.push("198.51.100.6".parse().unwrap());
        let wanted = ["web-0 db-0 5432/TCP", "web-0 db-1 6432/TCP"];
        for destination in ["node/node-a:30432", "192.0.2.1:30432", "198.51.100.6:5432"] {
            assert_eq!(asked(&snapshot, "web-0", destination).unwrap(), wanted, "{destination}");
        }
        assert_eq!(asked(&snapshot, "web-0", "node/node-a:30433").unwrap(), ["web-0 itself 30433/TCP"]);
    }

    #[test]
    fn pod_without_the_named_port_of_a_service_is_no_endpoint_of_it() {
        let mut snapshot = cluster(vec![all_pods()], ADDRESSES);
        snapshot.pods.get_mut(&PodKey::new("shop", "db-1")).unwrap().ports.clear();
        assert_eq!(asked(&snapshot, "web-0", "svc/db:5432").unwrap(), ["web-0 db-0 5432/TCP"]);
    }

    #[test]
    fn node_of_a_host_network_pod_is_open_to_it_and_other_nodes_are_not() {
        let mut snapshot = cluster(vec![block("203.0.113.0/24", &[])], ADDRESSES);
        let on = |pod: &mut Pod, node: &str| pod.node = Some(node.into());
        on(snapshot.pods.get_mut(&PodKey::new("shop", "db-1")).unwrap(), "node-b");
        let web = snapshot.pods.get_mut(&PodKey::new("shop", "web-0")).unwrap();
        (web.networked, web.addresses) = (false, vec!["192.0.2.1".parse().unwrap()]);
        assert_eq!(
            asked(&snapshot, "web-0", "sts/db:5432").unwrap(),
            ["web-0 db-0 5432/TCP", "web-0 db-1 none"]
        );
    }
}
