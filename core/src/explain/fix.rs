//! The policies that would allow what a question asks for, and nothing else.

use super::answer::{Answer, AnsweredCase};
use super::case::{AskedPort, Case, CaseEnd, SideAnswer};
use super::ends::CaseMembers;
use super::exact_selector::{exact_selector, lasting, selected};
use super::snapshot_judge::SnapshotJudge;
use crate::model::{
    AuditLabel, Block, Demand, Direction, NAMESPACE_NAME_LABEL, NamespaceName, NamespaceScope, Peer, Peers,
    Pod, PodKey, Policy, PolicyKey, PortMatch, Ports, Requirement, Rule, Selector, Snapshot,
};
use crate::net::{PortRange, PortSet, Protocol, Verdict, host};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Policies that allow a connection which others deny. Policies only add up, so nothing that was allowed is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// The policies, each for one namespace and direction.
    pub policies: Vec<Policy>,
    /// Pods besides those of the question that these policies select as well: their labels are the same.
    pub also: BTreeSet<PodKey>,
}

/// Why there are no such policies.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoFix {
    /// Nothing is denied.
    #[error("nothing is denied, so there is nothing to allow")]
    Allowed,
    /// The other end is a node of which no address is known.
    #[error("no policy can name {0}: its address is not known. Read the cluster with its nodes")]
    NoAddress(String),
    /// The policies do not suffice: two pods are at one address, and a selector selects one of them.
    #[error("no policy was found that allows exactly this")]
    NotFound,
}

/// The policies that let every denied case of an answer pass.
///
/// # Errors
/// Why no policy does.
pub fn fix(snapshot: &Snapshot, answer: &Answer<'_>) -> Result<Fix, NoFix> {
    let denied: Vec<&AnsweredCase<'_>> =
        answer.cases.iter().filter(|case| case.answer.verdict() == Verdict::Denied).collect();
    let mut rules: BTreeMap<(NamespaceName, Direction, Selector), BTreeSet<AllowedPeer>> = BTreeMap::new();
    for case in &denied {
        for side in &case.answer.sides {
            let asked = case.answer.case.port;
            if !needs_more(side, asked) {
                continue;
            }
            let Some(subject) = snapshot.pods.get(side.subject) else { continue };
            let (own, members) = match side.direction {
                Direction::Egress => (&case.sources, &case.destinations),
                Direction::Ingress => (&case.destinations, &case.sources),
            };
            let namespace = &subject.key.namespace;
            let selector = exact_selector(&with_members(snapshot, subject, own), snapshot.pods_in(namespace));
            let allowed = rules.entry((namespace.clone(), side.direction, selector)).or_default();
            for connection in connections(case) {
                let end = match side.direction {
                    Direction::Egress => &connection.destination,
                    Direction::Ingress => &connection.source,
                };
                let peer = peer(snapshot, namespace, end, members)?;
                allowed.insert(AllowedPeer { peer, port: asked });
            }
        }
    }
    if rules.is_empty() {
        return Err(NoFix::Allowed);
    }
    let policies: Vec<Policy> = policies(snapshot, rules);
    if !suffice(snapshot, &policies, &denied) {
        return Err(NoFix::NotFound);
    }
    let also = also_selected(snapshot, &policies, answer);
    Ok(Fix { policies, also })
}

/// The connections of a case, one in each family.
fn connections<'a>(case: &'a AnsweredCase<'_>) -> impl Iterator<Item = &'a Case> {
    std::iter::once(&case.answer.case).chain(&case.in_other_families)
}

/// A peer and the ports that it is allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct AllowedPeer {
    peer: FixPeer,
    port: AskedPort,
}

/// A peer that a policy can name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FixPeer {
    Pods(Option<NamespaceName>, Selector),
    Blocks(Vec<Block>),
}

/// Whether a side must allow more so that the asked ports are open. If any port will do, a side that allows none is one.
fn needs_more(side: &SideAnswer<'_>, asked: AskedPort) -> bool {
    match asked {
        AskedPort::One(..) => side.verdict == Verdict::Denied,
        // Both sides may allow ports, and not the same.
        AskedPort::Any | AskedPort::Of(_) => !PortSet::every_port().difference(&side.opens).is_empty(),
    }
}

fn peer(
    snapshot: &Snapshot,
    own: &NamespaceName,
    end: &CaseEnd,
    members: &CaseMembers,
) -> Result<FixPeer, NoFix> {
    let of_address = |address| Block { cidr: host(address), except: Vec::new() };
    match (end, members) {
        (_, CaseMembers::Blocks(prefixes)) => {
            let blocks = prefixes.iter().map(|prefix| Block { cidr: *prefix, except: Vec::new() });
            Ok(FixPeer::Blocks(blocks.collect()))
        }
        (CaseEnd::Pod { key, .. }, _) => {
            let pod = snapshot.pods.get(key).ok_or(NoFix::NotFound)?;
            let other = (key.namespace != *own).then(|| key.namespace.clone());
            let pods = with_members(snapshot, pod, members);
            Ok(FixPeer::Pods(other, exact_selector(&pods, snapshot.pods_in(&key.namespace))))
        }
        (CaseEnd::Address(address), _) => Ok(FixPeer::Blocks(vec![of_address(*address)])),
        (CaseEnd::Node { address: Some(address), .. }, _) => Ok(FixPeer::Blocks(vec![of_address(*address)])),
        (CaseEnd::Node { name, address: None }, _) => {
            let name = name.as_deref().map_or_else(|| "a node".to_owned(), |name| format!("node {name}"));
            Err(NoFix::NoAddress(name))
        }
    }
}

/// The pods of which the case holds, if this pod is one of them; otherwise the pod alone, which shares its address with one.
fn with_members<'s>(snapshot: &'s Snapshot, pod: &'s Pod, members: &CaseMembers) -> Vec<&'s Pod> {
    match members {
        CaseMembers::Pods(keys) if keys.contains(&pod.key) => {
            keys.iter().filter_map(|key| snapshot.pods.get(key)).collect()
        }
        CaseMembers::Pods(_) | CaseMembers::Itself | CaseMembers::Blocks(_) => vec![pod],
    }
}

/// The policies of these rules. Their names are free in their namespaces.
fn policies(
    snapshot: &Snapshot,
    rules: BTreeMap<(NamespaceName, Direction, Selector), BTreeSet<AllowedPeer>>,
) -> Vec<Policy> {
    let mut taken: BTreeSet<PolicyKey> = snapshot.policies.keys().cloned().collect();
    let policies = rules.into_iter().map(|((namespace, direction, subject), allowed)| {
        let base = format!("allow-{}-{direction}", word(&subject));
        let names = std::iter::once(base.clone()).chain((2..).map(|number: u32| format!("{base}-{number}")));
        let mut keys = names.map(|name| PolicyKey { namespace: namespace.clone(), name: name.into() });
        let key = keys.find(|key| !taken.contains(key)).expect("numbers do not end");
        taken.insert(key.clone());
        let rules = allowed.into_iter().enumerate().map(|(index, allowed)| rule(index, allowed)).collect();
        let (ingress, egress) = match direction {
            Direction::Ingress => (Some(rules), None),
            Direction::Egress => (None, Some(rules)),
        };
        Policy {
            key,
            uid: None,
            version: Default::default(),
            subject,
            ingress,
            egress,
            invalid_parts: Vec::new(),
            audit: AuditLabel::Enforced,
        }
    });
    policies.collect()
}

/// A word for the pods that a selector selects, for a name: the value of its first label that has one.
fn word(subject: &Selector) -> String {
    let mut values = subject.requirements().filter_map(|requirement| match &requirement.demand {
        Demand::In(values) => values.first(),
        Demand::NotIn(_) | Demand::Exists | Demand::DoesNotExist => None,
    });
    let fits = |character: char| character.is_ascii_alphanumeric() || character == '-';
    let value = values.next().map(|value| value.to_lowercase().replace(|character| !fits(character), "-"));
    let value = value.map(|value| value.trim_matches('-').to_owned());
    value.filter(|value| !value.is_empty()).unwrap_or_else(|| "pods".to_owned())
}

fn rule(index: usize, allowed: AllowedPeer) -> Rule {
    let peers = match allowed.peer {
        FixPeer::Blocks(blocks) => blocks.into_iter().map(Peer::Block).collect(),
        FixPeer::Pods(None, pods) => vec![Peer::Pods { namespaces: NamespaceScope::Own, pods }],
        FixPeer::Pods(Some(namespace), pods) => {
            let demand = Demand::In(BTreeSet::from([Box::from(namespace.as_str())]));
            let named = Selector::new([Requirement { key: NAMESPACE_NAME_LABEL.into(), demand }]);
            vec![Peer::Pods { namespaces: NamespaceScope::Matching(named), pods }]
        }
    };
    let one =
        |protocol: Protocol, port| PortRange::single(port).map(|range| PortMatch::Numbered(protocol, range));
    let ports = match allowed.port {
        AskedPort::Any => Ports::All,
        AskedPort::Of(protocol) => Ports::Listed(vec![PortMatch::Protocol(protocol)]),
        AskedPort::One(protocol, port) => Ports::Listed(one(protocol, port).into_iter().collect()),
    };
    Rule { index, peers: Peers::Listed(peers), ports }
}

/// Whether the denied cases are allowed with these policies.
fn suffice(snapshot: &Snapshot, policies: &[Policy], denied: &[&AnsweredCase<'_>]) -> bool {
    let mut with = snapshot.clone();
    with.policies.extend(policies.iter().map(|policy| (policy.key.clone(), policy.clone())));
    let judge = SnapshotJudge::new(&with);
    let mut all = denied.iter().flat_map(|case| connections(case));
    all.all(|connection| judge.judge(connection).verdict() == Verdict::Allowed)
}

/// The pods that the policies select as subjects or peers, and that the question does not name.
fn also_selected(snapshot: &Snapshot, policies: &[Policy], answer: &Answer<'_>) -> BTreeSet<PodKey> {
    let mut also = BTreeSet::new();
    for policy in policies {
        let own = &policy.key.namespace;
        also.extend(selected(&policy.subject, snapshot.pods_in(own)).cloned());
        let rules = policy.ingress.iter().chain(&policy.egress).flatten();
        for rule in rules {
            let Peers::Listed(peers) = &rule.peers else { continue };
            for peer in peers {
                let Peer::Pods { namespaces, pods } = peer else { continue };
                let NamespaceScope::Matching(selector) = namespaces else {
                    also.extend(selected(pods, snapshot.pods_in(own)).cloned());
                    continue;
                };
                let named = snapshot.namespaces.values().filter(|known| selector.matches(&known.labels));
                for namespace in named {
                    also.extend(selected(pods, snapshot.pods_in(&namespace.name)).cloned());
                }
            }
        }
    }
    let asked = answer.cases.iter().flat_map(|case| {
        let members = [&case.sources, &case.destinations].into_iter();
        let listed = members.filter_map(|members| match members {
            CaseMembers::Pods(pods) => Some(pods.as_slice()),
            CaseMembers::Itself | CaseMembers::Blocks(_) => None,
        });
        let ends = [&case.answer.case.source, &case.answer.case.destination];
        let ends = ends.into_iter().filter_map(|end| match end {
            CaseEnd::Pod { key, .. } => Some(key),
            CaseEnd::Node { .. } | CaseEnd::Address(_) => None,
        });
        listed.flatten().chain(ends)
    });
    for key in asked {
        also.remove(key);
    }
    also
}

/// Whether labels that last do not distinguish two pods, so that a policy for one is a policy for the other.
pub fn are_alike(one: &Pod, other: &Pod) -> bool {
    one.key.namespace == other.key.namespace && lasting(&one.labels) == lasting(&other.labels)
}
