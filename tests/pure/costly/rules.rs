//! How many rules of the kernel a policy, and the policies of a namespace, may have.

use super::*;

/// Each block with an exception is a set, and each of them is combined with each of the ports.
fn blocks_by_ports(name: &str, blocks: usize, protocols: &[&str]) -> Change {
    let block = |number: usize| json!({"ipBlock": {"cidr": format!("10.{number}.0.0/16"), "except": [format!("10.{number}.1.0/24")]}});
    let from: Vec<Value> = (0..blocks).map(block).collect();
    let ports: Vec<Value> =
        protocols.iter().map(|protocol| json!({"port": 80, "protocol": protocol})).collect();
    policy("crowd", name, json!({"podSelector": {}, "ingress": [{"from": from, "ports": ports}]}))
}

fn sets_of_blocks(node: &mut Node) -> usize {
    let is_set = |name: &str| name.starts_with("KUBE-NWPLCY-B4-");
    if let Some(table) = node.kernel.table_of_nft(TableFamily::Inet, INET_TABLE) {
        return table.sets.keys().filter(|name| is_set(name)).count();
    }
    node.kernel.sets().keys().filter(|name| is_set(name.as_str())).count()
}

#[test]
fn rules_of_a_policy_and_of_a_namespace_are_limited() {
    for backend in BACKENDS {
        let limits = Limits { rules: 30, namespace_rules: 50, ..Limits::default() };
        let mut node = Node::new(backend, limits);
        node.enforcer.apply(blocks_by_ports("first", 20, &["TCP", "UDP"]));
        node.settle();
        assert_eq!(sets_of_blocks(&mut node), 15, "two rules each");
        let note = "spec.ingress[0] and on: 5 peers or ports allow nothing, because a node enforces at most 30 rules of one policy";
        assert!(node.notes().concat().contains(note), "{:?}", node.notes());

        // Another policy of the namespace gets what is left, and the rest as soon as it is free.
        node.enforcer.apply(blocks_by_ports("second", 25, &["TCP"]));
        node.settle();
        let note = "spec.ingress[0] and on: 5 peers or ports allow nothing, because a node enforces at most 50 rules of all policies of \
                    one namespace";
        assert!(node.notes().concat().contains(note), "{:?}", node.notes());
        assert_eq!(sets_of_blocks(&mut node), 20);
        node.enforcer.apply(Change::PolicyGone(PolicyKey::new("crowd", "first")));
        node.enforcer.apply(namespace("crowd"));
        node.settle();
        assert_eq!((sets_of_blocks(&mut node), node.notes()), (25, Vec::new()));
    }
}
