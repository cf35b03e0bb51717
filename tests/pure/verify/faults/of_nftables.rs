//! Faults in the table of nftables.

use super::{Fault, bridge, find_all, inet, remove_first};
use bridgewarden::apply::Fake;
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::nftables::{Elements, Rule, Statement, Table, TableFamily, Verdict};
use bridgewarden::ownership::INET_TABLE;

/// The chain that a map leads to for the first of its elements.
fn profile<'t>(table: &'t mut Table, map: &str) -> &'t mut Vec<Rule> {
    let verdict = table.sets[map].elements.verdicts().next().cloned();
    let Some(Verdict::Goto(chain) | Verdict::Jump(chain)) = verdict else { panic!("it leads to a chain") };
    &mut table.chains.get_mut(&chain).expect("it is there").rules
}

/// Whether a rule allows a set of peers.
fn allows_peers(rule: &Rule) -> bool {
    let mut statements = rule.statements().iter();
    statements.any(|statement| matches!(statement, Statement::In { set, .. } if set.contains("-P4-")))
}

/// A chain with rules of a policy that allow a set of peers.
fn policy(table: &mut Table) -> &mut Vec<Rule> {
    let mut chains = table.chains.values_mut();
    let chain = chains.find(|chain| chain.rules.iter().any(allows_peers));
    &mut chain.expect("there is one").rules
}

fn set_of<'t>(table: &'t mut Table, such: &str) -> &'t mut Elements {
    let found = table.sets.iter_mut().find(|(name, set)| name.contains(such) && !set.elements.is_empty());
    &mut found.expect("there is such a set").1.elements
}

const OF_NFTABLES: [Fault<Fake>; 19] = [
    (
        "no table",
        |kernel| drop(kernel.tables_of_nft().remove(&(TableFamily::Inet, INET_TABLE.into()))),
        "inet bridgewarden is missing",
    ),
    (
        "a rule of a policy removed",
        |kernel| {
            let rules = policy(inet(kernel));
            let first = rules.iter().position(allows_peers).expect("there is one");
            rules.remove(first);
        },
        "lacks its rule",
    ),
    (
        "a policy's rules removed",
        |kernel| policy(inet(kernel)).retain(|rule| !allows_peers(rule)),
        "lacks its rule",
    ),
    ("a profile's chain flushed", |kernel| profile(inet(kernel), "ISOLATED-INGRESS-4").clear(), "is empty"),
    (
        "a profile's chain that returns first",
        |kernel| {
            profile(inet(kernel), "ISOLATED-INGRESS-4").insert(0, Rule::verdict(Verdict::Return));
        },
        "return",
    ),
    (
        "a rule that accepts first",
        |kernel| {
            let chain = inet(kernel).chains.get_mut("FORWARD-INGRESS").expect("a base chain");
            chain.rules.insert(0, Rule::verdict(Verdict::Accept));
        },
        "what does not belong there: accept",
    ),
    (
        "no look-up of destinations",
        |kernel| {
            inet(kernel).chains.get_mut("FORWARD-INGRESS").expect("a base chain").rules.truncate(1);
        },
        "lacks its rule",
    ),
    (
        "no base chain",
        |kernel| drop(inet(kernel).chains.remove("FORWARD-INGRESS")),
        "FORWARD-INGRESS of table inet bridgewarden is missing",
    ),
    (
        "a base chain of another hook",
        |kernel| {
            inet(kernel).chains.get_mut("FORWARD-INGRESS").expect("a base chain").base = None;
        },
        "another hook",
    ),
    (
        "a denial that accepts",
        |kernel| {
            let rules = &mut inet(kernel).chains.get_mut("DENIED-INGRESS").expect("a chain").rules;
            let rejects = |statement: &Statement| matches!(statement, Statement::Reject(_));
            rules.retain(|rule| !rule.statements().iter().any(rejects));
        },
        "lacks its rule",
    ),
    (
        "an address that is no longer isolated",
        |kernel| remove_first(set_of(inet(kernel), "ISOLATED-INGRESS-4")),
        "ISOLATED-INGRESS-4 of table inet bridgewarden lacks 10.244.1.10",
    ),
    (
        "an address with another's profile",
        |kernel| {
            let map = set_of(inet(kernel), "ISOLATED-INGRESS-4");
            let verdicts: Vec<_> = map.verdicts().cloned().collect();
            *map = map.keys().zip(verdicts.into_iter().rev().map(Some)).collect();
        },
        "leads 10.244.1.10 to",
    ),
    (
        "an address that is no longer of this node",
        |kernel| remove_first(set_of(inet(kernel), "LOCAL-4")),
        "LOCAL-4 of table inet bridgewarden lacks",
    ),
    (
        "an address that never was of this node",
        |kernel| {
            set_of(inet(kernel), "LOCAL-4").insert(&[10, 244, 1, 77], None);
        },
        "10.244.1.77 too many",
    ),
    ("a lost member", |kernel| remove_first(set_of(inet(kernel), "-P4-")), "lacks 10.244."),
    (
        "a member too many",
        |kernel| {
            set_of(inet(kernel), "-P4-").insert(&[10, 244, 2, 21], None);
        },
        "10.244.2.21 too many",
    ),
    (
        "a block without its exception",
        |kernel| {
            let blocks = set_of(inet(kernel), "-B4-");
            *blocks = [([203, 0, 113, 0, 203, 0, 113, 255], None)].into();
        },
        "203.0.113.0-203.0.113.255 too many",
    ),
    (
        "no rules of IPv6",
        |kernel| *set_of(inet(kernel), "ISOLATED-INGRESS-6") = Elements::new(),
        "ISOLATED-INGRESS-6 of table inet bridgewarden lacks",
    ),
    (
        "a wrong mark of bridged frames",
        |kernel| {
            for chain in bridge(kernel).chains.values_mut() {
                for rule in &mut chain.rules {
                    let mut statements = rule.statements().to_vec();
                    for statement in &mut statements {
                        if let Statement::SetMark(bits) = statement {
                            *bits = 0x20000;
                        }
                    }
                    *rule = statements.into();
                }
            }
            // Then an address that no pod has is refused on the bridge as if it were routed: only to deny what is allowed.
            *set_of(inet(kernel), "LOCAL-4") = Elements::new();
        },
        "LOCAL-4",
    ),
];

#[test]
fn faults_in_the_table_of_nftables_are_found_and_named() {
    find_all(BackendName::Nftables, &OF_NFTABLES);
}
