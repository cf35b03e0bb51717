//! A policy as YAML that kubectl takes.

use crate::model::{
    Demand, Direction, NamespaceScope, Peer, Peers, Policy, PortMatch, Ports, Requirement, Rule, Selector,
};
use std::io::{self, Write};

/// Writes a policy as one YAML document.
pub(super) fn write(policy: &Policy, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:")?;
    writeln!(out, "  name: {}", text(&policy.key.name))?;
    writeln!(out, "  namespace: {}", text(policy.key.namespace.as_str()))?;
    writeln!(out, "spec:")?;
    selector(&policy.subject, "podSelector", "  ", "  ", out)?;
    writeln!(out, "  policyTypes:")?;
    for direction in Direction::BOTH.into_iter().filter(|direction| policy.rules(*direction).is_some()) {
        writeln!(out, "  - {}", if direction == Direction::Egress { "Egress" } else { "Ingress" })?;
    }
    for direction in Direction::BOTH {
        let Some(rules) = policy.rules(direction) else { continue };
        writeln!(out, "  {direction}:")?;
        rules.iter().try_for_each(|rule| write_rule(rule, direction, out))?;
    }
    Ok(())
}

fn write_rule(rule: &Rule, direction: Direction, out: &mut impl Write) -> io::Result<()> {
    let mut lead = "  - ";
    if let Peers::Listed(peers) = &rule.peers {
        writeln!(out, "{lead}{}:", if direction == Direction::Egress { "to" } else { "from" })?;
        lead = "    ";
        peers.iter().try_for_each(|peer| write_peer(peer, out))?;
    }
    match &rule.ports {
        Ports::All if lead == "  - " => writeln!(out, "  - {{}}"),
        Ports::All => Ok(()),
        Ports::Listed(ports) => {
            writeln!(out, "{lead}ports:")?;
            ports.iter().try_for_each(|port| write_port(port, out))
        }
    }
}

fn write_peer(peer: &Peer, out: &mut impl Write) -> io::Result<()> {
    match peer {
        Peer::Block(block) => {
            writeln!(out, "    - ipBlock:\n        cidr: {}", text(&block.cidr.to_string()))?;
            if !block.except.is_empty() {
                writeln!(out, "        except:")?;
            }
            block
                .except
                .iter()
                .try_for_each(|except| writeln!(out, "        - {}", text(&except.to_string())))
        }
        Peer::Pods { namespaces: NamespaceScope::Own, pods } => {
            selector(pods, "podSelector", "    - ", "      ", out)
        }
        Peer::Pods { namespaces: NamespaceScope::Matching(namespaces), pods } => {
            selector(namespaces, "namespaceSelector", "    - ", "      ", out)?;
            selector(pods, "podSelector", "      ", "      ", out)
        }
    }
}

fn write_port(port: &PortMatch, out: &mut impl Write) -> io::Result<()> {
    match port {
        PortMatch::Protocol(protocol) => writeln!(out, "    - protocol: {protocol}"),
        PortMatch::Named(protocol, name) => {
            writeln!(out, "    - protocol: {protocol}\n      port: {}", text(name))
        }
        PortMatch::Numbered(protocol, range) => {
            writeln!(out, "    - protocol: {protocol}\n      port: {}", range.first())?;
            if range.last() > range.first() {
                writeln!(out, "      endPort: {}", range.last())
            } else {
                Ok(())
            }
        }
    }
}

/// A selector under its name: the first line begins with `lead`, the others with `indent`.
fn selector(
    selector: &Selector,
    name: &str,
    lead: &str,
    indent: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    if *selector == Selector::everything() {
        return writeln!(out, "{lead}{name}: {{}}");
    }
    writeln!(out, "{lead}{name}:")?;
    let (labels, expressions): (Vec<&Requirement>, Vec<&Requirement>) =
        selector.requirements().partition(|requirement| match &requirement.demand {
            Demand::In(values) => values.len() == 1,
            Demand::NotIn(_) | Demand::Exists | Demand::DoesNotExist => false,
        });
    if !labels.is_empty() {
        writeln!(out, "{indent}  matchLabels:")?;
    }
    for Requirement { key, demand } in labels {
        if let Demand::In(values) = demand {
            let values = values.iter().map(|value| text(value)).collect::<String>();
            writeln!(out, "{indent}    {}: {values}", text(key))?;
        }
    }
    if !expressions.is_empty() {
        writeln!(out, "{indent}  matchExpressions:")?;
    }
    for Requirement { key, demand } in expressions {
        let (operator, values) = match demand {
            Demand::In(values) => ("In", Some(values)),
            Demand::NotIn(values) => ("NotIn", Some(values)),
            Demand::Exists => ("Exists", None),
            Demand::DoesNotExist => ("DoesNotExist", None),
        };
        writeln!(out, "{indent}  - key: {}\n{indent}    operator: {operator}", text(key))?;
        if let Some(values) = values {
            let values: Vec<String> = values.iter().map(|value| text(value)).collect();
            writeln!(out, "{indent}    values: [{}]", values.join(", "))?;
        }
    }
    Ok(())
}

/// A string as YAML: in quotes, unless it can be nothing but a string. Names, label keys and prefixes contain nothing that must be
/// escaped.
fn text(value: &str) -> String {
    let begins = value.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let plain =
        value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'/' | b'_'));
    let word =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&&*value.to_lowercase());
    if begins && plain && !word { value.to_owned() } else { format!("\"{value}\"") }
}
