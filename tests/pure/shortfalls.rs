//! Parts of policies that cannot be enforced as written are reported, once in a cluster, with what to do.

use bridgewarden::compile::{Plan, shortfalls};
use bridgewarden::model::{Change, Cluster, NamedPort, Pod, PodKey};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::source::convert;
use serde_json::{Value, json};

const BOTH: [Family; 2] = Family::BOTH;

fn policy(spec: Value) -> Change {
    let object = json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}, "spec": spec});
    Change::Policy(convert::policy(&serde_json::from_value(object).expect("an object of the API's shape")))
}

fn pod(name: &str, node: &str, port: Option<&str>, address: &str) -> Change {
    Change::Pod(Pod {
        node: Some(node.into()),
        ports: port
            .map(|name| NamedPort { name: name.into(), protocol: Protocol::Tcp, port: 80 })
            .into_iter()
            .collect(),
        addresses: vec![address.parse().expect("an address")],
        ..Pod::new(PodKey::new("shop", name))
    })
}

/// What node `a` reports, as `reason: note`.
fn notes(changes: impl IntoIterator<Item = Change>, families: &[Family]) -> Vec<String> {
    let mut cluster = Cluster::new("a");
    let mut plan = Plan::default();
    for change in changes {
        let touched = cluster.apply(change);
        plan.update(&cluster, &touched);
    }
    let found = shortfalls(&cluster, &plan, families);
    found.into_iter().map(|found| format!("{}: {}", found.reason.word(), found.note)).collect()
}

fn labelled(kind: &str, value: &str) -> Change {
    let labels = json!({"bridgewarden.io/audit": value});
    if kind == "policy" {
        let object = json!({"metadata": {"namespace": "shop", "name": "web", "labels": labels}, "spec": {}});
        return Change::Policy(convert::policy(&serde_json::from_value(object).expect("a policy")));
    }
    let object = json!({"metadata": {"name": "shop", "labels": labels}});
    Change::Namespace(convert::namespace(&serde_json::from_value(object).expect("a namespace")))
}

#[test]
fn label_for_audit_mode_with_an_unknown_value_is_reported_unless_the_policy_is_audited_all_the_same() {
    let with = |policy: &str, namespace: &str| {
        let pod = pod("web", "a", None, "10.0.0.1");
        notes([pod, labelled("namespace", namespace), labelled("policy", policy)], &BOTH)
    };
    let note = |owner: &str, value: &str| {
        format!(
            "the label bridgewarden.io/audit of the {owner} is `{value}`, so it is enforced: for audit mode write \"true\""
        )
    };
    for (policy, namespace) in
        [("false", "false"), ("true", "false"), ("false", "true"), ("True", "true"), ("true", "yes")]
    {
        assert_eq!(with(policy, namespace), Vec::<String>::new(), "{policy} {namespace}");
    }
    let reported = |parts: &[String]| [format!("AuditLabelNotUnderstood: {}", parts.join("; "))];
    assert_eq!(with("True", "false"), reported(&[note("policy", "True")]));
    assert_eq!(with("false", ""), reported(&[note("namespace", "")]));
    assert_eq!(with("on", "1"), reported(&[note("policy", "on"), note("namespace", "1")]));
}

fn named() -> Change {
    policy(json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}))
}

#[test]
fn port_name_that_no_selected_pod_declares_is_reported() {
    let notes = notes([pod("web", "a", Some("https"), "10.0.0.1"), named()], &BOTH);
    assert_eq!(
        notes,
        [
            "NamedPortUnresolved: spec.ingress[0]: no pod that the policy selects declares a TCP port named `http`, so \
          that port allows nothing: name a port of its containers, or write its number"
        ]
    );
}

#[test]
fn port_name_that_one_selected_pod_declares_is_not() {
    let pods = [pod("api", "a", None, "10.0.0.1"), pod("web", "b", Some("http"), "10.0.0.2")];
    assert_eq!(notes(pods.into_iter().chain([named()]), &BOTH), Vec::<String>::new());
}

#[test]
fn port_name_of_egress_is_looked_for_at_the_peers() {
    let spec = |peers: Value| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": peers, "ports": [{"port": "http"}]}]});
    let pods = || [pod("web", "a", Some("http"), "10.0.0.1")];
    let unresolved = |peers: Value| !notes(pods().into_iter().chain([policy(spec(peers))]), &BOTH).is_empty();
    assert!(!unresolved(json!([])));
    assert!(!unresolved(json!([{"podSelector": {}}])));
    assert!(!unresolved(json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}])));
    assert!(unresolved(json!([{"podSelector": {"matchLabels": {"app": "db"}}}])));
    assert!(unresolved(json!([{"namespaceSelector": {"matchLabels": {"team": "x"}}}])));
    assert!(unresolved(json!([{"ipBlock": {"cidr": "11.0.0.0/8"}}])));
}

#[test]
fn only_the_node_of_the_first_selected_pod_speaks() {
    let bad = || policy(json!({"podSelector": {}, "policyTypes": ["Sideways"]}));
    assert_eq!(
        notes([pod("one", "a", None, "10.0.0.1"), pod("two", "b", None, "10.0.0.2"), bad()], &BOTH).len(),
        1
    );
    let other = [pod("one", "b", None, "10.0.0.1"), pod("two", "a", None, "10.0.0.2"), bad()];
    assert_eq!(notes(other, &BOTH), Vec::<String>::new());
}

#[test]
fn block_of_a_family_that_the_node_lacks_is_reported() {
    let blocks = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}]);
    let changes = || {
        [pod("web", "a", None, "10.0.0.1"), policy(json!({"podSelector": {}, "ingress": [{"from": blocks}]}))]
    };
    assert_eq!(notes(changes(), &BOTH), Vec::<String>::new());
    let notes = notes(changes(), &[Family::V4]);
    assert_eq!(notes, ["FamilyDisabled: spec.ingress[0]: fd00::/8 is of IPv6, which the node does not have"]);
}

#[test]
fn all_parts_of_one_reason_are_reported_together() {
    let spec = json!({"podSelector": {}, "ingress": [{"from": [{}, {"ipBlock": {"cidr": "10.0.0.0"}}]}]});
    let notes = notes([pod("web", "a", None, "10.0.0.1"), policy(spec)], &BOTH);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("spec.ingress[0].from[0]") && notes[0].contains("spec.ingress[0].from[1]"),
        "{notes:?}"
    );
}
