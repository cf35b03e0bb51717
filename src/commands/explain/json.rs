//! An answer as JSON, for programs: docs/explanation.schema.json.

use super::words::peer_text;
use crate::commands::API_VERSION;
use crate::explain::{
    Answer, AnsweredCase, AskedPort, CaseEnd, CaseMembers, DestinationName, Fix, NoFix, PeerAnswer,
    PolicyAnswer, PortAnswer, PortDifference, RuleAnswer, SideAnswer, nearest_rule, port_text,
};
use crate::model::{Direction, Policy, PolicyOrigin, Snapshot};
use crate::net::{PortRange, PortSet, Protocol, Verdict};
use serde_json::{Value, json};

/// The answer to a question.
pub(super) fn of(
    snapshot: &Snapshot,
    source: &str,
    destination: &DestinationName,
    answer: &Answer<'_>,
    fix: &Result<Fix, NoFix>,
) -> Value {
    let policies: Vec<String> = match fix {
        Ok(fix) => fix.policies.iter().map(yaml).collect(),
        Err(_) => Vec::new(),
    };
    json!({
        "apiVersion": API_VERSION,
        "kind": "Explanation",
        "source": source,
        "destination": destination.end.to_string(),
        "verdict": verdict(answer.verdict()),
        "cases": answer.cases.iter().map(|case| case_json(snapshot, case)).collect::<Vec<Value>>(),
        "notes": answer.notes,
        "fix": policies,
    })
}

fn yaml(policy: &Policy) -> String {
    let mut text = Vec::new();
    match super::fix_yaml::write(policy, &mut text) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Denied => "denied",
    }
}

fn case_json(snapshot: &Snapshot, case: &AnsweredCase<'_>) -> Value {
    let answer = &case.answer;
    let families: Vec<String> = case.families.iter().map(ToString::to_string).collect();
    json!({
        "source": end_json(&answer.case.source, &case.sources),
        "destination": end_json(&answer.case.destination, &case.destinations),
        "families": families,
        "port": match answer.case.port {
            AskedPort::Any => json!({}),
            AskedPort::Of(protocol) => json!({"protocol": protocol.to_string()}),
            AskedPort::One(protocol, port) => json!({"protocol": protocol.to_string(), "port": port}),
        },
        "verdict": verdict(answer.verdict()),
        "allowedPorts": ports_json(&answer.allowed),
        "toItself": answer.to_itself,
        "sides": answer.sides.iter().map(|side| side_json(snapshot, case, side)).collect::<Vec<Value>>(),
    })
}

fn end_json(end: &CaseEnd, members: &CaseMembers) -> Value {
    let mut value = match end {
        CaseEnd::Pod { key, .. } => json!({"pod": key.to_string()}),
        CaseEnd::Node { name, .. } => json!({"node": name.as_deref()}),
        CaseEnd::Address(_) => json!({}),
    };
    if let Some(address) = end.address() {
        value["address"] = address.to_string().into();
    }
    match members {
        CaseMembers::Pods(pods) => {
            value["pods"] = pods.iter().map(ToString::to_string).collect::<Vec<String>>().into();
        }
        CaseMembers::Blocks(prefixes) => {
            value["prefixes"] = prefixes.iter().map(ToString::to_string).collect::<Vec<String>>().into();
        }
        CaseMembers::Itself => {}
    }
    value
}

fn ports_json(ports: &PortSet) -> Value {
    let range = |(protocol, range): (Protocol, PortRange)| json!({"protocol": protocol.to_string(), "first": range.first(), "last": range.last()});
    ports.ranges().map(range).collect::<Vec<Value>>().into()
}

fn side_json(snapshot: &Snapshot, case: &AnsweredCase<'_>, side: &SideAnswer<'_>) -> Value {
    let asked = &case.answer.case;
    let end = match side.direction {
        Direction::Egress => &asked.destination,
        Direction::Ingress => &asked.source,
    };
    let near = nearest_rule(side, asked.port, end).map(|near| {
        json!({
            "policy": near.policy.key.to_string(),
            "rule": near.rule.index,
            "differs": near.differs.word(),
            "advice": near.advice,
        })
    });
    let answers = |policies: &[PolicyAnswer<'_>]| -> Vec<Value> {
        policies.iter().map(|policy| policy_json(snapshot, side.direction, policy)).collect()
    };
    json!({
        "direction": side.direction.to_string(),
        "pod": side.subject.to_string(),
        "verdict": verdict(side.verdict),
        "isolated": !side.policies.is_empty(),
        "ownNode": side.own_node,
        "opens": ports_json(&side.opens),
        "policies": answers(&side.policies),
        "audited": answers(&side.audited),
        "wouldDeny": side.would_deny,
        "nearest": near,
    })
}

fn origin_json(origin: Option<PolicyOrigin>) -> Value {
    match origin {
        Some(PolicyOrigin::File { file, line, .. }) => json!({"file": &*file, "line": line}),
        Some(PolicyOrigin::Server { resource_version }) => json!({"resourceVersion": &*resource_version}),
        None => Value::Null,
    }
}

fn policy_json(snapshot: &Snapshot, direction: Direction, answer: &PolicyAnswer<'_>) -> Value {
    let PolicyAnswer { policy, rules } = answer;
    let origin = snapshot.origins.get(&policy.key);
    let rule = |rule: &RuleAnswer<'_>| {
        let place = origin.map(|origin| origin.of_rule(direction, rule.rule.index));
        json!({
            "index": rule.rule.index,
            "origin": origin_json(place),
            "allows": rule.allows,
            "peerMatches": rule.peer_matches(),
            "portMatches": rule.port_matches(),
            "peers": rule.peers.iter().map(|peer| peer_json(policy, peer)).collect::<Vec<Value>>(),
            "ports": rule.ports.iter().map(port_json).collect::<Vec<Value>>(),
        })
    };
    json!({
        "policy": policy.key.to_string(),
        "origin": origin_json(origin.cloned()),
        "allows": answer.allows(),
        "invalidParts": policy.invalid_parts.iter().map(ToString::to_string).collect::<Vec<String>>(),
        "rules": rules.iter().map(rule).collect::<Vec<Value>>(),
    })
}

fn peer_json(policy: &Policy, answer: &PeerAnswer<'_>) -> Value {
    json!({
        "peer": peer_text(policy, answer.peer),
        "matches": answer.differences.is_empty(),
        "differences": answer.differences.iter().map(ToString::to_string).collect::<Vec<String>>(),
    })
}

fn port_json(answer: &PortAnswer<'_>) -> Value {
    let difference = answer.difference.as_ref().map(|difference| match difference {
        PortDifference::Protocol(_) => "protocol",
        PortDifference::Number(_) => "port",
        PortDifference::Declared(_) => "declared",
    });
    json!({
        "port": port_text(answer.port),
        "declared": answer.declared,
        "matches": answer.difference.is_none(),
        "difference": difference,
    })
}
