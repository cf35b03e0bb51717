//! Ends that share a row: none of their connections is lost, and each is known by its own name.

use crate::{run, stderr, stdout, with_input};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use support::{manifest, worlds};

/// What a document of `reach -o json` says, member by member: source, destination, family and ports.
fn pairs(document: &Value) -> BTreeSet<(String, String, String, String)> {
    let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for end in document["ends"].as_array().expect("ends") {
        let own = end.get("workloads").unwrap_or(&end["prefixes"]).as_array().expect("members");
        let own = own.iter().map(|member| member.as_str().expect("text")).collect();
        let name = end["name"].as_str().expect("a name");
        assert!(members.insert(name, own).is_none(), "two ends are called {name}");
    }
    let mut pairs = BTreeSet::new();
    for connection in document["connections"].as_array().expect("connections") {
        let of = |field: &str| &members[connection[field].as_str().expect("a name")];
        for (family, ports) in connection["allowed"].as_object().expect("families") {
            for (from, to) in of("from").iter().flat_map(|from| of("to").iter().map(move |to| (from, to))) {
                // A prefix has one family, and a pod has no connection to itself.
                let fits = |end: &str| {
                    !end.contains(if family == "IPv4" { "::" } else { "." }) || end.contains("/p")
                };
                if from != to && fits(from) && fits(to) {
                    pairs.insert((from.to_string(), to.to_string(), family.clone(), ports.to_string()));
                }
            }
        }
    }
    pairs
}

/// Random clusters, of which a namespace or some ends are selected.
#[test]
fn grouped_ends_hold_exactly_the_connections_of_ends_apart() {
    let mut found = 0;
    for seed in 0..24 {
        let world = worlds::world(seed);
        let pods: Vec<String> = world
            .pods
            .iter()
            .map(|pod| {
                format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or("default"), pod.metadata.name)
            })
            .collect();
        let namespace = pods[seed as usize % pods.len()].split('/').next().expect("a namespace").to_owned();
        let text = manifest::write(&world);
        // None if the namespace has no pods with a network of their own.
        let reach = |selection: &[&str], group: &str| -> Option<Value> {
            let output = with_input(
                &[&["reach", "-f", "-", "-o", "json", "--group", group], selection].concat(),
                &text,
            );
            let printed = stdout(&output);
            assert!(!printed.is_empty() || stderr(&output).contains("no connection is selected"));
            (!printed.is_empty()).then(|| serde_json::from_str(&printed).expect("JSON"))
        };
        let at = |place: usize| pods[(seed as usize + place) % pods.len()].as_str();
        for selection in [
            vec![],
            vec!["-n", &namespace],
            vec!["-n", &namespace, "--to", "outside", "--to", at(1)],
            vec!["--from", at(0), "--from", at(1), "--to", at(0), "--to", at(2), "--to", at(3)],
        ] {
            let [apart, together] = ["none", "alike"]
                .map(|group| reach(&selection, group).map(|document| pairs(&document)).unwrap_or_default());
            assert_eq!(apart, together, "world {seed}, {selection:?}");
            found += apart.len();
        }
    }
    assert!(found > 1000, "{found}");
}

#[test]
fn addresses_outside_of_both_families_that_share_a_row_have_both_in_json() {
    let printed = run(&["reach", "-f", "examples/shop", "-o", "json", "--from", "kube-system/coredns-1"]);
    let document: Value = serde_json::from_str(&stdout(&printed)).expect("JSON");
    let all = |family: &str| {
        let to = |prefix: &str| {
            let is = |(_, to, own, ports): &(String, String, String, String)| {
                to == prefix && own == family && ports == "[\"all\"]"
            };
            pairs(&document).iter().any(is)
        };
        if family == "IPv4" { to("203.0.113.66/32") } else { to("::/0") }
    };
    assert!(all("IPv4") && all("IPv6"), "{document:#}");
}

/// Two ends that begin with the same addresses, and two groups that begin with the same pod.
#[test]
fn ends_that_stand_for_different_members_have_different_names_in_every_format() {
    let block = |list: &[&str]| {
        let blocks: Vec<String> = list.iter().map(|cidr| format!("{{ipBlock: {cidr}}}")).collect();
        blocks.join(", ")
    };
    let common = ["{cidr: 192.0.2.0/28}", "{cidr: 192.0.2.32/28}"];
    let ingress = block(
        &[&common[..], &["{cidr: 0.0.0.0/0, except: [203.0.113.0/24]}", "{cidr: 198.51.100.0/24}"]].concat(),
    );
    let egress = block(
        &[&common[..], &["{cidr: 0.0.0.0/0, except: [198.51.100.0/24]}", "{cidr: 203.0.113.0/24}"]].concat(),
    );
    let text = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: s}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p, namespace: s}}
spec:
  podSelector: {{}}
  policyTypes: [Ingress, Egress]
  ingress: [{{from: [{ingress}]}}]
  egress: [{{to: [{egress}]}}]
"
    );
    let alike: String = ["a", "b", "c"]
        .map(|name| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n"))
        .concat();
    let ends = ["--from", "default/a", "--from", "default/b", "--to", "default/a", "--to", "default/c"];
    for (text, selection) in [(&text, &[][..]), (&alike, &ends[..])] {
        for format in ["json", "csv", "dot", "table", "md"] {
            let arguments = [&["reach", "-f", "-", "--group", "alike", "-o", format], selection].concat();
            let printed = stdout(&with_input(&arguments, text));
            match format {
                "json" => assert!(!pairs(&serde_json::from_str(&printed).expect("JSON")).is_empty()),
                "csv" => assert!(!printed.contains("more"), "{printed}"),
                "md" => assert!(printed.contains("\\[2\\]"), "{printed}"),
                _ => assert!(printed.contains("[2]"), "{printed}"),
            }
        }
    }
}

/// With more ends than a table shows, a program still gets a line for each pair.
#[test]
fn csv_has_a_line_for_each_pair_however_many_there_are() {
    let pod = |number: usize| {
        format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: s}}\n")
    };
    let text: String = (0..70).map(pod).collect();
    let printed = stdout(&with_input(&["reach", "-f", "-", "-o", "csv", "-n", "s", "--to", "s"], &text));
    assert_eq!(printed.lines().count(), 1 + 70 * 69 + 70, "{}", &printed[..200]);
}
