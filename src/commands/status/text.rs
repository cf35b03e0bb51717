//! A status for people.

use crate::flow::LiveFlows;
use crate::status::{AgentStatus, PolicyState, PolicyStatus, StatedVersion};
use std::io::{Result, Write};

/// What stands for something that is not known.
const NONE: &str = "-";

/// Prints the live connections of one node's pods; of several nodes, each line names its own.
pub(super) fn print_connections(flows: &LiveFlows, of_several: bool, out: &mut impl Write) -> Result<()> {
    let node = if of_several { format!("{}: ", flows.node) } else { String::new() };
    for flow in &flows.flows {
        let count = match flow.connections {
            1 => String::new(),
            count => format!(", {count} connections"),
        };
        writeln!(out, "{node}{flow}{count}")?;
    }
    match flows.left_out {
        0 => Ok(()),
        more => writeln!(out, "{node}and {more} connections more, which the agent does not report"),
    }
}

/// Prints the status of one agent.
pub(super) fn print(status: &AgentStatus, out: &mut impl Write) -> Result<()> {
    let AgentStatus { node, backend, last_sync, last_verification, .. } = status;
    let ready = if status.ready { "ready" } else { "not ready" };
    writeln!(out, "{node}: {ready}, version {}, {backend}", version(status))?;
    for (check, problem) in status.problems() {
        writeln!(out, "  {check}: {problem}")?;
    }
    for check in &status.checks {
        for remark in &check.remarks {
            writeln!(out, "  remark of {}: {remark}", check.name)?;
        }
    }
    writeln!(out, "last sync          {}", last_sync.as_deref().unwrap_or("none yet"))?;
    writeln!(out, "last verification  {}", last_verification.as_deref().unwrap_or("none yet"))?;
    let (Some(counts), Some(policies)) = (&status.counts, &status.policies) else {
        return writeln!(out, "policies           not known before the first lists are complete");
    };
    writeln!(
        out,
        "policies           {}, of which {} select pods of this node and {} are not in force as they are known",
        counts.policies, counts.active_policies, counts.pending_policies
    )?;
    writeln!(
        out,
        "pods               {} on this node, {} isolated",
        counts.local_pods, counts.isolated_pods
    )?;
    for kernel in &counts.kernel {
        let family = format!("kernel, {}", kernel.family);
        let (chains, rules, sets, elements) = (kernel.chains, kernel.rules, kernel.sets, kernel.elements);
        writeln!(out, "{family:<18} {chains} chains, {rules} rules, {sets} sets with {elements} elements")?;
    }
    if policies.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut rows = vec![["POLICY", "STATE", "KNOWN", "IN FORCE", "PODS"].map(str::to_owned)];
    rows.extend(policies.iter().map(row));
    let lines = aligned(&rows);
    let notes = std::iter::once(Vec::new()).chain(policies.iter().map(notes));
    for (line, notes) in lines.iter().zip(notes) {
        writeln!(out, "{line}")?;
        for note in notes {
            writeln!(out, "  {note}")?;
        }
    }
    Ok(())
}

/// The program's version, with the commit that it was built from if that is known.
pub(super) fn version(status: &AgentStatus) -> String {
    match &status.revision {
        Some(revision) => format!("{} ({revision})", status.version),
        None => status.version.clone(),
    }
}

/// The columns of a policy.
pub(super) fn row(policy: &PolicyStatus) -> [String; 5] {
    let known = policy.received.as_ref().map_or("deleted".to_owned(), shown);
    let in_force = policy.in_force.as_ref().map_or(NONE.to_owned(), shown);
    [
        format!("{}/{}", policy.namespace, policy.name),
        state(policy).to_owned(),
        known,
        in_force,
        policy.pods.to_string(),
    ]
}

/// The state of a policy in words.
fn state(policy: &PolicyStatus) -> &'static str {
    match policy.state {
        PolicyState::InForce if policy.audited => "audited",
        PolicyState::InForce => "in force",
        PolicyState::Pending => "pending",
        PolicyState::Deleting => "deleting",
    }
}

/// The generation; the resourceVersion if there is none.
fn shown(version: &StatedVersion) -> String {
    let generation = version.generation.map(|generation| generation.to_string());
    generation.or_else(|| version.resource_version.clone()).unwrap_or_else(|| NONE.to_owned())
}

/// What else is to be said of a policy.
pub(super) fn notes(policy: &PolicyStatus) -> Vec<String> {
    let waits = policy.waits_for.iter().map(|what| format!("waits for {what}"));
    waits.chain(policy.refused.iter().map(|part| format!("allows nothing: {part}"))).collect()
}

/// Lines with columns of equal width.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::document;
    use crate::status::{AgentCounts, CheckStatus, KernelCounts};
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn status() -> AgentStatus {
        let version = |generation| StatedVersion {
            generation: Some(generation),
            resource_version: Some(format!("{generation}00")),
        };
        let web = PolicyStatus {
            namespace: "shop".into(),
            name: "web".into(),
            uid: Some("a".into()),
            state: PolicyState::InForce,
            audited: false,
            pods: 2,
            received: Some(version(3)),
            in_force: Some(version(3)),
            waits_for: None,
            refused: Vec::new(),
        };
        let api = PolicyStatus {
            name: "api".into(),
            state: PolicyState::Pending,
            in_force: Some(version(2)),
            waits_for: Some("its sets".into()),
            refused: vec!["spec.ingress[0]: bad".into()],
            ..web.clone()
        };
        let old = PolicyStatus {
            name: "old".into(),
            state: PolicyState::Deleting,
            received: None,
            pods: 0,
            ..web.clone()
        };
        let check = |name: &str, problem: Option<&str>, remark: Option<&str>| CheckStatus {
            name: name.into(),
            problem: problem.map(str::to_owned),
            remarks: remark.map(str::to_owned).into_iter().collect(),
        };
        AgentStatus {
            time: "2026-01-02T03:04:05.000Z".into(),
            node: "node-a".into(),
            version: "0.1.0".into(),
            revision: Some("abc".into()),
            backend: "nftables".into(),
            ready: false,
            checks: vec![
                check("sync", Some("the kernel refuses"), None),
                check("watch", None, Some("old news")),
            ],
            last_sync: Some("2026-01-02T03:04:00.000Z".into()),
            last_verification: None,
            counts: Some(AgentCounts {
                policies: 2,
                active_policies: 2,
                pending_policies: 2,
                local_pods: 3,
                isolated_pods: 2,
                kernel: vec![KernelCounts {
                    family: "ipv4".into(),
                    chains: 1,
                    rules: 2,
                    sets: 3,
                    elements: 4,
                }],
            }),
            policies: Some(vec![api, old, web]),
        }
    }

    fn printed(status: &AgentStatus) -> String {
        let mut out = Vec::new();
        print(status, &mut out).expect("it is printed");
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn text_says_what_is_wrong_and_which_version_of_each_policy_is_in_force() {
        let wanted = "node-a: not ready, version 0.1.0 (abc), nftables
  sync: the kernel refuses
  remark of watch: old news
last sync          2026-01-02T03:04:00.000Z
last verification  none yet
policies           2, of which 2 select pods of this node and 2 are not in force as they are known
pods               3 on this node, 2 isolated
kernel, ipv4       1 chains, 2 rules, 3 sets with 4 elements

POLICY    STATE     KNOWN    IN FORCE  PODS
shop/api  pending   3        2         2
  waits for its sets
  allows nothing: spec.ingress[0]: bad
shop/old  deleting  deleted  3         0
shop/web  in force  3        3         2
";
        assert_eq!(printed(&status()), wanted);
        let starting = AgentStatus { counts: None, policies: None, ..status() };
        assert!(printed(&starting).ends_with("not known before the first lists are complete\n"));
    }

    fn names(value: &Value) -> BTreeSet<&str> {
        value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn json_has_the_fields_of_its_schema_and_is_read_as_it_was_written() {
        let schema: Value =
            serde_json::from_str(include_str!("../../../docs/status.schema.json")).expect("it is JSON");
        let json = document(&status());
        assert_eq!(names(&json), names(&schema["properties"]));
        let parts = [
            ("/checks/0", "/properties/checks/items"),
            ("/counts", "/properties/counts"),
            ("/counts/kernel/0", "/properties/counts/properties/kernel/items"),
            ("/policies/0", "/properties/policies/items"),
            ("/policies/0/received", "/$defs/version"),
        ];
        for (part, shape) in parts {
            let (own, wanted) = (json.pointer(part), schema.pointer(shape).map(|shape| &shape["properties"]));
            assert_eq!(names(own.expect(part)), names(wanted.expect(shape)), "{part}");
        }
        assert_eq!(serde_json::from_value::<AgentStatus>(json).expect("it is a status"), status());
    }
}
