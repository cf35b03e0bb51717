//! Other programs write to the same tables: policies stay in force, and the other programs' rules are left alone.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use std::time::{Duration, Instant};
use support::field::BACKENDS;

const READS: &str = "bridgewarden_sync_duration_seconds_count{phase=\"read\"}";
const REPAIRS: &str = "bridgewarden_drift_repairs_total";

/// Starts an agent that reads the kernel's notifications of other programs' changes or, without them, polls every second.
fn start(test: &mut NodeTest, backend: &str) {
    let seconds = if backend == "iptables-legacy" { "1" } else { "3600" };
    test.start(&["--audit-interval-seconds", seconds]);
    test.wait_until_enforced();
}

/// Runs a script on node-a, in which `$T` and `$T6` are the two programs of the variant.
fn run(test: &NodeTest, backend: &str, script: &str) {
    let four = iptables_beside(backend);
    let six = four.replace("iptables", "ip6tables");
    test.on_node_a(&["sh", "-ec", &format!("T={four} T6={six}\n{script}")]);
}

/// All rules of both families that the agent did not write, without counters.
fn theirs(test: &NodeTest, backend: &str) -> Vec<String> {
    let four = iptables_beside(backend);
    let six = four.replace("iptables", "ip6tables");
    let text = [four, &six].map(|program| test.on_node_a(&[&format!("{program}-save")])).concat();
    let bare = |line: &str| match line.split_once(" [") {
        Some((chain, _)) if line.starts_with(':') => chain.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    let ours = |line: &&str| line.contains("KUBE-NWPLCY-") || line.contains("KUBE-POD-SPECIFIC-FW-");
    text.lines().filter(|line| !line.starts_with('#') && !ours(line)).map(bare).collect()
}

/// Whether our hook is the first rule of FORWARD, and there once.
fn is_first(test: &NodeTest, program: &str) -> bool {
    let saved = test.on_node_a(&[&format!("{program}-save"), "-t", "filter"]);
    let forward: Vec<_> = saved.lines().filter(|line| line.starts_with("-A FORWARD ")).collect();
    let hook = "-A FORWARD -j KUBE-NWPLCY-FORWARD";
    forward.first() == Some(&hook) && forward.iter().filter(|line| **line == hook).count() == 1
}

/// Waits until near is denied at web again and the hooks are first, and returns how long that took.
fn in_force_again(test: &NodeTest, backend: &str, what: &str) -> Duration {
    let start = Instant::now();
    for to in WEB {
        test.wait_for(what, || test.probe("near", to, Protocol::Tcp) == ProbeOutcome::Refused);
    }
    if backend != "nftables" {
        for program in [backend, &backend.replace("iptables", "ip6tables")] {
            test.wait_for(what, || is_first(test, program));
        }
    }
    start.elapsed()
}

/// A whole filter table, as `iptables-restore` loads it at the start of a firewall manager.
const THEIR_TABLE: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:THEIRS - [0:0]
-A INPUT -i lo -j ACCEPT
-A FORWARD -j THEIRS
-A THEIRS -m mark --mark 0x77 -j DROP
COMMIT
";

/// A ruleset of nftables' own, as `nft -f` loads it.
const THEIR_RULESET: &str = "flush ruleset
table inet theirs {
	chain forward {
		type filter hook forward priority filter + 10; policy accept;
		meta mark 0x77 drop
	}
}
";

/// What firewall managers do to the tables, and which of their rules must stay.
fn managers(backend: &str, files: &str) -> Vec<(&'static str, String)> {
    let load = "-A FORWARD -m mark --mark 0x77 -j DROP";
    let mut managers = vec![
        (
            "a whole table is loaded",
            format!("$T-restore {files}/their.rules; $T6-restore {files}/their.rules"),
        ),
        ("everything is flushed", format!("for t in $T $T6; do $t -F; $t -X || true; $t {load}; done")),
        ("FORWARD is flushed", format!("for t in $T $T6; do $t -F FORWARD; $t {load}; done")),
    ];
    if backend == "iptables-nft" {
        managers.push(("nft flushes the ruleset", format!("nft -f {files}/their.nft")));
    }
    managers
}

#[test]
fn firewall_manager_that_flushes_and_loads_is_put_right_and_keeps_its_own() {
    on_each_variant(|backend, short| {
        let mut test = NodeTest::build(&format!("manager{short}"), backend, Some(WEB_DENIES_INGRESS));
        let files = test.manifests.with_file_name("files");
        std::fs::create_dir_all(&files).expect("a directory of our own");
        std::fs::write(files.join("their.rules"), THEIR_TABLE).expect("it is written");
        std::fs::write(files.join("their.nft"), THEIR_RULESET).expect("it is written");
        for (what, script) in managers(backend, &files.to_string_lossy()) {
            // Each comes after a quiet time: a change soon after another one is repaired a little later.
            test.field.stop(false);
            start(&mut test, backend);
            assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused, "before {what}");
            let repairs = test.metric("node-a", REPAIRS);
            run(&test, backend, &script);
            let took = in_force_again(&test, backend, what);
            println!("{backend}: {what}: in force again {:.0} ms after its end", took.as_secs_f64() * 1e3);
            assert!(test.metric("node-a", REPAIRS) > repairs, "{what}");
            assert!(test.field.log().contains("another program changed"), "{}", test.field.log());
            if what.starts_with("nft") {
                assert!(
                    test.on_node_a(&["nft", "list", "table", "inet", "theirs"]).contains("0x00000077 drop")
                );
                continue;
            }
            let left = theirs(&test, backend);
            let rules = left.iter().filter(|rule| rule.contains("-m mark --mark 0x77 -j DROP")).count();
            assert_eq!(rules, 2, "{what}: one of each family in {left:#?}");
        }
    });
}

#[test]
fn sets_that_others_empty_or_destroy_are_filled_again() {
    on_each_variant(|backend, short| {
        let mut test = NodeTest::build(&format!("ipset{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        test.write("more.yaml", NEAR_DENIES_EGRESS);
        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_until_enforced();
        let sets = |test: &NodeTest| {
            let text = test.on_node_a(&["ipset", "save"]);
            let mut lines: Vec<_> =
                text.lines().filter(|line| line.starts_with("add")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let before = sets(&test);
        assert!(!before.is_empty());
        for script in ["ipset flush", "for t in $T $T6; do $t -F; $t -X; done; ipset destroy || true"] {
            let repairs = test.metric("node-a", REPAIRS);
            run(&test, backend, script);
            test.wait_for(script, || sets(&test) == before);
            in_force_again(&test, backend, script);
            test.wait_for("counted", || test.metric("node-a", REPAIRS) > repairs);
            assert_eq!(test.probe("far", WEB[0], Protocol::Tcp), ProbeOutcome::Refused, "by its own egress");
        }
    });
}

#[test]
fn own_changes_and_those_of_other_tables_cause_no_audit() {
    let backend = BACKENDS[0];
    let mut test = NodeTest::build("news", backend, Some(WEB_DENIES_INGRESS));
    start(&mut test, backend);
    let before = test.metric("node-a", READS);
    let writes = "bridgewarden_kernel_writes_total{kind=\"rules\"}";
    let written = test.metric("node-a", writes);
    for round in 0..100 {
        test.write("policy.yaml", if round % 2 == 0 { WEB_ALLOWS_CLIENTS } else { WEB_DENIES_INGRESS });
        let due = written + f64::from(2 * (round + 1));
        test.wait_for("written", || test.metric("node-a", writes) >= due);
    }
    assert_eq!(test.metric("node-a", READS), before, "audits after 100 changes of our own");

    let table = |table: &str, chain: &str| {
        let rules: String = (0..500).map(|n| format!("-A {chain} -m mark --mark {n} -j RETURN\n")).collect();
        format!("*{table}\n:{chain} - [0:0]\n{rules}COMMIT\n")
    };
    let file = test.manifests.with_file_name("proxy.rules");
    let text = [table("nat", "KUBE-SVC"), table("filter", "KUBE-SERVICES")].concat();
    std::fs::write(&file, text).expect("it is written");
    run(&test, backend, &format!("for i in $(seq 100); do $T-restore --noflush {}; done", file.display()));
    assert_eq!(test.metric("node-a", READS), before, "audits after 100 changes of kube-proxy's");

    run(&test, backend, "$T -D FORWARD -j KUBE-NWPLCY-FORWARD");
    in_force_again(&test, backend, "unhooked");
    assert_eq!(test.metric("node-a", READS), before + 1.0, "the one that was needed");
}

/// The rules that flanneld writes when it starts: forwarding at the end of FORWARD, masquerading in nat.
const FLANNEL: &str = "
for n in '$T 10.244.0.0/16 10.244.1.0/24 224.0.0.0/4' '$T6 fd00:10:244::/48 fd00:10:244:1::/64 ff00::/8'; do
  set -- $(eval echo $n)
  $1 -N FLANNEL-FWD
  $1 -A FLANNEL-FWD -s $2 -m comment --comment 'flanneld forward' -j ACCEPT
  $1 -A FLANNEL-FWD -d $2 -m comment --comment 'flanneld forward' -j ACCEPT
  $1 -A FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD
  $1 -t nat -N FLANNEL-POSTRTG
  $1 -t nat -A FLANNEL-POSTRTG -s $3 -d $2 -m comment --comment 'flanneld masq' -j RETURN
  $1 -t nat -A FLANNEL-POSTRTG -s $2 -d $3 -m comment --comment 'flanneld masq' -j RETURN
  $1 -t nat -A FLANNEL-POSTRTG ! -s $2 -d $3 -m comment --comment 'flanneld masq' -j RETURN
  $1 -t nat -A FLANNEL-POSTRTG -s $2 ! -d $4 -m comment --comment 'flanneld masq' -j MASQUERADE --random-fully
  $1 -t nat -A POSTROUTING -m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG
done
";

/// What kube-proxy's iptables mode writes for forwarding, at the head of FORWARD.
const KUBE_PROXY: &str = "
for t in $T $T6; do
  $t -N KUBE-FORWARD
  $t -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
  $t -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  $t -I FORWARD -m comment --comment 'kubernetes forwarding rules' -j KUBE-FORWARD
done
";

/// What Docker writes, at the head of FORWARD, whose policy it sets.
const DOCKER: &str = "
for t in $T $T6; do
  $t -N DOCKER-USER
  $t -A DOCKER-USER -j RETURN
  $t -N DOCKER-FORWARD
  $t -A DOCKER-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  $t -A DOCKER-FORWARD -i docker0 -j ACCEPT
  $t -I FORWARD -j DOCKER-FORWARD
  $t -I FORWARD -j DOCKER-USER
  $t -P FORWARD DROP
done
";

/// Puts a rule first that accepts what policies deny.
const ACCEPT_FIRST: &str = "for t in $T $T6; do $t -I FORWARD 1 -i cni0 -j ACCEPT; done";

/// What flanneld does to its rules when it restarts.
const FLANNEL_AGAIN: &str = "
for t in $T $T6; do
  $t -D FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD
  $t -I FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD
done
";

/// web is open to far over both families, and closed to near.
fn enforces(test: &NodeTest, what: &str) {
    for to in WEB {
        test.wait_for(what, || test.probe("near", to, Protocol::Tcp) == ProbeOutcome::Refused);
        assert_eq!(test.probe("far", to, Protocol::Tcp), ProbeOutcome::Open, "{what}: {to}");
    }
}

pub(crate) const WEB_ALLOWS_FAR: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{ipBlock: {cidr: 10.244.2.0/24}}, {ipBlock: {cidr: 'fd00:10:244:2::/64'}}]}]
";

#[test]
fn rules_of_flannel_kube_proxy_and_docker_stay_byte_for_byte_and_policies_come_first() {
    on_each_backend(|backend, short| {
        let orders: [[&str; 3]; 2] = [[FLANNEL, KUBE_PROXY, DOCKER], [KUBE_PROXY, FLANNEL, DOCKER]];
        for (order, [early, late, last]) in orders.into_iter().enumerate() {
            let mut test = NodeTest::build(&format!("others{short}{order}"), backend, Some(WEB_ALLOWS_FAR));
            run(&test, backend, early);
            let before = theirs(&test, backend);
            start(&mut test, backend);
            enforces(&test, "after the first");
            assert_eq!(theirs(&test, backend), before, "rules that were there before");
            for (what, script) in [
                ("the second", late),
                ("the third", last),
                ("flanneld again", FLANNEL_AGAIN),
                ("a rule that accepts first", ACCEPT_FIRST),
            ] {
                run(&test, backend, script);
                let wrote = theirs(&test, backend);
                let took = in_force_again(&test, backend, what);
                println!("{backend}: {what}: first again within {:.0} ms", took.as_secs_f64() * 1e3);
                enforces(&test, what);
                assert_eq!(theirs(&test, backend), wrote, "{what}");
            }
            test.field.stop(false);
            let left = theirs(&test, backend);
            test.field.clean_up().expect("cleanup works");
            assert_eq!(theirs(&test, backend), left, "cleanup");
        }
    });
}
