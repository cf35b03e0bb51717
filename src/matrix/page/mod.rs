//! The matrix as one page of HTML: with a filter, a graph, and the policies behind each cell. `reach` prints it as one file that needs
//! nothing else; the agent serves that of its node, with its style and scripts as files beside it and what changes above the matrix.

mod once;

use super::matrix_end::MatrixEnd;
use super::reach_matrix::{LinesLeftOut, ReachMatrix};
use crate::model::{Direction, PodKey, PolicyKey, Snapshot};
use crate::net::Family;
use crate::reach::{AllowingRule, DirectionReason, Reach};
use once::Once;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The page, with places for its parts: `{{title}}`, `{{style}}`, `{{live}}`, `{{data}}`, `{{script}}`.
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// What the page of an agent has besides: denied flows and health, which its script asks for again and again.
const LIVE: &str = include_str!("live.html");
const LIVE_SCRIPT: &str = include_str!("live.js");

/// The title of a page of a whole cluster.
const TITLE: &str = "Who can reach whom";

/// A file that belongs to the page of a node.
#[derive(Clone, Copy, Debug)]
pub struct PageFile {
    /// Its path, beside the page at `/`.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// What is in it.
    pub text: &'static str,
}

/// The files of the page of a node. Nothing is inline there, so that its Content-Security-Policy forbids everything else.
pub const PAGE_FILES: [PageFile; 3] = [
    PageFile { path: "/page.css", media_type: "text/css; charset=utf-8", text: STYLE },
    PageFile { path: "/page.js", media_type: "text/javascript; charset=utf-8", text: SCRIPT },
    PageFile { path: "/live.js", media_type: "text/javascript; charset=utf-8", text: LIVE_SCRIPT },
];

/// The page of a matrix, in one file.
pub(crate) fn reach_page(snapshot: &Snapshot, reach: &Reach, matrix: &ReachMatrix<'_>) -> String {
    let mut data = PageData::default();
    data.add(snapshot, reach, matrix, "", "");
    let [style, script] = [format!("<style>\n{STYLE}</style>"), format!("<script>\n{SCRIPT}</script>")];
    filled(&[
        ("title", TITLE),
        ("style", &style),
        ("live", ""),
        ("data", &data.text("")),
        ("script", &script),
    ])
}

/// The page that an agent serves of its node: what its pods reach, and what reaches them, as the policies of a snapshot have it.
/// The pods are those of this node; `time` says when the snapshot was taken.
///
/// The time it takes grows with the pods and policies of the cluster; its size is bounded.
pub fn node_page(node: &str, time: &str, snapshot: &Snapshot) -> String {
    let of_node = snapshot.pods.iter().filter(|(_, pod)| pod.node.as_deref() == Some(node));
    let pods: BTreeSet<PodKey> = of_node.map(|(key, _)| key.clone()).collect();
    let reach = Reach::new(snapshot);
    let mut data = PageData::default();
    if !pods.is_empty() {
        for (direction, title) in
            [(Direction::Egress, "from pods of this node"), (Direction::Ingress, "to pods of this node")]
        {
            let (matrix, left_out) = ReachMatrix::of_pods(snapshot, &reach, &pods, direction);
            data.add(snapshot, &reach, &matrix, title, &remark(time, left_out));
        }
    }
    served(node, &data.text("No pod of this node has an address."))
}

/// The same without a matrix, and why there is none.
pub fn node_page_without_matrix(node: &str, why: &str) -> String {
    served(node, &PageData::default().text(why))
}

fn remark(time: &str, left_out: LinesLeftOut) -> String {
    let mut text = format!("; policies as known at {time}");
    for (count, what) in [(left_out.own, "workloads of this node"), (left_out.others, "other ends")] {
        if count > 0 {
            text.push_str(&format!("; {count} {what} are left out: `bridgewarden reach` shows all"));
        }
    }
    text
}

fn served(node: &str, data: &str) -> String {
    let title = format!("Who can reach whom on {}", escaped(node));
    let style = "<link rel=\"stylesheet\" href=\"page.css\">";
    let script = "<script src=\"page.js\"></script>\n<script src=\"live.js\"></script>";
    filled(&[("title", &title), ("style", style), ("live", LIVE), ("data", data), ("script", script)])
}

/// The page with its parts. What is in a part is not looked at again.
fn filled(parts: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = PAGE;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, after)| Some((before, after.split_once("}}")?)))
    {
        text.push_str(before);
        text.push_str(parts.iter().find(|(own, _)| *own == name).map_or("", |(_, part)| part));
        rest = after;
    }
    text + rest
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What the page's script reads. Words and reasons are written once for all matrices.
#[derive(Default)]
struct PageData {
    words: Once,
    reasons: Once,
    matrices: Vec<Value>,
}

impl PageData {
    fn add(
        &mut self,
        snapshot: &Snapshot,
        reach: &Reach,
        matrix: &ReachMatrix<'_>,
        title: &str,
        remark: &str,
    ) {
        let mut cells = Vec::with_capacity(matrix.sources.len() * matrix.destinations.len());
        for (row, source) in matrix.sources.iter().enumerate() {
            for (column, destination) in matrix.destinations.iter().enumerate() {
                let Some(cell) = matrix.cell(row, column) else {
                    cells.push(Value::Null);
                    continue;
                };
                let families = [(Family::V4, cell.v4), (Family::V6, cell.v6)];
                let families =
                    families.into_iter().filter(|(_, ports)| ports.is_some()).map(|(family, _)| family);
                let families: Vec<Family> = families.collect();
                let mut reason = |direction| {
                    let of = |family| {
                        Some((family, reach.reason(source.class, destination.class, family, direction)?))
                    };
                    let reasons: Vec<_> = families.iter().copied().filter_map(of).collect();
                    let reason = of_reasons(snapshot, direction, &reasons)?;
                    Some(self.reasons.number(reason))
                };
                let egress = if source.is_outside() { None } else { reason(Direction::Egress) };
                let ingress = if destination.is_outside() { None } else { reason(Direction::Ingress) };
                cells.push(json!([self.words.number(json!(cell.words())), egress, ingress]));
            }
        }
        self.matrices.push(json!({
            "title": title,
            "remark": remark,
            "sources": of_ends(&matrix.sources, 0),
            "destinations": of_ends(&matrix.destinations, 1),
            "cells": cells,
        }));
    }

    /// As JSON in which nothing can end the element that it is in. `note` is what is shown if there is no matrix.
    fn text(&self, note: &str) -> String {
        let data = json!({
            "matrices": self.matrices,
            "words": self.words.values(),
            "reasons": self.reasons.values(),
            "note": note,
        });
        data.to_string().replace('<', "\\u003c")
    }
}

fn of_ends(ends: &[MatrixEnd], direction: usize) -> Vec<Value> {
    let of = |end: &MatrixEnd| {
        let isolated = end.isolated.is_some_and(|isolated| isolated[direction]);
        json!({"name": end.label(), "namespace": end.namespace(), "isolated": isolated})
    };
    ends.iter().map(of).collect()
}

/// The reasons in each family that a pair has, as one: a rule that allows something in one of two families alone says in which.
fn of_reasons(
    snapshot: &Snapshot,
    direction: Direction,
    reasons: &[(Family, DirectionReason)],
) -> Option<Value> {
    let (_, first) = reasons.first()?;
    let origin = |key: &PolicyKey| snapshot.origins.get(key);
    let policy = |key: &PolicyKey| match origin(key) {
        Some(origin) => format!("{key} ({origin})"),
        None => key.to_string(),
    };
    let mut allowing: Vec<(&AllowingRule, Option<Family>)> = Vec::new();
    for (family, reason) in reasons {
        for rule in &reason.allowing {
            let everywhere = reasons.iter().all(|(_, other)| other.allowing.contains(rule));
            if !everywhere {
                allowing.push((rule, Some(*family)));
            } else if !allowing.contains(&(rule, None)) {
                allowing.push((rule, None));
            }
        }
    }
    // Policies and rules in their order, whatever the family.
    allowing.sort_by_key(|(rule, family)| (&rule.policy, rule.rule, *family));
    let allowing = allowing.into_iter().map(|(rule, family)| {
        let place = format!("{} {direction}[{}]", rule.policy, rule.rule);
        let place = match origin(&rule.policy) {
            Some(origin) => format!("{place} ({})", origin.of_rule(direction, rule.rule)),
            None => place,
        };
        let place = family.map_or_else(|| place.clone(), |family| format!("{place}, {family} only"));
        json!({"rule": place, "ports": rule.ports.to_string()})
    });
    let isolating: Vec<String> = first.isolating.iter().map(policy).collect();
    Some(json!({"isolating": isolating, "allowing": allowing.collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AuditLabel, Demand, Labels, Owner, Peers, Pod, Policy, PolicyVersion, Ports, Requirement, Rule,
        Selector,
    };
    use crate::net::PortSet;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn labels(app: usize) -> Labels {
        Labels::new(&BTreeMap::from([("app".to_owned(), format!("app-{app}"))]))
    }

    /// Pods of `apps` workloads, each with a policy of its own; the first hundred are on node-a.
    fn cluster(pods: u32, apps: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for number in 0..pods {
            let app = number as usize % apps;
            let key = PodKey::new("shop", &format!("pod-{number}"));
            let owner = Owner { kind: "StatefulSet".into(), name: format!("app-{app}").into() };
            let pod = Pod {
                node: Some(if number < 100 { "node-a".into() } else { "node-b".into() }),
                owner: Some(owner.into()),
                labels: labels(app),
                addresses: vec![Ipv4Addr::from(0x0a00_0000 + number).into()],
                ..Pod::new(key.clone())
            };
            snapshot.pods.insert(key, pod);
        }
        for app in 0..apps {
            let key = PolicyKey::new("shop", &format!("app-{app}"));
            let value = Demand::In([Box::from(format!("app-{app}"))].into());
            let policy = Policy {
                key: key.clone(),
                uid: None,
                version: PolicyVersion::default(),
                subject: Selector::new([Requirement { key: "app".into(), demand: value }]),
                ingress: Some(vec![Rule { index: 0, peers: Peers::Anywhere, ports: Ports::All }]),
                egress: None,
                invalid_parts: Vec::new(),
                audit: AuditLabel::default(),
            };
            snapshot.policies.insert(key, policy);
        }
        snapshot
    }

    #[test]
    fn page_of_a_node_in_a_cluster_of_ten_thousand_pods_is_bounded_and_says_what_it_lacks() {
        let page = node_page("node-a", "now", &cluster(10_000, 500));
        assert!(page.len() < 4_000_000, "{} bytes", page.len());
        assert!(
            page.contains("; policies as known at now; 302 other ends are left out"),
            "{}",
            &page[..2000]
        );
        assert!(page.contains("any IPv4 address outside") || page.contains("any address outside"));
    }

    #[test]
    fn rule_that_allows_in_one_of_two_families_alone_says_in_which() {
        let rule = |number: usize| AllowingRule {
            policy: PolicyKey::new("shop", "web"),
            rule: number,
            ports: PortSet::all(),
        };
        let reason = |rules: &[usize]| DirectionReason {
            isolating: vec![PolicyKey::new("shop", "web")],
            allowing: rules.iter().map(|number| rule(*number)).collect(),
        };
        let of = |reasons: &[(Family, DirectionReason)]| {
            let value = of_reasons(&Snapshot::default(), Direction::Ingress, reasons).expect("a reason");
            let rules = value["allowing"].as_array().expect("a list").iter();
            rules.map(|rule| rule["rule"].as_str().expect("text").to_owned()).collect::<Vec<String>>()
        };
        let differ = [(Family::V4, reason(&[0, 2])), (Family::V6, reason(&[1, 2]))];
        let rules =
            ["shop/web ingress[0], IPv4 only", "shop/web ingress[1], IPv6 only", "shop/web ingress[2]"];
        assert_eq!(of(&differ), rules);
        let same = [(Family::V4, reason(&[0])), (Family::V6, reason(&[0]))];
        assert_eq!(of(&same), ["shop/web ingress[0]"]);
        assert_eq!(of(&same[1..]), ["shop/web ingress[0]"], "a pair of one family says nothing of families");
        assert!(of(&[(Family::V4, reason(&[])), (Family::V6, reason(&[]))]).is_empty());
    }

    #[test]
    fn name_of_a_node_and_texts_of_the_cluster_end_no_element() {
        let page = node_page_without_matrix("<b>&\"", "</script><script>alert(1)</script>");
        assert!(page.contains("<h1>Who can reach whom on &lt;b&gt;&amp;&quot;</h1>"), "{page}");
        assert!(!page.contains("alert(1)</script>"), "{page}");
    }
}
