//! `bridgewarden explain --live` on the real kernel: it shows the way of a connection through the rules, sets and ports of a node,
//! agrees with what an agent wrote, and names each fault that is planted on the way.

use crate::cleanup::{PROGRAM, tried};
use crate::setup::*;
use crate::verify::{OF_IPTABLES, OF_NFTABLES, VERIFIED_CLUSTER};
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use support::schema::misfits;

/// A question, asked on node-a of what its agent enforces.
fn question(test: &NodeTest, asked: &str) -> String {
    let results = test.field.testbed.cni_results_dir("node-a");
    let (manifests, results) = (test.manifests.display(), results.display());
    format!("{PROGRAM} explain -f {manifests} --live --node-name node-a --cni-results-dir {results} {asked}")
}

fn ask(test: &NodeTest, asked: &str) -> (String, i32) {
    tried(test, &question(test, asked))
}

/// What a fault is, how it is planted, which question shows it, and what is said.
type OnTheWay = (&'static str, &'static str, &'static str, &'static [&'static str]);

const ALLOWED: &str = "shop/near shop/web:80";
const DENIED: &str = "shop/stranger shop/web:80";
const KERNEL_DENIES: &str = "DISAGREE: policies allow it, and the kernel denies it";
const KERNEL_ALLOWS: &str = "DISAGREE: policies deny it, and the kernel lets it pass";

const WITH_IPTABLES: [OnTheWay; 9] = [
    ("a removed rule", "$IP -F $WEB", ALLOWED, &[KERNEL_DENIES, "is empty"]),
    (
        "a lost set member",
        "ipset del $CLIENTS 10.244.1.11",
        ALLOWED,
        &[KERNEL_DENIES, "10.244.1.11 is not in KUBE-NWPLCY-P4-", "lacks 10.244.1.11"],
    ),
    (
        "an address that is no longer isolated",
        "ipset del KUBE-NWPLCY-ISOLATED-INGRESS-4 10.244.1.10",
        DENIED,
        &[KERNEL_ALLOWS, "set KUBE-NWPLCY-ISOLATED-INGRESS-4 lacks 10.244.1.10"],
    ),
    (
        "a foreign ACCEPT before ours",
        "$IP -I FORWARD 1 -o cni0 -j ACCEPT",
        DENIED,
        &[KERNEL_ALLOWS, "FORWARD 1: -o cni0 -j ACCEPT", "has rules before its jump to KUBE-NWPLCY-FORWARD"],
    ),
    (
        "a foreign DROP before ours",
        "$IP -I FORWARD 1 -s 10.244.1.11 -j DROP",
        ALLOWED,
        &[KERNEL_DENIES, "FORWARD 1: -s 10.244.1.11/32 -j DROP"],
    ),
    (
        "a foreign rule before ours that cannot be evaluated",
        "$IP -I FORWARD 1 -m statistic --mode random --probability 0.5 -j ACCEPT",
        ALLOWED,
        &["NOT KNOWN: it is not known what the kernel does", "statistic"],
    ),
    (
        "a foreign rule before ours that may deny and cannot be evaluated",
        "$IP -I FORWARD 1 -m statistic --mode random --probability 0.5 -j DROP",
        ALLOWED,
        &[
            "not understood; may decide before: FORWARD (IPv4): -m statistic",
            "NOT KNOWN: it is not known what the kernel does",
        ],
    ),
    (
        "a foreign rule before ours that accepts and whose comment names another target",
        "$IP -I FORWARD 1 -m statistic --mode random --probability 0.5 -m comment --comment 'as with -j DROP' -j ACCEPT",
        ALLOWED,
        &["NOT KNOWN: it is not known what the kernel does: FORWARD (IPv4) has a rule", "statistic"],
    ),
    (
        "no jump to ours",
        "$IP -D FORWARD -j KUBE-NWPLCY-FORWARD",
        DENIED,
        &[KERNEL_ALLOWS, "does not jump to KUBE-NWPLCY-FORWARD"],
    ),
];

const WITH_NFTABLES: [OnTheWay; 5] = [
    (
        "a removed rule",
        "nft delete rule $T $PROFILE handle $(nft -a list chain $T $PROFILE | sed -n 's/.*@KUBE-NWPLCY-P4.*# handle //p' | head -1)",
        ALLOWED,
        &[KERNEL_DENIES, "lacks its rule"],
    ),
    (
        "a lost set member",
        "nft delete element $T $CLIENTS '{ 10.244.1.11 }'",
        ALLOWED,
        &[KERNEL_DENIES, "10.244.1.11 is not in KUBE-NWPLCY-P4-", "lacks 10.244.1.11"],
    ),
    (
        "an address that is no longer isolated",
        "nft delete element $T ISOLATED-INGRESS-4 '{ 10.244.1.10 }'",
        DENIED,
        &[KERNEL_ALLOWS, "10.244.1.10 is not in ISOLATED-INGRESS-4", "lacks 10.244.1.10"],
    ),
    (
        "an ACCEPT before ours",
        "nft insert rule $T FORWARD-INGRESS tcp dport 80 accept",
        DENIED,
        &[KERNEL_ALLOWS, "FORWARD-INGRESS 1: meta l4proto tcp tcp dport 80 accept", "does not belong there"],
    ),
    (
        "a dormant table",
        "nft add table $T '{ flags dormant; }'",
        DENIED,
        &[KERNEL_ALLOWS, "table inet bridgewarden is dormant"],
    ),
];

const WITH_EACH: [OnTheWay; 3] = [
    (
        "an unbound port",
        "nft flush map bridge bridgewarden from",
        ALLOWED,
        &["DISAGREE: kernel and policies allow it, but port veth", "is not bound: the map `from`"],
    ),
    (
        "a port that is bound to another address, too",
        "PORT=$(nft list set bridge bridgewarden bound4 | tr -d '\\n\\t' | grep -o '[^ {,]* \\. 10.244.1.10' | cut -d' ' -f1); \
         nft add element bridge bridgewarden bound4 \"{ $PORT . 10.244.2.21 }\"",
        ALLOWED,
        &["DISAGREE", "of shop/web is bound to 10.244.1.10, 10.244.2.21"],
    ),
    (
        "a bridge that shows no packets",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "shop/near shop/web:81",
        &[
            KERNEL_ALLOWS,
            "the bridge shows it to no rule, because net.bridge.bridge-nf-call-iptables is not 1",
        ],
    ),
];

/// The chain and the set of clients of the policy of shop/web.
const WEB_WITH_IPTABLES: &str = r#"
    WEB=$($IP -S | sed -n 's/^-A \(KUBE-NWPLCY-0[A-Z2-7]*\) .*shop\/web ingress.*/\1/p' | head -1)
    CLIENTS=$($IP -S $WEB | grep -o 'KUBE-NWPLCY-P4-[A-Z0-9]*' | head -1)
"#;
const WEB_WITH_NFTABLES: &str = r#"
    CLIENTS=$(nft list chain $T $PROFILE | grep -o 'KUBE-NWPLCY-P4-[A-Z0-9]*' | head -1)
"#;

#[test]
fn each_fault_on_the_way_of_a_connection_is_named() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build_with(&format!("livef{short}"), backend, VERIFIED_CLUSTER, None);
        let own: &[OnTheWay] = if backend == "nftables" { &WITH_NFTABLES } else { &WITH_IPTABLES };
        let prelude = match backend {
            "nftables" => format!("{OF_NFTABLES}{WEB_WITH_NFTABLES}"),
            variant => OF_IPTABLES.replace("BACKEND", variant) + WEB_WITH_IPTABLES,
        };
        for (what, script, asked, words) in own.iter().chain(&WITH_EACH) {
            // Nothing makes a table dormant that has an owner.
            test.start(&["--own-tables=off"]);
            test.wait_until_enforced();
            test.field.stop(false);
            let (said, ended) = ask(&test, asked);
            assert!(ended < 2 && !said.contains("DISAGREE"), "{backend}: before {what}: {said}");
            let (said, ended) = tried(&test, &format!("set -e; {prelude}\n{script}"));
            assert_eq!(ended, 0, "{backend}: {what} cannot be planted: {said}");
            let (said, ended) = ask(&test, asked);
            println!("{backend}: {what}: exit {ended}\n{said}");
            assert_eq!(ended, 2, "{backend}: {what}: {said}");
            for words in *words {
                assert!(said.contains(words), "{backend}: {what}: this does not say {words:?}: {said}");
            }
            tried(&test, "sysctl -qw net.bridge.bridge-nf-call-iptables=1; nft flush ruleset");
        }
    });
}

#[test]
fn way_through_the_kernel_is_shown_beside_a_running_agent_and_nothing_is_written() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build_with(&format!("live{short}"), backend, VERIFIED_CLUSTER, None);
        test.start(&[]);
        test.wait_until_enforced();
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
        let everything =
            "nft -s list ruleset; iptables-legacy-save -t filter; ipset save; cat /proc/net/ip_tables_names";
        let (before, _) = tried(&test, everything);
        for (asked, code, words) in [
            (ALLOWED, 0, "AGREE: kernel and policies allow it"),
            (DENIED, 1, "AGREE: kernel and policies deny it"),
            ("shop/web shop/db:5432", 0, "AGREE: kernel and policies allow it"),
            ("shop/web 198.51.100.7:443", 1, "routed from the bridge to another network"),
            ("shop/web shop/far:80", 1, "shop/far is on node-b, whose kernel decides about its ingress"),
        ] {
            let (said, ended) = ask(&test, asked);
            println!("{backend}: {asked}: exit {ended}\n{said}");
            assert_eq!(ended, code, "{backend}: {asked}: {said}");
            assert!(said.contains(words), "{backend}: {asked}: this does not say {words:?}: {said}");
        }
        let (said, _) = ask(&test, ALLOWED);
        for words in [
            &format!("The kernel of node-a, {backend}"),
            "shop/web: port veth",
            "is bound to 10.244.1.10, fd00:10:244:1::10, 02:",
            "10.244.1.11 is in KUBE-NWPLCY-P4-",
            "[packets: 1, bytes: 60]",
            "conntrack: TCP 10.244.1.11 port",
        ] {
            assert!(said.contains(words), "{backend}: this does not say {words:?}: {said}");
        }
        let (said, ended) = ask(&test, &format!("{DENIED} -o json"));
        assert_eq!(ended, 1, "{backend}: {said}");
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let found = misfits(include_str!("../../docs/explanation.schema.json"), &json);
        assert!(found.is_empty(), "{backend}: {found:#?}");
        assert_eq!((&json["live"]["agrees"], &json["live"]["backend"]), (&true.into(), &backend.into()));
        let (after, _) = tried(&test, everything);
        let plain = |text: &str| {
            text.lines().filter(|line| !line.starts_with(['#', ':'])).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(plain(&before), plain(&after), "{backend}");
    });
}

#[test]
fn connection_that_was_cut_is_shown_as_such() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build_with(&format!("livec{short}"), backend, VERIFIED_CLUSTER, None);
        test.start(&[]);
        test.wait_until_enforced();
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
        test.write(
            "cluster.yaml",
            &VERIFIED_CLUSTER.replace("app: client}}}]\n    ports", "app: other}}}]\n    ports"),
        );
        test.wait_for("the connection is marked", || ask(&test, ALLOWED).0.contains("marked as cut"));
        let (said, ended) = ask(&test, ALLOWED);
        assert_eq!(ended, 1, "{backend}: {said}");
        assert!(said.contains("marked as cut: its packets are denied"), "{backend}: {said}");
    });
}

/// The node of these tests, which manifests have only where a question names it.
const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-a}
status: {addresses: [{type: InternalIP, address: 192.168.100.1}]}
";

#[test]
fn connection_to_the_node_is_judged_by_what_pod_to_node_says() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build_with(&format!("liven{short}"), backend, VERIFIED_CLUSTER, None);
        let node = test.manifests.with_file_name("node.yaml");
        std::fs::write(&node, NODE).expect("a file");
        let ask = |test: &NodeTest, flags: &str| {
            ask(test, &format!("-f {} shop/web node/node-a:9090 {flags}", node.display()))
        };
        for (agent, flags, code, words) in [
            ("drop", "--pod-to-node drop", 0, "  AGREE: kernel and policies with --pod-to-node deny it"),
            ("drop", "", 2, "DISAGREE: policies with --pod-to-node allow it, and the kernel denies it"),
            ("policy", "--pod-to-node policy", 0, "  AGREE: kernel and policies with --pod-to-node deny it"),
            ("allow", "", 0, "  AGREE: kernel and policies with --pod-to-node allow it"),
            (
                "allow",
                "--pod-to-node drop",
                2,
                "DISAGREE: policies with --pod-to-node deny it, and the kernel lets it pass",
            ),
        ] {
            test.start(&["--pod-to-node", agent]);
            test.wait_until_enforced();
            let (said, ended) = ask(&test, flags);
            assert!(said.contains(words), "{backend}: {agent}, {flags}: {said}");
            assert_eq!(ended, code, "{backend}: {agent}, {flags}: {said}");
            test.field.stop(false);
            tried(&test, "nft flush ruleset");
        }
    });
}

#[test]
fn what_prevents_a_comparison_is_said_with_what_to_do() {
    let mut test = NodeTest::build_with("livex", "nftables", VERIFIED_CLUSTER, None);
    let said = |test: &NodeTest, asked: &str| {
        let (said, ended) = ask(test, asked);
        assert_eq!(ended, 2, "{asked}: {said}");
        said
    };
    assert!(
        said(&test, ALLOWED)
            .contains("no rules of Bridgewarden are in force in this node's kernel, with any backend")
    );
    test.start(&[]);
    test.wait_until_enforced();
    for (asked, words) in [
        ("shop/far shop/stranger:80", "shop/far is on node-b, shop/stranger is on node-b. Ask on that node"),
        ("shop/near shop/web", "name the destination's"),
        ("shop/near shop/near:80", "what a pod or node sends to itself meets no rules"),
        ("shop/near shop/web:80 --bridge nobridge", "there is no bridge nobridge on this node"),
        (
            "shop/near shop/web:80 --backend iptables-nft",
            "with --backend=iptables-nft: policies deny nothing here",
        ),
        (
            "shop/near shop/web:80 --node-name elsewhere",
            "no end of this connection is a pod of this node, elsewhere",
        ),
        ("node/node-a shop/web:80", "a node's is in the status of its Node object"),
    ] {
        let said = said(&test, asked);
        assert!(said.contains(words), "{asked}: this does not say {words:?}: {said}");
    }
    let (said, ended) = ask(&test, "shop/near shop/web:80 --cni-results-dir /nowhere");
    assert!(ended == 0 && said.contains("its port of the bridge is not known"), "{said}");
    let unprivileged = question(&test, ALLOWED);
    let (said, ended) = tried(&test, &format!("setpriv --reuid 65534 --clear-groups {unprivileged}"));
    assert!(ended == 2 && said.contains("that needs root. Try: sudo bridgewarden explain --live"), "{said}");
}
