//! NetworkPolicy: which directions it isolates, and what each of its rules allows.

use super::rule::rules;
use super::{FieldPath, InvalidParts, namespace_of, reason, selector};
use crate::api;
use crate::model::{AUDIT_LABEL, AuditLabel, Direction, Policy, PolicyKey, PolicyVersion, Selector};

/// Converts a policy. Its invalid parts are listed in it and allow nothing.
///
/// A policy with an invalid podSelector selects every pod of its namespace and allows nothing at all. One with a key
/// in its spec that this version of the API does not have isolates the pods it selects in both directions and allows nothing.
pub fn policy(from: &api::NetworkPolicy) -> Policy {
    let mut invalid = InvalidParts::default();
    let path = FieldPath::Root.field("spec");
    let subject = selector::selector(&from.spec.pod_selector, &path.field("podSelector"), &mut invalid);
    let known = !invalid.add_unknown_fields(&path, &from.spec);
    let types = match PolicyTypes::of(&from.spec, &path, &mut invalid) {
        types if known => types,
        // An unknown field may concern either direction, and may restrict what a rule allows.
        _ => PolicyTypes { ingress: DirectionMode::Isolated, egress: DirectionMode::Isolated },
    };
    let mut rules = |direction| match types.mode(direction) {
        DirectionMode::Unaffected => None,
        DirectionMode::Isolated => {
            let rules = rules(&from.spec, direction, &path, &mut invalid);
            Some(if known && subject.is_some() { rules } else { Vec::new() })
        }
    };
    let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
    Policy {
        key: PolicyKey::new(namespace_of(&from.metadata), &from.metadata.name),
        uid: from.metadata.uid.as_deref().map(Into::into),
        version: version(&from.metadata),
        subject: subject.unwrap_or_else(Selector::everything),
        ingress,
        egress,
        invalid_parts: invalid.0,
        audit: audit(&from.metadata),
    }
}

/// The replacement for a policy that does not have the API's shape: it selects every pod of its namespace and allows nothing. If
/// its label says that it is audited, it is.
pub fn unreadable_policy(metadata: &api::ObjectMeta, fault: &str) -> Policy {
    let mut invalid = InvalidParts::default();
    let message = format!(
        "the policy does not have the shape of networking.k8s.io/v1 ({fault}): correct it; until then it isolates every \
         pod of its namespace and allows nothing"
    );
    invalid.add(&FieldPath::Root.field("spec"), reason::UNREADABLE, message);
    Policy {
        key: PolicyKey::new(namespace_of(metadata), &metadata.name),
        uid: metadata.uid.as_deref().map(Into::into),
        version: version(metadata),
        subject: Selector::everything(),
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
        invalid_parts: invalid.0,
        audit: audit(metadata),
    }
}

fn version(metadata: &api::ObjectMeta) -> PolicyVersion {
    let resource = metadata.resource_version.as_deref().map(Into::into);
    PolicyVersion { generation: metadata.generation, resource }
}

/// What the policy's own label says about audit mode.
fn audit(metadata: &api::ObjectMeta) -> AuditLabel {
    let labels = metadata.labels.as_ref();
    AuditLabel::of_value(labels.and_then(|labels| labels.get(AUDIT_LABEL)).map(String::as_str))
}

/// What a policy does in one direction.
#[derive(Clone, Copy)]
enum DirectionMode {
    /// Nothing: it does not isolate its pods.
    Unaffected,
    /// It isolates its pods, except for what its rules allow.
    Isolated,
}

/// The directions in which a policy isolates its pods (spec.policyTypes).
struct PolicyTypes {
    ingress: DirectionMode,
    egress: DirectionMode,
}

impl PolicyTypes {
    fn of(spec: &api::NetworkPolicySpec, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> PolicyTypes {
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.is_empty() {
            // NetworkPolicySpec.policyTypes: "If this field is not specified, it will default based on the existence
            // of ingress or egress rules; policies that contain an egress section are assumed to affect egress, and
            // all policies are assumed to affect ingress." SetDefaults_NetworkPolicy counts the egress rules.
            let egress = if spec.egress.iter().flatten().next().is_some() {
                DirectionMode::Isolated
            } else {
                DirectionMode::Unaffected
            };
            return PolicyTypes { ingress: DirectionMode::Isolated, egress };
        }
        let path = path.field("policyTypes");
        let mut unlisted = DirectionMode::Unaffected;
        for (index, word) in types.iter().enumerate() {
            if Direction::BOTH.into_iter().all(|direction| type_word(direction) != word) {
                let message = format!(
                    "unknown policy type `{word}`: write `Ingress` or `Egress`; \
                     until then the policy isolates its pods in both directions, except for what its rules allow"
                );
                invalid.add(&path.index(index), reason::BAD_POLICY_TYPE, message);
                unlisted = DirectionMode::Isolated;
            }
        }
        if types.len() > Direction::BOTH.len() {
            let message = "more than two policy types: list `Ingress` and `Egress` once each".to_owned();
            invalid.add(&path, reason::BAD_POLICY_TYPE, message);
        }
        let mode = |direction| match types.iter().any(|word| type_word(direction) == word) {
            true => DirectionMode::Isolated,
            false => unlisted,
        };
        PolicyTypes { ingress: mode(Direction::Ingress), egress: mode(Direction::Egress) }
    }

    fn mode(&self, direction: Direction) -> DirectionMode {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

fn type_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Block, Demand, NamespaceScope, Peer, Peers, PortMatch, Ports, Requirement, Rule};
    use crate::net::{PortRange, Protocol};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    fn converted(spec: Value) -> Policy {
        let object = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        policy(&serde_json::from_value(object).unwrap())
    }

    fn sound(spec: Value) -> Policy {
        let policy = converted(spec);
        assert_eq!(policy.invalid_parts, vec![]);
        policy
    }

    fn invalid_parts(policy: &Policy) -> Vec<(&str, &str)> {
        policy.invalid_parts.iter().map(|part| (part.path.as_str(), part.reason)).collect()
    }

    fn app(value: &str) -> Selector {
        let demand = Demand::In(BTreeSet::from([value.into()]));
        Selector::new([Requirement { key: "app".into(), demand }])
    }

    fn own(pods: Selector) -> Peer {
        Peer::Pods { namespaces: NamespaceScope::Own, pods }
    }

    fn ingress_peers(peers: Value) -> (Peers, Policy) {
        let policy = converted(json!({"ingress": [{"from": peers}]}));
        let rules = policy.ingress.clone().unwrap();
        assert_eq!(rules.len(), 1);
        (rules.into_iter().next().unwrap().peers, policy)
    }

    /// A spec with every part of the API.
    fn whole() -> Value {
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
        });
        let peers = json!([
            {"podSelector": selector, "namespaceSelector": selector},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
        ]);
        let ports = json!([{"protocol": "TCP", "port": 1, "endPort": 2}]);
        json!({
            "podSelector": selector,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": ports}],
            "egress": [{"to": peers, "ports": ports}],
        })
    }

    /// The objects whose fields the API defines, each as a JSON pointer and as a path.
    fn parts(value: &Value, pointer: &str, path: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) => {
                if !path.ends_with("matchLabels") {
                    found.push((pointer.to_owned(), path.to_owned()));
                }
                for (key, value) in fields {
                    parts(value, &format!("{pointer}/{key}"), &format!("{path}.{key}"), found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    parts(value, &format!("{pointer}/{index}"), &format!("{path}[{index}]"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn allowed(policy: &Policy) -> usize {
        let listed = |rule: &Rule| match (&rule.peers, &rule.ports) {
            (Peers::Listed(peers), Ports::Listed(ports)) => peers.len() * ports.len(),
            (Peers::Anywhere, _) | (_, Ports::All) => panic!("nothing here allows all"),
        };
        policy.ingress.iter().chain(&policy.egress).flatten().map(listed).sum()
    }

    #[test]
    fn unknown_field_at_any_level_is_reported_at_its_place_and_never_widens() {
        let whole = whole();
        let sound = sound(whole.clone());
        let mut found = Vec::new();
        parts(&whole, "", "spec", &mut found);
        assert_eq!(found.len(), 21, "{found:?}");
        for (pointer, path) in found {
            let mut spec = whole.clone();
            spec.pointer_mut(&pointer).unwrap()["fromTheFuture"] = json!({"a": [1]});
            let policy = converted(spec);
            assert_eq!(
                invalid_parts(&policy),
                [(format!("{path}.fromTheFuture").as_str(), reason::UNKNOWN_FIELD)]
            );
            assert!(allowed(&policy) < allowed(&sound), "{path}");
            assert!(policy.ingress.is_some() && policy.egress.is_some(), "{path}");
            let selects_all = policy.subject == Selector::everything();
            assert_eq!(selects_all, path.starts_with("spec.podSelector"), "{path}");
            let nothing = path == "spec" || selects_all;
            assert_eq!(nothing, allowed(&policy) == 0, "{path}");
        }
    }

    #[test]
    fn unknown_field_of_a_spec_isolates_in_both_directions_whatever_its_types_are() {
        let policy = converted(json!({"policyTypes": ["Ingress"], "ingress": [{}], "action": "Deny"}));
        assert_eq!((policy.ingress.clone(), policy.egress.clone()), (Some(vec![]), Some(vec![])));
        assert_eq!(invalid_parts(&policy), [("spec.action", reason::UNKNOWN_FIELD)]);
    }

    #[test]
    fn policy_without_namespace_is_in_default() {
        let object = json!({"metadata": {"name": "p"}});
        assert_eq!(policy(&serde_json::from_value(object).unwrap()).key, PolicyKey::new("default", "p"));
    }

    #[test]
    fn policy_without_rules_isolates_its_pods_for_ingress_only() {
        for spec in
            [json!({}), json!({"podSelector": {}}), json!({"ingress": []}), json!({"policyTypes": []})]
        {
            let policy = sound(spec);
            assert_eq!((policy.ingress, policy.egress), (Some(vec![]), None));
            assert_eq!(policy.subject, Selector::everything());
        }
    }

    #[test]
    fn policy_without_types_isolates_for_egress_if_it_has_an_egress_rule() {
        assert_eq!(sound(json!({"egress": []})).egress, None);
        let policy = sound(json!({"egress": [{}]}));
        let anything = Rule { index: 0, peers: Peers::Anywhere, ports: Ports::All };
        assert_eq!((policy.ingress, policy.egress), (Some(vec![]), Some(vec![anything])));
    }

    #[test]
    fn policy_types_decide_which_rules_are_in_force() {
        let rules = |types: Value| {
            let policy = sound(json!({"policyTypes": types, "ingress": [{}], "egress": [{}]}));
            (policy.ingress.map(|rules| rules.len()), policy.egress.map(|rules| rules.len()))
        };
        assert_eq!(rules(json!(["Ingress"])), (Some(1), None));
        assert_eq!(rules(json!(["Egress"])), (None, Some(1)));
        assert_eq!(rules(json!(["Egress", "Ingress"])), (Some(1), Some(1)));
    }

    #[test]
    fn listed_type_without_rules_isolates() {
        let policy = sound(json!({"policyTypes": ["Ingress", "Egress"]}));
        assert_eq!((policy.ingress, policy.egress), (Some(vec![]), Some(vec![])));
    }

    #[test]
    fn unknown_policy_type_isolates_in_both_directions() {
        let policy =
            converted(json!({"policyTypes": ["Ingress", "egress"], "ingress": [{}], "egress": [{}]}));
        assert_eq!(policy.ingress.as_ref().map(Vec::len), Some(1));
        assert_eq!(policy.egress.as_ref().map(Vec::len), Some(1));
        assert_eq!(invalid_parts(&policy), [("spec.policyTypes[1]", reason::BAD_POLICY_TYPE)]);
        let policy = converted(json!({"policyTypes": ["Ingres"], "ingress": [{}]}));
        assert_eq!(policy.ingress.as_ref().map(Vec::len), Some(1));
        assert_eq!(policy.egress, Some(vec![]));
        let message = "spec.policyTypes[0]: unknown policy type `Ingres`: write `Ingress` or `Egress`; \
                       until then the policy isolates its pods in both directions, except for what its rules allow";
        assert_eq!(policy.invalid_parts.iter().map(ToString::to_string).collect::<Vec<_>>(), [message]);
    }

    #[test]
    fn more_than_two_policy_types_are_reported() {
        let policy = converted(json!({"policyTypes": ["Ingress", "Ingress", "Ingress"], "ingress": [{}]}));
        assert_eq!(invalid_parts(&policy), [("spec.policyTypes", reason::BAD_POLICY_TYPE)]);
        assert_eq!((policy.ingress.map(|rules| rules.len()), policy.egress), (Some(1), None));
    }

    #[test]
    fn empty_list_of_peers_or_ports_allows_all_of_them() {
        for rule in [json!({}), json!({"from": [], "ports": []}), json!({"from": null, "ports": null})] {
            let rules = sound(json!({"ingress": [rule]})).ingress;
            assert_eq!(rules, Some(vec![Rule { index: 0, peers: Peers::Anywhere, ports: Ports::All }]));
        }
    }

    #[test]
    fn egress_rule_reads_its_peers_from_to() {
        let rules =
            sound(json!({"egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]})).egress;
        let peers = Peers::Listed(vec![own(app("db"))]);
        assert_eq!(rules, Some(vec![Rule { index: 0, peers, ports: Ports::All }]));
        let policy = converted(json!({"egress": [{"from": []}]}));
        assert_eq!(policy.egress, Some(vec![]));
        assert_eq!(invalid_parts(&policy), [("spec.egress[0].from", reason::UNKNOWN_FIELD)]);
    }

    #[test]
    fn selectors_of_one_peer_narrow_each_other() {
        let (peers, policy) = ingress_peers(json!([
            {"podSelector": {}},
            {"namespaceSelector": {}},
            {"namespaceSelector": {"matchLabels": {"app": "a"}}, "podSelector": {"matchLabels": {"app": "b"}}},
        ]));
        assert_eq!(policy.invalid_parts, vec![]);
        let matching =
            |namespaces, pods| Peer::Pods { namespaces: NamespaceScope::Matching(namespaces), pods };
        assert_eq!(
            peers,
            Peers::Listed(vec![
                own(Selector::everything()),
                matching(Selector::everything(), Selector::everything()),
                matching(app("a"), app("b")),
            ])
        );
    }

    #[test]
    fn block_peer_keeps_its_exceptions_to_itself() {
        let (peers, _) = ingress_peers(json!([
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            {"ipBlock": {"cidr": "10.0.0.0/12"}},
        ]));
        let block = |cidr: &str, except: &[&str]| {
            Peer::Block(Block {
                cidr: cidr.parse().unwrap(),
                except: except.iter().map(|net| net.parse().unwrap()).collect(),
            })
        };
        assert_eq!(
            peers,
            Peers::Listed(vec![block("10.0.0.0/8", &["10.1.0.0/16"]), block("10.0.0.0/12", &[])])
        );
    }

    #[test]
    fn invalid_peers_leave_no_peer_rather_than_all() {
        for (peer, path, reason) in [
            (json!({}), "spec.ingress[0].from[0]", reason::EMPTY_PEER),
            (json!({"podSelector": null}), "spec.ingress[0].from[0]", reason::EMPTY_PEER),
            (
                json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}),
                "spec.ingress[0].from[0]",
                reason::MIXED_PEER,
            ),
            (
                json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "namespaceSelector": {}}),
                "spec.ingress[0].from[0]",
                reason::MIXED_PEER,
            ),
            (
                json!({"ipBlock": {"cidr": "10.0.0.0"}}),
                "spec.ingress[0].from[0].ipBlock.cidr",
                reason::BAD_CIDR,
            ),
            (json!({"ipBlock": {}}), "spec.ingress[0].from[0].ipBlock.cidr", reason::BAD_CIDR),
            (
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "expect": []}}),
                "spec.ingress[0].from[0].ipBlock.expect",
                reason::UNKNOWN_FIELD,
            ),
            (
                json!({"podSelector": {}, "namespaceselector": {}}),
                "spec.ingress[0].from[0].namespaceselector",
                reason::UNKNOWN_FIELD,
            ),
            (json!({"podselector": {}}), "spec.ingress[0].from[0].podselector", reason::UNKNOWN_FIELD),
            (
                json!({"podSelector": {"x": 1}}),
                "spec.ingress[0].from[0].podSelector.x",
                reason::UNKNOWN_FIELD,
            ),
            (
                json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
                "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values",
                reason::BAD_VALUES,
            ),
        ] {
            let (peers, policy) = ingress_peers(json!([peer]));
            assert_eq!(peers, Peers::Listed(vec![]), "{path}");
            assert_eq!(invalid_parts(&policy), [(path, reason)]);
        }
    }

    #[test]
    fn invalid_peer_leaves_the_others_in_force() {
        let (peers, policy) = ingress_peers(json!([{}, {"podSelector": {"matchLabels": {"app": "web"}}}]));
        assert_eq!(peers, Peers::Listed(vec![own(app("web"))]));
        assert_eq!(policy.invalid_parts.len(), 1);
    }

    #[test]
    fn invalid_ports_leave_none_rather_than_all() {
        let policy =
            converted(json!({"ingress": [{"ports": [{"port": 0}]}, {"ports": [{"port": 0}, {"port": 80}]}]}));
        let ports: Vec<_> = policy.ingress.iter().flatten().map(|rule| rule.ports.clone()).collect();
        let http = PortMatch::Numbered(Protocol::Tcp, PortRange::single(80).unwrap());
        assert_eq!(ports, [Ports::Listed(vec![]), Ports::Listed(vec![http])]);
        assert_eq!(
            invalid_parts(&policy),
            [
                ("spec.ingress[0].ports[0].port", reason::BAD_PORT),
                ("spec.ingress[1].ports[0].port", reason::BAD_PORT)
            ]
        );
    }

    #[test]
    fn rule_with_an_unknown_field_allows_nothing_and_keeps_its_place() {
        let policy = converted(json!({"ingress": [{"form": []}, {}]}));
        let rule = Rule { index: 1, peers: Peers::Anywhere, ports: Ports::All };
        assert_eq!(policy.ingress, Some(vec![rule]));
        assert_eq!(invalid_parts(&policy), [("spec.ingress[0].form", reason::UNKNOWN_FIELD)]);
    }

    #[test]
    fn policy_with_an_invalid_pod_selector_isolates_every_pod_and_allows_nothing() {
        let subject = json!({"matchExpressions": [{"key": "app", "operator": "Is", "values": ["web"]}]});
        let policy = converted(json!({
            "podSelector": subject,
            "policyTypes": ["Ingress"],
            "ingress": [{}],
            "egress": [{}],
        }));
        assert_eq!(policy.subject, Selector::everything());
        assert_eq!((&policy.ingress, &policy.egress), (&Some(vec![]), &None));
        assert_eq!(
            invalid_parts(&policy),
            [("spec.podSelector.matchExpressions[0].operator", reason::UNKNOWN_OPERATOR)]
        );
    }
}
