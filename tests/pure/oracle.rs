//! The oracle's finer points, one sentence each; the scenarios hold the rest.

use bridgewarden::explain::oracle::{FlowQuery, Impossible, QueryEnd, Ruling, World, decide};
use bridgewarden::model::Direction;
use bridgewarden::net::{Family, Protocol};
use support::manifest;

const TWO_PODS: &str = "
kind: Namespace
apiVersion: v1
metadata: {name: shop, labels: {team: shop}}
---
kind: Pod
apiVersion: v1
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: node-a, containers: [{name: main, ports: [{name: http, containerPort: 80}]}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.10}]}
---
kind: Pod
apiVersion: v1
metadata: {name: client, namespace: shop, labels: {role: client}}
spec: {nodeName: node-b, containers: [{name: main}]}
status: {phase: Running, podIPs: [{ip: 10.244.2.20}]}
";

const WEB: QueryEnd = QueryEnd::Pod(0);
const CLIENT: QueryEnd = QueryEnd::Pod(1);

/// The two pods, and what else is given.
fn world(more: &str) -> World {
    let separator = if more.is_empty() { "" } else { "---\n" };
    manifest::parse(&format!("{TWO_PODS}{separator}{more}")).expect("the test's objects can be read")
}

/// A policy of `shop` with this spec, in flow style.
fn policy(name: &str, spec: &str) -> String {
    let metadata = format!("{{name: {name}, namespace: shop}}");
    format!("{{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {metadata}, spec: {spec}}}\n")
}

fn address(text: &str) -> QueryEnd {
    QueryEnd::Address(text.parse().expect("the test names an address"))
}

fn node(name: &str, address: &str) -> QueryEnd {
    QueryEnd::Node { name: name.to_string(), address: address.parse().expect("the test names an address") }
}

fn flow(source: QueryEnd, destination: QueryEnd) -> FlowQuery {
    FlowQuery { source, destination, protocol: Protocol::Tcp, port: 80, family: Family::V4 }
}

fn allows(world: &World, source: QueryEnd, destination: QueryEnd) -> bool {
    decide(world, &flow(source, destination)).expect("the flow can exist") == Ruling::Allowed
}

#[test]
fn denial_names_the_direction_and_the_policies_that_isolate() {
    let deny_web = policy("deny-web", "{podSelector: {matchLabels: {app: web}}}");
    let deny_all = policy("deny-all", "{podSelector: {}}");
    let unrelated = policy("unrelated", "{podSelector: {matchLabels: {app: other}}}");
    let world = world(&[deny_web, deny_all, unrelated].join("---\n"));
    let isolated_by = vec!["shop/deny-web".to_string(), "shop/deny-all".to_string()];
    let denied = Ruling::Denied { by: Direction::Ingress, isolated_by };
    assert_eq!(decide(&world, &flow(CLIENT, WEB)), Ok(denied));
}

#[test]
fn egress_of_the_source_is_asked_before_ingress_of_the_destination() {
    let world = world(&policy("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}"));
    let denied = Ruling::Denied { by: Direction::Egress, isolated_by: vec!["shop/deny".to_string()] };
    assert_eq!(decide(&world, &flow(CLIENT, WEB)), Ok(denied));
}

#[test]
fn address_that_a_pod_has_is_that_pod() {
    let from_clients = "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]}";
    let world = world(&policy("from-clients", from_clients));
    assert!(allows(&world, address("10.244.2.20"), address("10.244.1.10")));
    assert!(!allows(&world, address("10.244.2.21"), address("10.244.1.10")));
}

#[test]
fn address_of_a_node_is_not_yet_the_node() {
    let world = world(&policy("deny", "{podSelector: {}}"));
    assert!(allows(&world, node("node-a", "192.168.100.1"), WEB));
    assert!(!allows(&world, address("192.168.100.1"), WEB));
}

#[test]
fn node_by_any_of_its_addresses_reaches_its_own_pods_only() {
    let world = world(&policy("deny", "{podSelector: {}}"));
    assert!(allows(&world, node("node-a", "10.244.1.1"), WEB));
    assert!(!allows(&world, node("node-b", "10.244.2.1"), WEB));
}

#[test]
fn pod_reaches_its_own_node_whatever_its_egress() {
    let world = world(&policy("deny", "{podSelector: {}, policyTypes: [Egress]}"));
    assert!(allows(&world, WEB, node("node-a", "192.168.100.1")));
    assert!(!allows(&world, WEB, node("node-b", "192.168.100.2")));
}

#[test]
fn pod_with_only_the_older_address_field_has_that_address() {
    let old = TWO_PODS.replace("podIPs: [{ip: 10.244.2.20}]", "podIP: 10.244.2.20");
    let world = World {
        policies: world(&policy("deny", "{podSelector: {}}")).policies,
        ..manifest::parse(&old).unwrap()
    };
    assert!(!allows(&world, WEB, CLIENT));
    assert!(!allows(&world, WEB, address("10.244.2.20")));
}

#[test]
fn object_without_a_namespace_is_in_default() {
    let everything = format!("{TWO_PODS}---\n{}", policy("deny", "{podSelector: {}}"));
    let unnamed = everything.replace(", namespace: shop", "");
    assert!(!allows(&manifest::parse(&unnamed).unwrap(), CLIENT, WEB));
}

#[test]
fn no_namespace_selector_selects_a_namespace_that_is_not_there() {
    for selector in ["{}", "{matchExpressions: [{key: team, operator: DoesNotExist}]}"] {
        let spec = format!("{{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {selector}}}]}}]}}");
        let mut world = world(&policy("from-namespaces", &spec));
        world.namespaces.clear();
        assert!(!allows(&world, CLIENT, WEB), "{selector}");
    }
}

#[test]
fn namespace_that_is_not_there_is_selected_by_its_name_and_by_nothing_it_may_lack() {
    let name = "kubernetes.io/metadata.name";
    for (selector, selects) in [
        (format!("{{matchLabels: {{{name}: shop}}}}"), true),
        (format!("{{matchLabels: {{{name}: other}}}}"), false),
        (format!("{{matchExpressions: [{{key: {name}, operator: In, values: [shop, other]}}]}}"), true),
        (format!("{{matchExpressions: [{{key: {name}, operator: NotIn, values: [other]}}]}}"), false),
        (format!("{{matchExpressions: [{{key: {name}, operator: Exists}}]}}"), false),
        ("{matchExpressions: [{key: team, operator: NotIn, values: [other]}]}".to_string(), false),
        (
            format!(
                "{{matchLabels: {{{name}: shop}}, matchExpressions: [{{key: team, operator: DoesNotExist}}]}}"
            ),
            false,
        ),
    ] {
        let spec = format!("{{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {selector}}}]}}]}}");
        let mut world = world(&policy("from-namespaces", &spec));
        world.namespaces.clear();
        assert_eq!(allows(&world, CLIENT, WEB), selects, "{selector}");
    }
}

#[test]
fn rule_with_only_invalid_peers_is_for_nobody_and_with_only_invalid_ports_for_no_port() {
    for rule in [
        "{from: [{}]}",
        "{ports: [{port: 0}]}",
        "{from: [{ipBlock: {cidr: x}}]}",
        "{ports: [{port: nowhere}]}",
    ] {
        let world = world(&policy("mistaken", &format!("{{podSelector: {{}}, ingress: [{rule}]}}")));
        assert!(!allows(&world, CLIENT, WEB), "{rule}");
    }
}

#[test]
fn named_port_is_the_destinations_own_and_not_the_subjects() {
    let spec =
        "{podSelector: {matchLabels: {app: web}}, egress: [{ports: [{port: http}]}], policyTypes: [Egress]}";
    let world = world(&policy("web-to-http", spec));
    assert!(!allows(&world, WEB, CLIENT));
    assert!(!allows(&world, WEB, address("203.0.113.10")));
}

#[test]
fn two_pods_with_one_address_are_guarded_by_the_policies_of_both() {
    let heir = TWO_PODS.replace("role: client", "app: heir").replace("10.244.2.20", "10.244.1.10");
    for subject in ["web", "heir"] {
        let deny = policy("deny", &format!("{{podSelector: {{matchLabels: {{app: {subject}}}}}}}"));
        let world = manifest::parse(&format!("{heir}---\n{deny}")).unwrap();
        assert!(!allows(&world, address("203.0.113.10"), address("10.244.1.10")), "{subject}");
    }
}

#[test]
fn address_of_two_pods_is_a_peer_where_both_are() {
    let heir = TWO_PODS.replace("role: client", "app: heir").replace("10.244.2.20", "10.244.1.10");
    let third = "
kind: Pod
apiVersion: v1
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: node-b, containers: [{name: main}]}
status: {phase: Running, podIPs: [{ip: 10.244.2.30}]}
";
    for (peers, allowed) in [("web", false), ("heir", false), ("web, heir", true), ("web, db", false)] {
        let selector = format!("{{matchExpressions: [{{key: app, operator: In, values: [{peers}]}}]}}");
        let spec = format!(
            "{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{{podSelector: {selector}}}]}}]}}"
        );
        let world = manifest::parse(&format!("{heir}---\n{third}---\n{}", policy("db", &spec))).unwrap();
        assert_eq!(allows(&world, address("10.244.1.10"), address("10.244.2.30")), allowed, "{peers}");
    }
}

#[test]
fn flow_that_cannot_exist_gets_no_verdict() {
    let mut world = world("");
    let v6 = FlowQuery { family: Family::V6, ..flow(CLIENT, WEB) };
    let client = "shop/client".to_string();
    assert_eq!(decide(&world, &v6), Err(Impossible::NoAddress { pod: client.clone(), family: Family::V6 }));
    assert_eq!(
        decide(&world, &flow(QueryEnd::Pod(2), WEB)),
        Err(Impossible::NoSuchPod { index: 2, pods: 2 })
    );
    let outside = "2001:db8::1".parse().unwrap();
    let mixed = Impossible::WrongFamily { address: outside, family: Family::V4 };
    assert_eq!(decide(&world, &flow(QueryEnd::Address(outside), WEB)), Err(mixed));
    world.pods[1].status.phase = Some("Failed".to_string());
    assert_eq!(decide(&world, &flow(CLIENT, WEB)), Err(Impossible::Finished { pod: client }));
}

mod over_random_worlds {
    use super::*;
    use proptest::prelude::*;
    use support::worlds::{any_world, flows};

    fn allowed(world: &World) -> Vec<bool> {
        let verdict = |flow| decide(world, flow).expect("flows() makes flows that can exist");
        flows(world).iter().map(|flow| verdict(flow) == Ruling::Allowed).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn order_of_policies_rules_peers_and_ports_means_nothing(random in any_world()) {
            let mut reversed = random.world.clone();
            reversed.namespaces.reverse();
            reversed.policies.reverse();
            for policy in &mut reversed.policies {
                for rule in policy.spec.ingress.iter_mut().flatten() {
                    rule.from.iter_mut().for_each(|peers| peers.reverse());
                    rule.ports.iter_mut().for_each(|ports| ports.reverse());
                }
                policy.spec.ingress.iter_mut().for_each(|rules| rules.reverse());
                policy.spec.egress.iter_mut().for_each(|rules| rules.reverse());
            }
            prop_assert_eq!(allowed(&random.world), allowed(&reversed));
        }

        #[test]
        fn taking_a_rule_away_never_allows_more(random in any_world()) {
            let before = allowed(&random.world);
            let mut fewer = random.world.clone();
            for policy in &mut fewer.policies {
                // The type is written down first: an egress rule that goes must not take the isolation with it.
                if policy.spec.policy_types.as_ref().is_none_or(Vec::is_empty)
                    && policy.spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
                {
                    policy.spec.policy_types = Some(vec!["Ingress".to_string(), "Egress".to_string()]);
                }
                policy.spec.ingress.iter_mut().for_each(|rules| rules.truncate(1));
                policy.spec.egress.iter_mut().for_each(|rules| rules.truncate(1));
            }
            for (before, after) in before.iter().zip(allowed(&fewer)) {
                prop_assert!(*before || !after);
            }
        }

        #[test]
        fn policy_that_selects_no_pod_changes_nothing(random in any_world()) {
            let mut more = random.world.clone();
            let shut = "{podSelector: {matchLabels: {app: nobody}}, policyTypes: [Ingress, Egress]}";
            more.policies.extend(world(&policy("shut", shut)).policies);
            prop_assert_eq!(allowed(&random.world), allowed(&more));
        }
    }
}
