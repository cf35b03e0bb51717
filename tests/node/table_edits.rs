//! Other programs change the table of the backend `nftables`: the agent repairs it at once, and takes none of its own changes for another program's.

use crate::setup::*;
use crate::switch::ConnectionProbe;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

const READS: &str = "bridgewarden_sync_duration_seconds_count{phase=\"read\"}";
const REPAIRS: &str = "bridgewarden_drift_repairs_total";
const WRITES: &str = "bridgewarden_kernel_writes_total{kind=\"table\"}";

/// Audits come later than any test ends: what is put right before was reported by the kernel. And the tables have no owner, as before
/// Linux 6.9.
pub(crate) const NO_AUDITS: [&str; 3] = ["--audit-interval-seconds", "3600", "--own-tables=off"];

/// The chains and sets of the table in the order of their names, without what packets put into it. The kernel lists them in the order in
/// which they were made, and a start that isolates all pods first makes them in another.
fn table(test: &NodeTest) -> String {
    let listed = test.on_node_a(&["sh", "-c", "nft -s list table inet bridgewarden 2>&1 || true"]);
    let inner = listed.trim_start_matches("table inet bridgewarden {").trim_end().trim_end_matches('}');
    let blocks = inner.split_inclusive("\n\t}\n").map(|block| block.trim_matches('\n'));
    let mut blocks: Vec<&str> = blocks.filter(|block| !block.contains("\tset REPORTED-")).collect();
    blocks.sort_unstable();
    blocks.join("\n")
}

/// What others do to the table.
const EDITS: [(&str, &str); 9] = [
    ("a rule that accepts first", "nft insert rule inet bridgewarden FORWARD-INGRESS accept"),
    ("a rule of another form", "nft add rule inet bridgewarden FORWARD-INGRESS meta length 0-99 counter"),
    ("a chain without its rules", "nft flush chain inet bridgewarden FORWARD-INGRESS"),
    (
        "an address that is no longer isolated",
        "nft delete element inet bridgewarden ISOLATED-INGRESS-4 '{ 10.244.1.10 }'",
    ),
    (
        "an address that may connect",
        "nft add element inet bridgewarden ITSELF-4 '{ 10.244.1.11 . 10.244.1.10 }'",
    ),
    ("a set of their own", "nft add set inet bridgewarden theirs '{ type ipv4_addr; }'"),
    ("a table that is not in force", "nft add table inet bridgewarden '{ flags dormant; }'"),
    ("no table", "nft delete table inet bridgewarden"),
    ("no table at all", "nft flush ruleset"),
];

#[test]
fn edits_of_the_table_are_undone_within_moments_of_the_kernels_report() {
    let mut test = NodeTest::build("edits", "nftables", Some(WEB_DENIES_INGRESS));
    test.start(&NO_AUDITS);
    test.wait_until_enforced();
    let before = table(&test);
    for (what, script) in EDITS {
        let dialling = ConnectionProbe::from(&test, "near");
        let repairs = test.metric("node-a", REPAIRS);
        let begun = Instant::now();
        test.on_node_a(&["sh", "-ec", script]);
        let ended = begun.elapsed();
        test.wait_for(what, || test.metric("node-a", REPAIRS) > repairs);
        let took = begun.elapsed();
        test.wait_for_all(what, || match table(&test) {
            now if now == before => Ok(()),
            now => Err(format!("the table was\n{before}\nand is\n{now}")),
        });
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused, "{what}");
        let (let_in, kept_out) = dialling.end();
        println!(
            "{what}: put right {:.0} ms after nft began and {:.0} ms after it ended; {let_in} let in, {} refused",
            took.as_secs_f64() * 1e3,
            took.saturating_sub(ended).as_secs_f64() * 1e3,
            kept_out.len()
        );
        // A connection that was let in is reset when the agent has repaired the table and cuts what no policy allows.
        let is_denied =
            |kind: &ErrorKind| matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset);
        let others: Vec<_> = kept_out.iter().filter(|kind| !is_denied(kind)).collect();
        assert!(others.is_empty(), "{what}: {others:?}");
        // Rounds of audits that follow each other wait longer.
        assert!(took < Duration::from_secs(5), "{what}: {took:?}");
        test.field.stop(false);
        test.start(&NO_AUDITS);
        test.wait_until_enforced();
    }
}

#[test]
fn own_changes_of_the_table_and_those_of_others_elsewhere_cause_no_audit() {
    let mut test = NodeTest::build("ownnews", "nftables", Some(WEB_DENIES_INGRESS));
    test.start(&NO_AUDITS);
    test.wait_until_enforced();
    let reads = test.metric("node-a", READS);
    let peer = |number: usize| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: peer, labels: {{app: client}}}}\n\
             spec: {{nodeName: node-b}}\nstatus: {{podIPs: [{{ip: 10.244.2.{}}}]}}\n",
            100 + number
        )
    };
    for round in 0..50 {
        let written = test.metric("node-a", WRITES);
        test.write("policy.yaml", if round % 2 == 0 { WEB_ALLOWS_CLIENTS } else { WEB_DENIES_INGRESS });
        test.write("peer.yaml", &peer(round));
        test.wait_for("written", || test.metric("node-a", WRITES) > written);
    }
    test.on_node_a(&[
        "sh",
        "-ec",
        "nft add table inet theirs; nft add chain inet theirs forward '{ type filter hook forward priority 0; }'
         nft add rule inet theirs forward counter; iptables-nft -t nat -N THEIRS; iptables-nft -N THEIRS",
    ]);
    assert_eq!(test.metric("node-a", READS), reads, "audits after changes of our own and of other tables");
    test.on_node_a(&[
        "nft",
        "delete",
        "element",
        "inet",
        "bridgewarden",
        "ISOLATED-INGRESS-4",
        "{ 10.244.1.10 }",
    ]);
    test.wait_for("put right", || test.metric("node-a", REPAIRS) >= 1.0);
    assert_eq!(test.metric("node-a", READS), reads + 1.0, "the one that was needed");
}
