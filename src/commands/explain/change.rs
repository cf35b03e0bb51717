//! What would have to change: the smallest change that allows a denied connection, or what alone allows one.

use crate::explain::{AnsweredCase, RuleAnswer, SideAnswer, nearest_rule};
use crate::model::{Direction, PolicyKey, Snapshot};
use crate::net::Verdict;

/// The first few of some names, for a sentence.
pub(super) fn few<T: ToString>(names: impl Iterator<Item = T>) -> String {
    const FEW: usize = 5;
    let mut all: Vec<String> = names.map(|name| name.to_string()).collect();
    let more = all.len().saturating_sub(FEW);
    all.truncate(FEW);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", all.join(", "))
}

/// The place of a rule, for people: `spec.ingress[0] of NetworkPolicy shop/db (db.yaml:12)`.
pub(super) fn rule_place(
    snapshot: &Snapshot,
    direction: Direction,
    policy: &PolicyKey,
    rule: usize,
) -> String {
    let origin = snapshot.origins.get(policy).map(|origin| origin.of_rule(direction, rule));
    let origin = origin.map(|origin| format!(" ({origin})")).unwrap_or_default();
    format!("spec.{direction}[{rule}] of NetworkPolicy {policy}{origin}")
}

/// What to change so that the connection is allowed, a line for each side that denies it. `None` for a side where no rule comes near.
pub(super) fn advice(snapshot: &Snapshot, case: &AnsweredCase<'_>) -> Vec<String> {
    let denying = case.answer.sides.iter().filter(|side| side.verdict == Verdict::Denied);
    let line = |side: &SideAnswer<'_>| {
        let asked = &case.answer.case;
        let end = match side.direction {
            Direction::Egress => &asked.destination,
            Direction::Ingress => &asked.source,
        };
        let near = nearest_rule(side, asked.port, end)?;
        let place = rule_place(snapshot, side.direction, &near.policy.key, near.rule.index);
        Some(format!("{place}: {}", near.advice))
    };
    denying.filter_map(line).collect()
}

/// What allows the connection, a line for each side whose pod is isolated.
pub(super) fn reliance(snapshot: &Snapshot, case: &AnsweredCase<'_>) -> Vec<String> {
    let isolated = case.answer.sides.iter().filter(|side| !side.own_node && !side.policies.is_empty());
    let allowed = &case.answer.allowed;
    let line = |side: &SideAnswer<'_>| {
        let rules: Vec<(&PolicyKey, &RuleAnswer<'_>)> = side
            .policies
            .iter()
            .flat_map(|policy| policy.rules.iter().map(|rule| (&policy.policy.key, rule)))
            .filter(|(_, rule)| rule.peer_matches() && !rule.opens.intersection(allowed).is_empty())
            .collect();
        let place = |(policy, rule): &(&PolicyKey, &RuleAnswer<'_>)| {
            rule_place(snapshot, side.direction, policy, rule.rule.index)
        };
        match rules.as_slice() {
            [] => None,
            [only] => Some(format!("{}: without this rule it is denied", place(only))),
            [first, ..] if rules.iter().all(|(_, rule)| rule.opens.intersection(allowed) == *allowed) => {
                Some(format!("{}, or another of {} rules: each is enough", place(first), rules.len()))
            }
            [first, others @ ..] => {
                let rules = match others.len() {
                    1 => "another rule".to_owned(),
                    count => format!("{count} other rules"),
                };
                Some(format!("{} and {rules}, for some of the ports each", place(first)))
            }
        }
    };
    isolated.filter_map(line).collect()
}
