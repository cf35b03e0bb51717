//! The rule that would allow a denied connection but for one thing, and what to change so that it does.

use super::case::{AskedPort, CaseEnd, PeerAnswer, RuleAnswer, SideAnswer};
use super::difference::PeerDifference;
use super::nearest::Differs;
use crate::model::{Demand, Direction, Policy, Requirement, Rule};
use crate::net::Verdict;
use std::net::IpAddr;

/// A rule that would allow a denied connection but for one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearRule<'s> {
    /// Its policy.
    pub policy: &'s Policy,
    /// The rule.
    pub rule: &'s Rule,
    /// The one thing.
    pub differs: Differs,
    /// What to change, as a request: `give shop/web the label app=api`.
    pub advice: String,
}

/// The nearest of the rules that deny a connection on one side; `None` if each misses by more than one thing. `end` is the other end.
pub fn nearest_rule<'s>(side: &SideAnswer<'s>, asked: AskedPort, end: &CaseEnd) -> Option<NearRule<'s>> {
    if side.verdict == Verdict::Allowed {
        return None;
    }
    let rules = side.policies.iter().flat_map(|policy| policy.rules.iter().map(|rule| (policy.policy, rule)));
    let near = rules.filter_map(|(policy, answer)| {
        let (differs, advice) = miss(side.direction, answer, asked, end)?;
        Some(NearRule { policy, rule: answer.rule, differs, advice })
    });
    near.min_by_key(|near| near.differs)
}

/// The one thing by which a rule misses, and what to change.
fn miss(
    direction: Direction,
    answer: &RuleAnswer<'_>,
    asked: AskedPort,
    end: &CaseEnd,
) -> Option<(Differs, String)> {
    match (answer.peer_matches(), answer.port_matches()) {
        (true, false) => {
            let AskedPort::One(protocol, port) = asked else { return None };
            let same_number = answer.opens.ranges().any(|(_, range)| range.contains(port));
            let differs = if same_number { Differs::Protocol } else { Differs::Port };
            Some((
                differs,
                format!("add {port}/{protocol} to its ports, which opens it to every peer of the rule"),
            ))
        }
        (false, true) => {
            let misses = answer.peers.iter().filter_map(|peer| miss_of_peer(direction, peer, end));
            misses.min_by_key(|(differs, _)| *differs)
        }
        (true, true) | (false, false) => None,
    }
}

fn miss_of_peer(direction: Direction, peer: &PeerAnswer<'_>, end: &CaseEnd) -> Option<(Differs, String)> {
    let list = match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    };
    if let Some((excepts, address)) = excepted(&peer.differences) {
        let what = if excepts.contains(", ") { "exceptions" } else { "exception" };
        let advice = format!("change the {what} {excepts} to leave out {address}, or add a peer to `{list}`");
        return Some((Differs::Except, advice));
    }
    let [difference] = peer.differences.as_slice() else { return None };
    Some(match difference {
        PeerDifference::PodLabel { pod, wanted, .. } => {
            (Differs::PodLabel, relabel(&pod.to_string(), wanted))
        }
        PeerDifference::NamespaceLabel { namespace, wanted, .. } => {
            (Differs::NamespaceLabel, relabel(&format!("namespace {namespace}"), wanted))
        }
        PeerDifference::OtherNamespace { pod, .. } => (
            Differs::Namespace,
            format!(
                "add a namespaceSelector to the peer that selects namespace {}, which then no longer selects pods of the policy's \
                 own namespace",
                pod.namespace
            ),
        ),
        PeerDifference::OutsideBlock { address, cidr } => {
            let CaseEnd::Address(_) = end else { return None };
            if address.is_ipv4() != cidr.addr().is_ipv4() {
                return None;
            }
            (Differs::Address, format!("add an ipBlock that holds {address} to `{list}`"))
        }
        PeerDifference::UnknownNamespace(_)
        | PeerDifference::NoPod
        | PeerDifference::UnknownAddress
        | PeerDifference::Excepted { .. } => return None,
    })
}

/// The exceptions, of one block, because of which a peer misses an address, if it misses it by nothing else.
fn excepted(differences: &[PeerDifference]) -> Option<(String, IpAddr)> {
    let (mut excepts, mut of) = (Vec::new(), None);
    for difference in differences {
        let PeerDifference::Excepted { except, address } = difference else { return None };
        excepts.push(except.to_string());
        of = Some(*address);
    }
    Some((excepts.join(", "), of?))
}

/// How to make something meet a requirement.
fn relabel(what: &str, wanted: &Requirement) -> String {
    let key = &wanted.key;
    match &wanted.demand {
        Demand::In(values) => {
            let value = values.first().map(|value| &**value).unwrap_or_default();
            format!("give {what} the label {key}={value}")
        }
        Demand::Exists => format!("give {what} a label {key}"),
        Demand::NotIn(_) | Demand::DoesNotExist => format!("remove the label {key} from {what}"),
    }
}
