//! One agent in a network namespace, and a cleanup that reports what it removed and what it could not.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use std::process::{Command, Stdio};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bridgewarden");

/// Runs a shell command on node-a; returns what they printed, both ways, and their exit status.
pub(crate) fn tried(test: &NodeTest, script: &str) -> (String, i32) {
    let text = test.on_node_a(&["sh", "-c", &format!("({script}) 2>&1; echo \"exit $?\"")]);
    let (printed, code) = text.trim_end().rsplit_once("exit ").expect("the shell says how it ended");
    (printed.to_owned(), code.parse().expect("a number"))
}

/// Everything that is in the packet filter of node-a.
fn everything(test: &NodeTest) -> String {
    test.on_node_a(&[
        "sh",
        "-c",
        "nft -s list ruleset 2>/dev/null; cat /proc/net/ip_tables_names /proc/net/ip6_tables_names; ipset save",
    ])
}

#[test]
fn clean_up_counts_what_it_removed_and_leaves_no_table_behind() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("clean{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        let bare = everything(&test);
        test.start(&[]);
        test.wait_until_enforced();
        test.field.stop(false);
        let count = |words: &[&str], begins: &str| {
            test.on_node_a(words).lines().filter(|line| line.starts_with(begins)).count()
        };
        let (mut chains, mut sets, mut tables) = (0, 0, 3);
        if backend != "nftables" {
            let save = |program: &str| count(&[&format!("{program}-save"), "-t", "filter"], ":KUBE-");
            chains = save(backend) + save(&backend.replace("iptables", "ip6tables"));
            sets = count(&["ipset", "save"], "create");
            tables = 2;
            assert!(chains > 10 && sets > 4, "{chains} chains and {sets} sets");
        }
        assert_eq!(
            tried(&test, &format!("{PROGRAM} cleanup")),
            (format!("removed {chains} chains, {sets} sets and {tables} tables of nftables\n"), 0)
        );
        match backend {
            "iptables-legacy" => assert!(test.on_node_a(&["nft", "list", "tables"]).is_empty()),
            _ => assert_eq!(everything(&test), bare),
        }
        assert_eq!(
            tried(&test, &format!("{PROGRAM} cleanup")),
            ("removed 0 chains, 0 sets and 0 tables of nftables\n".to_owned(), 0)
        );
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
    });
}

#[test]
fn clean_up_of_a_bare_host_and_a_preflight_leave_it_bare() {
    let test = NodeTest::build("bare", "iptables-nft", None);
    let bare = everything(&test);
    assert_eq!(
        tried(&test, &format!("{PROGRAM} cleanup")),
        ("removed 0 chains, 0 sets and 0 tables of nftables\n".to_owned(), 0)
    );
    assert_eq!(everything(&test), bare);
    for (backend, check) in [
        ("auto", "matches"),
        ("iptables-nft", "matches"),
        ("iptables-legacy", "matches"),
        ("nftables", "nftables"),
    ] {
        let (reported, _) = tried(&test, &format!("{PROGRAM} preflight --backend {backend}"));
        assert!(reported.contains(&format!("[ok]   {check}: ")), "{reported}");
        assert_eq!(everything(&test), bare, "{backend}: {reported}");
    }
}

#[test]
fn clean_up_of_nftables_needs_no_program_and_says_what_else_it_could_not_look_at() {
    let mut test = NodeTest::build("cleanless", "nftables", Some(WEB_DENIES_INGRESS));
    test.start(&[]);
    test.wait_until_enforced();
    test.field.stop(false);
    test.on_node_a(&["iptables-nft", "-A", "FORWARD", "-s", "198.51.100.9", "-j", "DROP"]);
    let (reported, code) = tried(&test, &format!("PATH=/nowhere {PROGRAM} cleanup"));
    let lines: Vec<_> = reported.lines().collect();
    assert_eq!(lines[0], "removed 0 chains, 0 sets and 3 tables of nftables");
    assert!(
        lines.len() == 2
            && lines[1].starts_with("left: what may be in the filter table of iptables-nft (IPv4)"),
        "{reported}"
    );
    assert_eq!(code, 1);
    assert_eq!(test.on_node_a(&["nft", "list", "tables"]), "table ip filter\n");
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
}

#[test]
fn clean_up_that_cannot_look_says_so_and_fails() {
    on_each_variant(|backend, short| {
        let mut test = NodeTest::build(&format!("blind{short}"), backend, Some(WEB_DENIES_INGRESS));
        test.start(&[]);
        test.wait_until_enforced();
        test.field.stop(false);
        let (reported, code) = tried(&test, &format!("PATH=/nowhere {PROGRAM} cleanup"));
        assert_eq!(code, 1, "{reported}");
        for said in [
            &format!("left: what may be in the filter table of {backend} (IPv4): cannot start"),
            "left: set KUBE-NWPLCY-ISOLATED-INGRESS-4: cannot destroy set",
        ] {
            assert!(reported.contains(said), "{reported}");
        }
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
        let (reported, code) = tried(&test, &format!("{PROGRAM} cleanup"));
        assert_eq!(code, 0, "{reported}");
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
    });
}

#[test]
fn clean_up_takes_both_variants_and_leaves_what_others_lead_to_and_says_so() {
    let mut test = NodeTest::build("held", "iptables-legacy", Some(WEB_DENIES_INGRESS));
    test.start(&[]);
    test.wait_until_enforced();
    test.field.stop(false);
    let theirs = "iptables-nft -N KUBE-NWPLCY-FORWARD; iptables-nft -A FORWARD -j KUBE-NWPLCY-FORWARD; \
                  iptables-legacy -A FORWARD -s 198.51.100.9 -j KUBE-NWPLCY-FORWARD; ipset create KUBE-NWPLCY-MINE hash:ip";
    test.on_node_a(&["sh", "-ec", theirs]);
    let (reported, code) = tried(&test, &format!("{PROGRAM} cleanup"));
    assert_eq!(code, 1, "{reported}");
    assert!(
        reported.contains("left: chain KUBE-NWPLCY-FORWARD of iptables-legacy (IPv4), empty"),
        "{reported}"
    );
    assert_eq!(reported.matches("left: ").count(), 1, "{reported}");
    assert_eq!(test.on_node_a(&["nft", "list", "tables"]), "");
    assert_eq!(test.on_node_a(&["ipset", "list", "-n"]), "KUBE-NWPLCY-MINE\n");
    let saved = test.on_node_a(&["iptables-legacy-save", "-t", "filter"]);
    assert!(saved.contains("-A FORWARD -s 198.51.100.9/32 -j KUBE-NWPLCY-FORWARD"), "{saved}");
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
}

#[test]
fn second_agent_waits_writes_nothing_and_begins_when_the_first_has_ended() {
    let mut test = NodeTest::build("second", "iptables-nft", Some(WEB_DENIES_INGRESS));
    test.start(&[]);
    test.wait_until_enforced();
    let open = test.manifests.with_file_name("open");
    std::fs::create_dir_all(&open).expect("a directory of our own");
    std::fs::copy(test.manifests.join("cluster.yaml"), open.join("cluster.yaml")).expect("it is copied");
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg("--manifests").arg(&open).args([
        "--node-name",
        "node-a",
        "--backend",
        "iptables-nft",
    ]);
    command.args(["--http-addr", "127.0.0.1:20299", "--flows-socket=", "--status-socket="]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let node = test.field.testbed.node_namespace("node-a").expect("a node");
    let mut second = node.spawn(&mut command).expect("it starts");
    let ready = |test: &NodeTest| tried(test, "curl -s 127.0.0.1:20299/readyz").0;
    let before = everything(&test);
    test.wait_for("it says why", || {
        ready(&test).contains("[-]only-agent failed: another Bridgewarden agent")
    });
    let (reported, code) = tried(&test, &format!("{PROGRAM} cleanup"));
    assert!(code != 0 && reported.contains("is running in this network namespace"), "{reported}");
    assert_eq!(everything(&test), before);
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    test.field.stop(true);
    test.wait_for("it begins", || ready(&test).contains("readyz check passed"));
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open, "the second knows no policy");
    second.kill().expect("it is ours");
    second.wait().expect("it ends");
}
