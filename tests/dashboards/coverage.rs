//! Dashboards and rules ask for metrics that there are, and leave none out without a reason.

use crate::{board, complaints, rules};
use bridgewarden::observe::Metrics;
use libtest_mimic::Trial;
use std::collections::BTreeSet;

/// Metrics that are on no dashboard and in no rule, and why.
const UNSHOWN: [(&str, &str); 3] = [
    (
        "process_virtual_memory_bytes",
        "what a program maps says little of what it uses; resident memory is shown",
    ),
    (
        "bridgewarden_audited_packets_total",
        "it is read while a policy is tried out, and says nothing about the node",
    ),
    ("bridgewarden_verified_decisions", "how many there are depends on the node; an alert asks for the time"),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        complaints("every_metric_asked_for_is_there", || {
            let known = known();
            Ok(asked()?.difference(&known).map(|name| format!("there is no {name}")).collect())
        }),
        complaints("every_metric_is_asked_for_or_excused", || {
            let excused = UNSHOWN.iter().map(|(name, _)| (*name).to_owned());
            let shown: BTreeSet<String> = asked()?.into_iter().chain(excused).collect();
            Ok(known().difference(&shown).map(|name| format!("nothing shows {name}")).collect())
        }),
        complaints("no_metric_is_excused_and_shown", || {
            let (asked, known) = (asked()?, known());
            let wrong = UNSHOWN.iter().filter(|(name, _)| asked.contains(*name) || !known.contains(*name));
            Ok(wrong.map(|(name, _)| format!("{name} is excused without need")).collect())
        }),
        complaints("every_recorded_name_asked_for_is_recorded", || {
            let rules = rules::all()?;
            let recorded: BTreeSet<&str> = rules.iter().filter_map(|rule| rule.record.as_deref()).collect();
            let asked: BTreeSet<&str> = rules.iter().flat_map(|rule| recorded_names(&rule.expr)).collect();
            Ok(asked
                .symmetric_difference(&recorded)
                .map(|name| format!("{name}: recorded or asked for alone"))
                .collect())
        }),
        complaints("metrics_of_an_expression_are_found", || {
            let found = board::metrics(
                "rate(bridgewarden_a_seconds_bucket{b=~\"$c\"}[1m]) / process_x > a:bridgewarden_d:p99 + bridgewarden_e + up",
            );
            let wanted = ["bridgewarden_a_seconds", "bridgewarden_e", "process_x"].map(str::to_owned).into();
            Ok((found != wanted).then(|| format!("{found:?}")).into_iter().collect())
        }),
    ]
}

/// The names in an expression that only a rule can have recorded.
fn recorded_names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.contains(":bridgewarden_"))
}

fn known() -> BTreeSet<String> {
    Metrics::default().documentation().into_iter().map(|metric| metric.name).collect()
}

fn asked() -> Result<BTreeSet<String>, String> {
    let boards = board::all()?;
    let panels = boards.iter().flat_map(|board| &board.panels).flat_map(|panel| &panel.targets);
    let panels = panels.flat_map(|target| board::metrics(&target.expr));
    let rules = rules::all()?.into_iter().flat_map(|rule| board::metrics(&rule.expr));
    Ok(panels.chain(rules).collect())
}
