//! The table that denies pods' traffic while an agent starts on a kernel without rules.

use crate::setup::*;
use bridgewarden::kernel::StartTable;
use bridgewarden::net::Protocol;
use bridgewarden::render::nftables::start_table;
use bridgewarden::testbed::{Endpoint, Probe, ProbeOutcome};

/// What connects: a neighbour and a pod of another node with web, and the node itself.
fn open(test: &NodeTest) -> [bool; 3] {
    let testbed = &test.field.testbed;
    let all = |from: Endpoint| {
        let to_web = |to: &str| Probe::new(from.clone(), to.parse().expect("an address"), Protocol::Tcp, 80);
        testbed.probe_all(&WEB.map(to_web)).iter().all(|outcome| *outcome == ProbeOutcome::Open)
    };
    [Endpoint::pod("shop", "near"), Endpoint::pod("shop", "far"), Endpoint::node("node-a")].map(all)
}

#[test]
fn traffic_of_pods_is_denied_while_the_agent_starts_and_that_of_their_node_is_not() {
    let test = NodeTest::build("starttable", "nftables", None);
    let node = test.field.testbed.node_namespace("node-a").expect("it is there");
    assert_eq!(open(&test), [true; 3]);
    // Before Linux 5.12, tables have no owners.
    let Ok(table) =
        node.enter(|| StartTable::create(&start_table("cni0"))).expect("the namespace is entered")
    else {
        return;
    };
    let table = table.expect("the kernel has no rules");
    assert_eq!(open(&test), [false, false, true]);
    table.remove().expect("removed");
    assert_eq!(open(&test), [true; 3]);
    let table = node.enter(|| StartTable::create(&start_table("cni0"))).expect("the namespace is entered");
    drop(table.expect("created again"));
    test.wait_for("the table is gone", || open(&test) == [true; 3]);
}

#[test]
fn table_of_the_start_is_gone_when_policies_are_in_force() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("startgone{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        test.start(&[]);
        test.wait_until_enforced();
        assert!(test.field.log().contains("all traffic of pods is denied until rules are in force"));
        assert!(!test.on_node_a(&["nft", "list", "tables"]).contains("bridgewarden-start"));
        test.field.stop(true);
        test.start(&[]);
        test.wait_until_enforced();
        assert!(!test.field.log().contains("all traffic of pods is denied"), "rules are in force");
    });
}
