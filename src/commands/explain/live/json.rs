//! What the kernel does with the connections of an answer, for programs: docs/explanation.schema.json.

use super::compared::{ComparedFlow, EndOnNode, LiveReport, TrackedFlow};
use super::text::hardware_text;
use crate::net::{Family, Flow, Protocol, Verdict};
use crate::verify::{FollowedRule, FollowedStage};
use serde_json::{Value, json};

/// A report as JSON.
pub(in crate::commands::explain) fn live_json(report: &LiveReport) -> Value {
    json!({
        "node": report.node,
        "backend": report.backend.name(),
        "agrees": report.agrees(),
        "flows": report.flows.iter().map(|flow| flow_json(report, flow)).collect::<Vec<Value>>(),
        "more": report.left_out,
        "remarks": report.remarks,
    })
}

fn flow_json(report: &LiveReport, compared: &ComparedFlow) -> Value {
    let local = &compared.flow;
    let Flow { source, destination, port } = local.followed.flow;
    let family = Family::of(source);
    let (way, stages) = match &compared.followed {
        Ok(Some(followed)) => (Some(followed.way), followed.stages.as_slice()),
        Ok(None) | Err(_) => (None, [].as_slice()),
    };
    let kernel = match &compared.followed {
        Ok(Some(followed)) if !followed.passes() => Some("denied"),
        Ok(Some(followed)) if followed.not_understood().next().is_some() => None,
        Ok(_) => Some("allowed"),
        Err(_) => None,
    };
    let (connections, unlisted) = match &compared.tracked {
        Ok(tracked) => (tracked.iter().map(tracked_json).collect::<Vec<Value>>(), None),
        Err(why) => (Vec::new(), Some(why)),
    };
    json!({
        "source": { "name": local.source, "address": source.to_string() },
        "destination": { "name": local.destination, "address": destination.to_string() },
        "protocol": port.map(|(protocol, _)| protocol.to_string()),
        "port": port.map(|(_, port)| port),
        "way": way,
        "pods": compared.ends.iter().map(end_json).collect::<Vec<Value>>(),
        "elsewhere": local.elsewhere,
        "stages": stages.iter().map(|stage| stage_json(report, family, stage)).collect::<Vec<Value>>(),
        "connections": connections,
        "connectionsUnlisted": unlisted,
        "kernel": kernel,
        "policies": match local.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
        },
        "agrees": compared.agrees(),
        "sentence": compared.sentence(),
        "differences": compared.differences,
    })
}

fn end_json(end: &EndOnNode) -> Value {
    let port = end.port.as_ref().map(|port| {
        let (chain, addresses, hardware) = match &port.binding {
            Ok(binding) => {
                let addresses: Vec<String> = binding.addresses.iter().map(ToString::to_string).collect();
                (binding.chain.clone(), addresses, binding.hardware.map(hardware_text))
            }
            Err(_) => (None, Vec::new(), None),
        };
        json!({
            "name": port.name,
            "index": port.index,
            "isBound": chain.is_some(),
            "chain": chain,
            "addresses": addresses,
            "hardware": hardware,
            "problem": port.problem,
        })
    });
    json!({ "pod": end.pod, "address": end.address.to_string(), "port": port })
}

fn stage_json(report: &LiveReport, family: Family, stage: &FollowedStage) -> Value {
    json!({
        "place": stage.place,
        "absence": stage.absence,
        "notUnderstood": stage.not_understood,
        "end": stage.end,
        "rules": stage.rules.iter().map(|rule| rule_json(report, family, rule)).collect::<Vec<Value>>(),
    })
}

fn rule_json(report: &LiveReport, family: Family, rule: &FollowedRule) -> Value {
    let count = report.count(family, rule);
    let lookups = rule
        .lookups
        .iter()
        .map(|lookup| json!({ "set": lookup.set, "value": lookup.value, "isMember": lookup.is_member, "leadsTo": lookup.leads_to }));
    json!({
        "chain": rule.chain,
        "number": rule.number,
        "text": rule.text,
        "matches": rule.missed.is_none(),
        "missed": rule.missed,
        "lookups": lookups.collect::<Vec<Value>>(),
        "packets": count.map(|count| count.packets),
        "bytes": count.map(|count| count.bytes),
    })
}

fn tracked_json(tracked: &TrackedFlow) -> Value {
    let TrackedFlow { connection, is_cut, passes } = tracked;
    let protocol = Protocol::from_number(connection.protocol);
    json!({
        "protocol": protocol.map(|protocol| protocol.to_string()),
        "source": connection.source.to_string(),
        "sourcePort": connection.source_port,
        "destination": connection.destination.to_string(),
        "destinationPort": connection.destination_port,
        "dialled": connection.dialled.to_string(),
        "dialledPort": connection.dialled_port,
        "isCut": is_cut,
        "passes": passes,
    })
}
