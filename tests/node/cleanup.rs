//! One agent in a network namespace, and a clean-up that says what it did and what it did not.

use crate::stage::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::Outcome;
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bridgewarden");

/// Runs a shell's words on node-a; returns what they printed, both ways, and their exit status.
fn tried(stage: &Stage, script: &str) -> (String, i32) {
    let text = stage.on_node_a(&["sh", "-c", &format!("({script}) 2>&1; echo \"exit $?\"")]);
    let (printed, code) = text.trim_end().rsplit_once("exit ").expect("the shell says how it ended");
    (printed.to_owned(), code.parse().expect("a number"))
}

/// Everything that is in the packet filter of node-a.
fn everything(stage: &Stage) -> String {
    stage.on_node_a(&[
        "sh",
        "-c",
        "nft -s list ruleset 2>/dev/null; cat /proc/net/ip_tables_names /proc/net/ip6_tables_names; ipset save",
    ])
}

#[test]
fn clean_up_counts_what_it_removed_and_leaves_no_table_behind() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("clean{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        let bare = everything(&stage);
        stage.start(&[]);
        stage.enforces();
        stage.field.stop(false);
        let count = |words: &[&str], begins: &str| {
            stage.on_node_a(words).lines().filter(|line| line.starts_with(begins)).count()
        };
        let save = |program: &str| count(&[&format!("{program}-save"), "-t", "filter"], ":KUBE-");
        let chains = save(backend) + save(&backend.replace("iptables", "ip6tables"));
        let sets = count(&["ipset", "save"], "create");
        assert!(chains > 10 && sets > 4, "{chains} chains and {sets} sets");
        assert_eq!(
            tried(&stage, &format!("{PROGRAM} cleanup")),
            (format!("removed {chains} chains, {sets} sets and 1 tables of nftables\n"), 0)
        );
        match backend {
            "iptables-nft" => assert_eq!(everything(&stage), bare),
            _ => assert!(stage.on_node_a(&["nft", "list", "tables"]).is_empty()),
        }
        assert_eq!(
            tried(&stage, &format!("{PROGRAM} cleanup")),
            ("removed 0 chains, 0 sets and 0 tables of nftables\n".to_owned(), 0)
        );
        assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Open);
    });
}

#[test]
fn clean_up_of_a_bare_host_and_a_preflight_leave_it_bare() {
    let stage = Stage::set("bare", "iptables-nft", None);
    let bare = everything(&stage);
    assert_eq!(
        tried(&stage, &format!("{PROGRAM} cleanup")),
        ("removed 0 chains, 0 sets and 0 tables of nftables\n".to_owned(), 0)
    );
    assert_eq!(everything(&stage), bare);
    for backend in ["auto", "iptables-nft", "iptables-legacy"] {
        let (told, _) = tried(&stage, &format!("{PROGRAM} preflight --backend {backend}"));
        assert!(told.contains("[ok]   matches"), "{told}");
        assert_eq!(everything(&stage), bare, "{backend}: {told}");
    }
}

#[test]
fn clean_up_that_cannot_look_says_so_and_fails() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("blind{short}"), backend, Some(WEB_ALLOWS_NOBODY));
        stage.start(&[]);
        stage.enforces();
        stage.field.stop(false);
        let (told, code) = tried(&stage, &format!("PATH=/nowhere {PROGRAM} cleanup"));
        assert_eq!(code, 1, "{told}");
        for said in [
            &format!("left: what may be in the filter table of {backend} (IPv4): cannot start"),
            "left: set KUBE-NWPLCY-ISOLATED-INGRESS-4: cannot destroy set",
        ] {
            assert!(told.contains(said), "{told}");
        }
        assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Refused);
        let (told, code) = tried(&stage, &format!("{PROGRAM} cleanup"));
        assert_eq!(code, 0, "{told}");
        assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Open);
    });
}

#[test]
fn clean_up_takes_both_variants_and_leaves_what_others_lead_to_and_says_so() {
    let mut stage = Stage::set("held", "iptables-legacy", Some(WEB_ALLOWS_NOBODY));
    stage.start(&[]);
    stage.enforces();
    stage.field.stop(false);
    let theirs = "iptables-nft -N KUBE-NWPLCY-FORWARD; iptables-nft -A FORWARD -j KUBE-NWPLCY-FORWARD; \
                  iptables-legacy -A FORWARD -s 198.51.100.9 -j KUBE-NWPLCY-FORWARD; ipset create KUBE-NWPLCY-MINE hash:ip";
    stage.on_node_a(&["sh", "-ec", theirs]);
    let (told, code) = tried(&stage, &format!("{PROGRAM} cleanup"));
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("left: chain KUBE-NWPLCY-FORWARD of iptables-legacy (IPv4), empty"), "{told}");
    assert_eq!(told.matches("left: ").count(), 1, "{told}");
    assert_eq!(stage.on_node_a(&["nft", "list", "tables"]), "");
    assert_eq!(stage.on_node_a(&["ipset", "list", "-n"]), "KUBE-NWPLCY-MINE\n");
    let saved = stage.on_node_a(&["iptables-legacy-save", "-t", "filter"]);
    assert!(saved.contains("-A FORWARD -s 198.51.100.9/32 -j KUBE-NWPLCY-FORWARD"), "{saved}");
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Open);
}

#[test]
fn second_agent_waits_writes_nothing_and_begins_when_the_first_has_ended() {
    let mut stage = Stage::set("second", "iptables-nft", Some(WEB_ALLOWS_NOBODY));
    stage.start(&[]);
    stage.enforces();
    let open = stage.manifests.with_file_name("open");
    std::fs::create_dir_all(&open).expect("a directory of our own");
    std::fs::copy(stage.manifests.join("cluster.yaml"), open.join("cluster.yaml")).expect("it is copied");
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg("--manifests").arg(&open).args([
        "--node-name",
        "node-a",
        "--backend",
        "iptables-nft",
    ]);
    command.args(["--http-addr", "127.0.0.1:20299", "--flows-socket", ""]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let node = stage.field.testbed.node_namespace("node-a").expect("a node");
    let mut second = node.spawn(&mut command).expect("it starts");
    let ready = |stage: &Stage| tried(stage, "curl -s 127.0.0.1:20299/readyz").0;
    let before = everything(&stage);
    stage.waits_for("it says why", || {
        ready(&stage).contains("[-]only-agent failed: another Bridgewarden agent")
    });
    let (told, code) = tried(&stage, &format!("{PROGRAM} cleanup"));
    assert!(code != 0 && told.contains("is running in this network namespace"), "{told}");
    assert_eq!(everything(&stage), before);
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Refused);
    stage.field.stop(true);
    stage.waits_for("it begins", || ready(&stage).contains("readyz check passed"));
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Open, "the second knows no policy");
    second.kill().expect("it is ours");
    second.wait().expect("it ends");
}
