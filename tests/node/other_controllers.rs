//! Another NetworkPolicy controller on the node: the agent writes nothing, and takes over what the other left without a gap.
//!
//! The rules are kube-router's in their form: hooks, chain for each pod, policy chain, marks and sets. They let only far into web,
//! as [`WEB_ALLOWS_FAR`] does.

use crate::coexistence::WEB_ALLOWS_FAR;
use crate::setup::*;
use crate::switch::ConnectionProbe;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// The filter table of kube-router, where `web` is this address of the pod, and the sets of its policy have this prefix.
fn kube_router(web: &str, length: u8, icmp: &str, sets: &str) -> String {
    let pod = "KUBE-POD-FW-DQNIYSEXRFCRFGJ3";
    let policy = "KUBE-NWPLCY-BD5VBCHLVAVLMHEL";
    let comment = |text: &str| format!("-m comment --comment \"{text}\"");
    let hook = |built_in: &str| {
        format!(
            "-I {built_in} 1 {} -j KUBE-ROUTER-{built_in}\n",
            comment("kube-router netpol - 4IA2OSFRMVNDXBVV")
        )
    };
    let mut text = format!(
        "*filter\n:KUBE-ROUTER-INPUT - [0:0]\n:KUBE-ROUTER-FORWARD - [0:0]\n:KUBE-ROUTER-OUTPUT - [0:0]\n:{pod} - [0:0]\n\
         :{policy} - [0:0]\n:KUBE-NWPLCY-COMMON - [0:0]\n:KUBE-NWPLCY-DEFAULT - [0:0]\n:KUBE-NWPLCY-TAIL - [0:0]\n"
    );
    text += &["INPUT", "FORWARD", "OUTPUT"].map(hook).concat();
    let jump = comment(
        "rule to jump traffic destined to POD name:web namespace: shop to chain KUBE-POD-FW-DQNIYSEXRFCRFGJ3",
    );
    text += &format!("-A KUBE-ROUTER-INPUT -s {web}/{length} {jump} -j {pod}\n");
    for side in ["-d", "-s"] {
        text += &format!("-A KUBE-ROUTER-FORWARD {side} {web}/{length} {jump} -j {pod}\n");
        text += &format!(
            "-A KUBE-ROUTER-FORWARD {side} {web}/{length} -m physdev --physdev-is-bridged {jump} -j {pod}\n"
        );
        text += &format!("-A KUBE-ROUTER-OUTPUT {side} {web}/{length} {jump} -j {pod}\n");
    }
    for built_in in ["INPUT", "FORWARD", "OUTPUT"] {
        text += &format!("-A KUBE-ROUTER-{built_in} -j KUBE-NWPLCY-TAIL\n");
        text += &format!(
            "-A KUBE-ROUTER-{built_in} {} -m mark --mark 0x20000/0x20000 -j ACCEPT\n",
            comment("rule to explicitly ACCEPT traffic that comply to network policies")
        );
    }
    text += "-A KUBE-NWPLCY-COMMON -m conntrack --ctstate INVALID -j DROP\n\
             -A KUBE-NWPLCY-COMMON -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    text += &format!("-A KUBE-NWPLCY-COMMON {icmp} -j ACCEPT\n");
    text += "-A KUBE-NWPLCY-DEFAULT -j MARK --set-xmark 0x10000/0x10000\n\
             -A KUBE-NWPLCY-TAIL -m mark --mark 0x20000/0x20000 -j ACCEPT\n";
    text += &format!(
        "-A {pod} -j KUBE-NWPLCY-COMMON\n-A {pod} -d {web}/{length} -m addrtype --src-type LOCAL -j ACCEPT\n\
         -A {pod} -s {web}/{length} -j KUBE-NWPLCY-DEFAULT\n-A {pod} -d {web}/{length} {} -j {policy}\n\
         -A {pod} -m mark ! --mark 0x10000/0x10000 -m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100\n\
         -A {pod} -m mark ! --mark 0x10000/0x10000 -j REJECT\n-A {pod} -j MARK --set-xmark 0x0/0x10000\n\
         -A {pod} -j MARK --set-xmark 0x20000/0x20000\n",
        comment("run through nw policy web")
    );
    let matches = format!(
        "-m set --match-set {sets}KUBE-SRC-LRTLOIMJGLBQN4LP src -m set --match-set {sets}KUBE-DST-3YNVZWWGX3UQQ4VQ dst"
    );
    text += &format!(
        "-A {policy} {matches} -j MARK --set-xmark 0x10000/0x10000\n\
         -A {policy} {matches} -m mark --mark 0x10000/0x10000 -j RETURN\nCOMMIT\n"
    );
    text
}

/// What loads all of it into node-a, as `sh` reads it.
pub(crate) fn loading(test: &NodeTest, backend: &str) -> String {
    let files = test.manifests.with_file_name("theirs");
    std::fs::create_dir_all(&files).expect("a directory of our own");
    let write = |name: &str, text: String| {
        let file = files.join(name);
        std::fs::write(&file, text).expect("it is written");
        file.display().to_string()
    };
    let set = |prefix: &str, family: &str, web: &str, far: &str| {
        format!(
            "create {prefix}KUBE-SRC-LRTLOIMJGLBQN4LP hash:net family {family} timeout 0\nadd {prefix}KUBE-SRC-LRTLOIMJGLBQN4LP {far} timeout 0\n\
             create {prefix}KUBE-DST-3YNVZWWGX3UQQ4VQ hash:ip family {family} timeout 0\nadd {prefix}KUBE-DST-3YNVZWWGX3UQQ4VQ {web} timeout 0\n"
        )
    };
    let sets =
        set("", "inet", WEB[0], "10.244.2.0/24") + &set("inet6:", "inet6", WEB[1], "fd00:10:244:2::/64");
    let (sets, four, six) = (
        write("sets", sets),
        write("four", kube_router(WEB[0], 32, "-p icmp -m icmp --icmp-type 8", "")),
        write("six", kube_router(WEB[1], 128, "-p ipv6-icmp -m icmp6 --icmpv6-type 135", "inet6:")),
    );
    let program6 = backend.replace("iptables", "ip6tables");
    format!(
        "ipset restore -exist < {sets}; {backend}-restore --noflush {four}; {program6}-restore --noflush {six}"
    )
}

pub(crate) fn run(test: &NodeTest, script: &str) {
    test.on_node_a(&["sh", "-ec", script]);
}

/// All rules, sets and tables, without counters.
fn everything(test: &NodeTest) -> String {
    let script = "for p in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do $p-save -t filter; done | \
                  sed -e 's/ \\[[0-9:]*\\]$//' -e '/^#/d'; ipset save; nft list tables";
    test.on_node_a(&["sh", "-c", script])
}

fn ready(test: &NodeTest) -> String {
    test.get("node-a", "/readyz")
}

fn of_kube_router(text: &str) -> Vec<&str> {
    let marks = [
        "KUBE-ROUTER-",
        "KUBE-POD-FW-",
        "KUBE-SRC-",
        "KUBE-DST-",
        "BD5VBCHLVAVLMHEL",
        "-COMMON",
        "-DEFAULT",
        "-TAIL",
    ];
    text.lines().filter(|line| marks.iter().any(|mark| line.contains(mark))).collect()
}

#[test]
fn nothing_is_written_beside_kube_router_and_its_leftovers_are_taken_over_without_a_gap() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("router{short}"), backend, Some(WEB_ALLOWS_FAR));
        run(&test, &loading(&test, iptables_beside(backend)));
        everything(&test);
        let before = everything(&test);
        assert_eq!(
            test.probe("near", WEB[0], Protocol::Tcp),
            ProbeOutcome::Refused,
            "kube-router's rules judge"
        );
        assert_eq!(test.probe("far", WEB[1], Protocol::Tcp), ProbeOutcome::Open, "kube-router's rules judge");

        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_for("it waits", || {
            ready(&test).contains("nothing is written while another NetworkPolicy controller")
        });
        test.wait_for("it looked", || {
            ready(&test).contains("[-]preflight failed: other-controller: kube-router filters")
        });
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        let reads = "bridgewarden_sync_duration_seconds_count{phase=\"read\"}";
        test.wait_for("it looked again", || test.metric("node-a", reads) >= 2.0);
        assert_eq!(everything(&test), before);
        test.field.stop(false);
        test.write("policy.yaml", WEB_ALLOWS_FAR);
        assert_eq!(everything(&test), before);

        // kube-router refuses by ICMP, which the kernel limits: an attempt may take a second.
        let refused: Vec<ConnectionProbe> = (0..8).map(|_| ConnectionProbe::from(&test, "near")).collect();
        let allowed = ConnectionProbe::from(&test, "far");
        test.start(&["--audit-interval-seconds", "1", "--takeover"]);
        test.wait_for("taken over", || of_kube_router(&everything(&test)).is_empty());
        test.wait_until_enforced();
        let (mut let_in, mut kept_out) = (0, 0);
        for watch in refused {
            let (open, closed) = watch.end();
            let_in += open;
            kept_out += closed.len();
            assert!(closed.iter().all(|kind| *kind == ErrorKind::ConnectionRefused));
        }
        let (passed, lost) = allowed.end();
        println!("{backend}: {kept_out} refused and {let_in} open; {passed} open and {} not", lost.len());
        assert!(let_in == 0 && kept_out > 10, "{let_in} of {kept_out} got in\n{}", test.field.log());
        assert!(lost.is_empty() && passed > 20, "{lost:?} lost beside {passed}\n{}", test.field.log());
        assert_eq!(test.metric("node-a", "bridgewarden_drift_repairs_total"), 0.0);

        // It still runs.
        run(&test, &loading(&test, iptables_beside(backend)));
        let written = everything(&test);
        test.wait_for("said", || test.field.log().contains("has restored its removed rules"));
        test.wait_for("looked", || test.metric("node-a", reads) >= 5.0);
        let now = everything(&test);
        assert_eq!(of_kube_router(&now), of_kube_router(&written));
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
        assert_eq!(test.probe("far", WEB[1], Protocol::Tcp), ProbeOutcome::Open);
        test.field.stop(false);
        test.field.clean_up().expect("cleanup works");
        assert_eq!(of_kube_router(&everything(&test)), of_kube_router(&written), "cleanup");
    });
}

#[test]
fn leftovers_in_the_other_variant_are_taken_over_as_well() {
    let mut test = NodeTest::build("leftover", "iptables-nft", Some(WEB_ALLOWS_FAR));
    run(&test, &loading(&test, "iptables-legacy"));
    test.start(&["--audit-interval-seconds", "1"]);
    test.wait_for("it waits", || ready(&test).contains("nothing is written while"));
    let reads = "bridgewarden_sync_duration_seconds_count{phase=\"read\"}";
    test.wait_for("it looked again", || test.metric("node-a", reads) >= 3.0);
    assert!(!everything(&test).contains("KUBE-NWPLCY-FORWARD"));
    test.field.stop(false);
    test.start(&["--takeover"]);
    test.wait_for("taken over", || of_kube_router(&everything(&test)).is_empty());
    test.wait_until_enforced();
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
}

#[test]
fn agent_whose_rules_hold_keeps_them_right_when_another_controller_comes() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("comes{short}"), backend, Some(WEB_ALLOWS_FAR));
        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_until_enforced();
        run(&test, &loading(&test, iptables_beside(backend)));
        let theirs = everything(&test);
        test.wait_for("said", || {
            test.field.log().contains("another NetworkPolicy controller filters packets, too")
        });
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        test.wait_for("enforced", || test.probe("far", WEB[0], Protocol::Tcp) == ProbeOutcome::Refused);
        assert_eq!(of_kube_router(&everything(&test)), of_kube_router(&theirs));
    });
}

#[test]
fn takeover_waits_for_a_controller_whose_process_runs() {
    let mut test = NodeTest::build("routerruns", "iptables-nft", Some(WEB_ALLOWS_FAR));
    run(&test, &loading(&test, "iptables-nft"));
    let before = everything(&test);
    let copy = test.manifests.with_file_name("kube-router");
    std::fs::copy("/bin/sleep", &copy).expect("a copy");
    let node = test.field.testbed.node_namespace("node-a").expect("a node");
    let mut command = Command::new(&copy);
    let mut theirs = node.spawn(command.arg("600").stdin(Stdio::null())).expect("it starts");
    test.start(&["--takeover"]);
    test.wait_for("it waits", || {
        ready(&test).contains("nothing is written while another NetworkPolicy controller")
    });
    assert_eq!(everything(&test), before);
    theirs.kill().expect("it is ours");
    theirs.wait().expect("it ends");
    test.wait_for("taken over", || of_kube_router(&everything(&test)).is_empty());
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
}

#[test]
fn table_of_kube_network_policies_is_waited_for_and_taken_over() {
    let mut test = NodeTest::build("knp", "iptables-nft", Some(WEB_ALLOWS_FAR));
    run(&test, "nft add table inet kube-network-policies; nft add table inet theirs");
    test.start(&[]);
    test.wait_for("it waits", || ready(&test).contains("kube-network-policies"));
    assert!(!everything(&test).contains("KUBE-"));
    test.field.stop(false);
    test.start(&["--takeover"]);
    test.wait_for("taken over", || !everything(&test).contains("kube-network-policies"));
    test.wait_until_enforced();
    assert!(everything(&test).contains("table inet theirs"));
}

#[test]
fn takeover_enforces_while_a_controller_runs_that_takes_its_rules_along() {
    let mut test = NodeTest::build("knpruns", "iptables-nft", Some(WEB_ALLOWS_FAR));
    run(&test, "nft add table inet kube-network-policies");
    let copy = test.manifests.with_file_name("netpol");
    std::fs::copy("/bin/sleep", &copy).expect("a copy");
    let node = test.field.testbed.node_namespace("node-a").expect("a node");
    let mut command = Command::new(&copy);
    let mut theirs = node.spawn(command.arg("600").stdin(Stdio::null())).expect("it starts");
    test.start(&["--audit-interval-seconds", "1", "--takeover"]);
    test.wait_for("taken over", || !everything(&test).contains("kube-network-policies"));
    test.wait_until_enforced();
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);

    // As when a pod changes before it is stopped.
    run(&test, "nft add table inet kube-network-policies");
    test.wait_for("said", || test.field.log().contains("has restored its removed rules"));
    assert!(everything(&test).contains("kube-network-policies"));
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    theirs.kill().expect("it is ours");
    theirs.wait().expect("it ends");
    run(&test, "nft delete table inet kube-network-policies");
    test.wait_until_enforced();
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    assert_eq!(test.probe("far", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
}
