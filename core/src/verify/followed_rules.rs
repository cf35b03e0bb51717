//! The rules that a packet comes to at one hook, with what the sets among their conditions say of it.

use super::follow::{FollowedRule, FollowedStage, SetAnswer};
use super::kernel_rules::{FilterChains, FilterRules, bridge_table, built_in};
use super::{Evidence, KernelRules, Unjudged, place};
use crate::net::octets;
use crate::netfilter::ChainName;
use crate::netfilter::iptables::{self, Condition, Match, Packet, Payload, SetLookup, SetSide, Target};
use crate::netfilter::nftables::{
    self, Base, Field, Frame, HookPoint, Meta, Statement, Table, TableFamily, visit, visit_packet,
};
use crate::ownership::{HASH_MARK, INET_TABLE, POD_PREFIX, POLICY_PREFIX};
use std::collections::BTreeSet;

/// How many rules that a packet does not match are kept of a stage.
const MOST_MISSED: usize = 500;

/// What the table of family bridge does with a frame at a hook; `None` if it is not in force.
pub(super) fn bridge_stage(
    evidence: &Evidence,
    point: HookPoint,
    frame: &Frame,
    packet: &Packet,
) -> Result<Option<FollowedStage>, Unjudged> {
    let Some(table) = bridge_table(evidence)?.0 else { return Ok(None) };
    let (traced, visited) = visit(table, point, frame);
    let place = format!("table bridge {}, {point}", table.name);
    Ok(Some(table_stage(place, table, (traced, visited), packet, [frame.input, frame.output])))
}

/// What the backend's rules do with a packet at a hook.
pub(super) fn filter_stage(
    rules: &KernelRules<'_>,
    point: HookPoint,
    packet: &Packet,
) -> Result<FollowedStage, Unjudged> {
    let unseen = |place: String, absence: String| FollowedStage {
        place,
        absence: Some(absence),
        rules: Vec::new(),
        not_understood: Vec::new(),
        end: "passed",
        passes: true,
    };
    match &rules.rules {
        FilterRules::Iptables(families) => {
            let family = &families[place(packet.family())];
            let name = built_in(point);
            let place = format!("table filter of {}, {name}", packet.family());
            match rules.unseen(packet).or_else(|| family.absences.get(name).cloned()) {
                Some(absence) => Ok(unseen(place, absence)),
                None => chain_stage(place, family, rules, name, packet),
            }
        }
        FilterRules::Nftables { table, absence, bridged_mark } => {
            let place = format!("table inet {}, {}", INET_TABLE, built_in(point).to_lowercase());
            if let Some(absence) = rules.unseen(packet) {
                return Ok(unseen(place, absence));
            }
            let Some(table) = table else { return Ok(unseen(place, absence.clone())) };
            let mark = if packet.bridged { *bridged_mark } else { 0 };
            let seen = nftables::Packet { mark, ..nftables::Packet::from(packet) };
            Ok(table_stage(place, table, visit_packet(table, point, &seen), packet, [0, 0]))
        }
    }
}

fn chain_stage(
    place: String,
    family: &FilterChains,
    sets: &KernelRules<'_>,
    entry: &str,
    packet: &Packet,
) -> Result<FollowedStage, Unjudged> {
    let entry = ChainName::new(entry).ok_or_else(|| Unjudged(format!("chain {entry} cannot be followed")))?;
    let visited = iptables::visit(&family.chains, &entry, sets, packet);
    let (traced, visited) = visited.map_err(|error| family.unjudged(&error))?;
    let mut rules = Vec::new();
    let mut missed_count = 0;
    let mut entered = BTreeSet::from([entry]);
    for one in visited {
        let Some(rule) = family.chains.get(&one.chain).and_then(|rules| rules.get(one.position)) else {
            continue;
        };
        if let (None, Target::Jump(next) | Target::Goto(next)) = (one.missed, &rule.target) {
            entered.insert(next.clone());
        }
        missed_count += usize::from(one.missed.is_some());
        if one.missed.is_some() && missed_count > MOST_MISSED {
            continue;
        }
        let evaluated = one.missed.map_or(usize::MAX, |missed| missed + 1);
        let conditions = || rule.conditions().take(evaluated);
        let lookups: Vec<SetAnswer> =
            conditions().filter_map(|part| set_answer(part, sets, packet)).collect();
        rules.push(FollowedRule {
            is_telling: is_of_policy(one.chain.as_str()) || !lookups.is_empty(),
            chain: one.chain.as_str().into(),
            number: one.position + 1,
            text: rule.to_string(),
            missed: one.missed.and_then(|missed| rule.conditions().nth(missed)).map(|part| part.to_string()),
            lookups,
            counter: None,
        });
    }
    let end = match traced.verdict {
        iptables::Verdict::Passed => "passed",
        iptables::Verdict::Accepted => "accepted",
        iptables::Verdict::Dropped => "dropped",
        iptables::Verdict::Rejected(_) => "rejected",
    };
    let not_understood = entered.iter().filter_map(|chain| family.skipped.get(chain.as_str()));
    let not_understood = not_understood.flatten().cloned().collect();
    Ok(FollowedStage { place, absence: None, rules, not_understood, end, passes: traced.verdict.allows() })
}

fn set_answer(part: Condition<'_>, sets: &KernelRules<'_>, packet: &Packet) -> Option<SetAnswer> {
    let Condition::Match(Match::Set(name, side) | Match::NotInSet(name, side), _) = part else { return None };
    let port = match packet.payload {
        Payload::Transport { protocol, port } => Some((protocol, port)),
        Payload::Icmpv6(_) | Payload::Other(_) => None,
    };
    let (address, port) = match side {
        SetSide::Source => (packet.source, None),
        SetSide::Destination => (packet.destination, None),
        SetSide::DestinationPort => (packet.destination, Some(port?)),
    };
    let value = match port {
        Some((protocol, port)) => format!("{address},{}:{port}", protocol.lowercase()),
        None => address.to_string(),
    };
    Some(SetAnswer {
        set: name.as_str().into(),
        value,
        is_member: sets.contains(name, address, port),
        leads_to: None,
    })
}

fn table_stage(
    place: String,
    table: &Table,
    (traced, visited): (nftables::Traced, Vec<nftables::VisitedRule>),
    packet: &Packet,
    ports: [u32; 2],
) -> FollowedStage {
    let mut rules = Vec::new();
    let mut missed_count = 0;
    for one in visited {
        let Some(rule) = table.chains.get(&one.chain).and_then(|chain| chain.rules.get(one.position)) else {
            continue;
        };
        missed_count += usize::from(one.missed.is_some());
        if one.missed.is_some() && missed_count > MOST_MISSED {
            continue;
        }
        let mut lookups = Vec::new();
        for (position, statement) in rule.statements().iter().enumerate() {
            if one.missed.is_some_and(|missed| position > missed) {
                break;
            }
            let holds = one.missed != Some(position);
            let (fields, set, is_member) = if let Statement::In { fields, set, inverted } = statement {
                (fields, set, holds != *inverted)
            } else if let Statement::VerdictOf { fields, map } = statement {
                (fields, map, holds)
            } else {
                continue;
            };
            let values: Vec<String> = fields.iter().map(|field| field_text(*field, packet, ports)).collect();
            let leads_to = match (statement, fields.as_slice()) {
                (Statement::VerdictOf { map, .. }, [field]) => leads_to(table, map, *field, packet, ports),
                _ => None,
            };
            lookups.push(SetAnswer { set: set.clone(), value: values.join(" . "), is_member, leads_to });
        }
        let counter = rule.statements().iter().find_map(|statement| {
            if let Statement::CountIn(counter) = statement { Some(counter.clone()) } else { None }
        });
        rules.push(FollowedRule {
            // Ports are in few of the maps of family bridge, and what binds a port is shown by itself.
            is_telling: table.family == TableFamily::Inet
                && (is_of_policy(&one.chain) || !lookups.is_empty()),
            chain: one.chain,
            number: one.position + 1,
            text: rule.to_string(),
            missed: one.missed.and_then(|missed| rule.statement_text(missed)),
            lookups,
            counter,
        });
    }
    let end = match traced.outcome {
        nftables::Outcome::Accepted => "passed",
        nftables::Outcome::Dropped => "dropped",
        nftables::Outcome::Rejected(_) => "rejected",
    };
    let not_understood = Vec::new();
    FollowedStage { place, absence: None, rules, not_understood, end, passes: traced.is_accepted() }
}

/// The verdict of a map of ports or addresses for a packet.
fn leads_to(
    table: &Table,
    map: &str,
    field: Field,
    packet: &Packet,
    [input, output]: [u32; 2],
) -> Option<String> {
    let key: Box<[u8]> = match field {
        Field::Meta(Meta::InputIndex) => input.to_ne_bytes().as_slice().into(),
        Field::Meta(Meta::OutputIndex) => output.to_ne_bytes().as_slice().into(),
        Field::Payload { base: Base::Network, offset: 12, length: 4 }
        | Field::Payload { base: Base::Network, offset: 8, length: 16 } => octets(packet.source),
        Field::Payload { base: Base::Network, .. } => octets(packet.destination),
        Field::Payload { .. } | Field::Meta(_) | Field::Connection(_) | Field::SourceAddressType => {
            return None;
        }
    };
    table.sets.get(map)?.elements.get(&key)?.map(ToString::to_string)
}

/// The value of a field that sets are asked about.
fn field_text(field: Field, packet: &Packet, [input, output]: [u32; 2]) -> String {
    match (field, packet.payload) {
        (Field::Payload { base: Base::Network, offset: 12, length: 4 }, _)
        | (Field::Payload { base: Base::Network, offset: 8, length: 16 }, _) => packet.source.to_string(),
        (Field::Payload { base: Base::Network, offset: 16, length: 4 }, _)
        | (Field::Payload { base: Base::Network, offset: 24, length: 16 }, _) => {
            packet.destination.to_string()
        }
        (Field::Payload { base: Base::Transport, offset: 2, length: 2 }, Payload::Transport { port, .. }) => {
            port.to_string()
        }
        (Field::Meta(Meta::TransportProtocol), Payload::Transport { protocol, .. }) => {
            protocol.lowercase().to_owned()
        }
        (Field::Meta(Meta::InputIndex), _) if input != 0 => format!("port {input}"),
        (Field::Meta(Meta::OutputIndex), _) if output != 0 => format!("port {output}"),
        _ => "another field".to_owned(),
    }
}

/// Whether a chain is one of a pod, a profile or a policy.
fn is_of_policy(chain: &str) -> bool {
    let policy = chain.strip_prefix(POLICY_PREFIX).is_some_and(|rest| rest.starts_with(HASH_MARK));
    policy || chain.starts_with(POD_PREFIX)
}
