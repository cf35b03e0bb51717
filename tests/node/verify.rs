//! `bridgewarden verify` on the real kernel: it agrees with what an agent wrote, and finds and names each fault that is planted there.

use crate::cleanup::{PROGRAM, tried};
use crate::setup::*;

pub(crate) const VERIFIED_CLUSTER: &str = include_str!("../verify/cluster.yaml");

/// What the scripts of faults use: the programs of the backend, and the chains and sets of the cluster.
pub(crate) const OF_IPTABLES: &str = r#"
    IP=BACKEND; IP6=$(echo BACKEND | sed s/iptables/ip6tables/)
    POD=$($IP -S | sed -n 's/^-A KUBE-NWPLCY-INGRESS-.* -d 10.244.1.10\/32 .*-g //p; s/^-A KUBE-NWPLCY-INGRESS-.. -d 10.244.1.10\/32 .*-g //p' | head -1)
    POLICY=$($IP -S | sed -n 's/^-A \(KUBE-NWPLCY-0[A-Z2-7]*\) .*--match-set KUBE-NWPLCY-P4-.*/\1/p' | head -1)
    PEERS=$(ipset list -n | grep -- -P4- | head -1); OTHERS=$(ipset list -n | grep -- -P4- | tail -1)
    BLOCK=$(ipset list -n | grep -- -B4- | head -1)
    test -n "$POD" && test -n "$POLICY" && test "$PEERS" != "$OTHERS" && test -n "$BLOCK"
"#;
pub(crate) const OF_NFTABLES: &str = r#"
    T='inet bridgewarden'
    POLICY=$(nft list table $T | awk '/chain KUBE-NWPLCY-0/{c=$2} /@KUBE-NWPLCY-P4/{print c; exit}')
    PROFILE=$(nft list map $T ISOLATED-INGRESS-4 | grep -o '10.244.1.10 : goto [A-Z0-9-]*' | cut -d' ' -f4)
    OTHER=$(nft list map $T ISOLATED-INGRESS-4 | grep -o '10.244.1.12 : goto [A-Z0-9-]*' | cut -d' ' -f4)
    PEERS=$(nft list table $T | sed -n 's/.*set \(KUBE-NWPLCY-P4-[A-Z0-9]*\) {/\1/p' | head -1)
    BLOCK=$(nft list table $T | sed -n 's/.*set \(KUBE-NWPLCY-B4-[A-Z0-9]*\) {/\1/p' | head -1)
    test -n "$POLICY" && test -n "$PROFILE" && test -n "$OTHER" && test -n "$PEERS" && test -n "$BLOCK"
"#;

/// What a fault is, how it is planted, how verification ends, and what it says.
type Planted = (&'static str, &'static str, i32, &'static str);

const WITH_IPTABLES: [Planted; 18] = [
    ("a rule of a policy removed", "$IP -F $POLICY", 1, "is empty"),
    ("a pod's chain flushed", "$IP -F $POD", 1, "is empty"),
    ("a foreign ACCEPT before ours", "$IP -I FORWARD 1 -i cni0 -j ACCEPT", 1, "rules before its jump"),
    ("a foreign ACCEPT of one port before ours", "$IP -I FORWARD 1 -p tcp --dport 8443 -j ACCEPT", 1, "8443"),
    (
        "a foreign rule before ours that cannot be evaluated",
        "$IP -I FORWARD 1 -m statistic --mode random --probability 0.5 -j ACCEPT",
        2,
        "cannot be evaluated",
    ),
    ("no jump to ours", "$IP -D FORWARD -j KUBE-NWPLCY-FORWARD", 1, "has no jump to KUBE-NWPLCY-FORWARD"),
    ("swapped sets", "ipset swap $PEERS $OTHERS", 1, "too many"),
    ("a lost member", "ipset flush $PEERS", 1, "lacks 10.244."),
    (
        "a member too many",
        "ipset add $PEERS 10.244.2.21; ipset add $OTHERS 10.244.2.21",
        1,
        "has 10.244.2.21 too many",
    ),
    (
        "addresses that are no longer isolated",
        "ipset flush KUBE-NWPLCY-ISOLATED-INGRESS-4",
        1,
        "lacks 10.244.1.10",
    ),
    (
        "an address that never was of this node",
        "ipset add KUBE-NWPLCY-LOCAL-4 10.244.1.77",
        1,
        "10.244.1.77 too many",
    ),
    (
        "an address that is no longer of this node",
        "ipset del KUBE-NWPLCY-LOCAL-4 10.244.1.11",
        1,
        "lacks 10.244.1.11",
    ),
    (
        "a block without its exception",
        "ipset del $BLOCK 203.0.113.128/25",
        1,
        "lacks 203.0.113.128/25 nomatch",
    ),
    (
        "REJECT made RETURN",
        "$IP -S $POD | grep REJECT | sed s/^-A/-D/ | while read -r rule; do eval $IP $rule; done; $IP -A $POD -j RETURN",
        1,
        "-j RETURN",
    ),
    (
        "rules in another order",
        "$IP -S $POD | grep -e '-j KUBE-NWPLCY-0' | while read -r rule; do eval $IP \"$(echo \"$rule\" | sed s/^-A/-D/)\"; eval $IP \"$rule\"; done",
        1,
        "in another order",
    ),
    (
        "a wrong mark",
        "$IP -S $POLICY | grep xmark | while read -r rule; do eval $IP \"$(echo \"$rule\" | sed s/^-A/-D/)\"; eval $IP \"$(echo \"$rule\" | sed s/0x10000/0x20000/g)\"; done",
        1,
        "0x20000",
    ),
    ("no rules of IPv6", "$IP6 -F KUBE-NWPLCY-FORWARD", 1, "chain KUBE-NWPLCY-FORWARD (IPv6) is empty"),
    ("no jump to ours in IPv6", "$IP6 -D FORWARD -j KUBE-NWPLCY-FORWARD", 1, "FORWARD (IPv6) has no jump"),
];

const WITH_NFTABLES: [Planted; 19] = [
    (
        "a rule of a policy removed",
        "nft delete rule $T $POLICY handle $(nft -a list chain $T $POLICY | sed -n 's/.*@KUBE-NWPLCY-P4.*# handle //p' | head -1)",
        1,
        "lacks its rule",
    ),
    ("a profile's chain flushed", "nft flush chain $T $PROFILE", 1, "is empty"),
    (
        "a profile's chain that returns first",
        "nft insert rule $T $PROFILE return",
        1,
        "does not belong there: return",
    ),
    ("rules in another order", "nft insert rule $T $PROFILE goto DENIED-INGRESS", 1, "goto DENIED-INGRESS"),
    ("a denial that accepts", "nft insert rule $T DENIED-INGRESS accept", 1, "does not belong there: accept"),
    (
        "a rule that accepts first",
        "nft insert rule $T FORWARD-INGRESS accept",
        1,
        "FORWARD-INGRESS of table inet",
    ),
    (
        "a rule that accepts one port first",
        "nft insert rule $T FORWARD-INGRESS tcp dport 8443 accept",
        1,
        "8443",
    ),
    (
        "a rule that cannot be evaluated",
        "nft insert rule $T FORWARD-INGRESS numgen random mod 2 0 accept",
        2,
        "cannot evaluate",
    ),
    (
        "a base chain flushed",
        "nft flush chain $T FORWARD-INGRESS",
        1,
        "FORWARD-INGRESS of table inet bridgewarden is empty",
    ),
    ("no table", "nft delete table $T", 1, "table inet bridgewarden is missing"),
    ("a dormant table", "nft add table $T '{ flags dormant; }'", 1, "table inet bridgewarden is dormant"),
    (
        "an address that is no longer isolated",
        "nft delete element $T ISOLATED-INGRESS-4 '{ 10.244.1.10 }'",
        1,
        "lacks 10.244.1.10",
    ),
    (
        "an address with another's profile",
        "nft delete element $T ISOLATED-INGRESS-4 '{ 10.244.1.10 }'; nft add element $T ISOLATED-INGRESS-4 \"{ 10.244.1.10 : goto $OTHER }\"",
        1,
        "leads 10.244.1.10 to",
    ),
    ("a lost member", "nft flush set $T $PEERS", 1, "lacks 10.244."),
    ("a member too many", "nft add element $T $PEERS '{ 10.244.2.21 }'", 1, "has 10.244.2.21 too many"),
    (
        "an address that never was of this node",
        "nft add element $T LOCAL-4 '{ 10.244.1.77 }'",
        1,
        "10.244.1.77 too many",
    ),
    (
        "an address that is no longer of this node",
        "nft delete element $T LOCAL-4 '{ 10.244.1.11 }'",
        1,
        "lacks 10.244.1.11",
    ),
    (
        "a block without its exception",
        "nft add element $T $BLOCK '{ 203.0.113.128-203.0.113.255 }'",
        1,
        "203.0.113.128-203.0.113.255 too many",
    ),
    (
        "no rules of IPv6",
        "nft flush map $T ISOLATED-INGRESS-6",
        1,
        "ISOLATED-INGRESS-6 of table inet bridgewarden lacks fd00",
    ),
];

const WITH_EACH: [Planted; 5] = [
    ("no table of ports", "nft delete table bridge bridgewarden", 1, "table bridge bridgewarden is missing"),
    (
        "a dormant table of ports",
        "nft add table bridge bridgewarden '{ flags dormant; }'",
        1,
        "table bridge bridgewarden is dormant",
    ),
    (
        "ports that are not bound",
        "nft flush map bridge bridgewarden from",
        1,
        "set from of table bridge bridgewarden lacks",
    ),
    (
        "a port with another's address",
        "PORT=$(nft list set bridge bridgewarden bound4 | tr -d '\\n\\t' | grep -o '[^ {,]* \\. 10.244.1.10' | cut -d' ' -f1); nft add element bridge bridgewarden bound4 \"{ $PORT . 10.244.2.21 }\"",
        1,
        "10.244.2.21 too many",
    ),
    (
        "a bridge that shows no packets",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        1,
        "are not shown to the packet filter",
    ),
];

fn command(test: &NodeTest) -> String {
    let results = test.field.testbed.cni_results_dir("node-a");
    format!(
        "{PROGRAM} verify --node-name node-a --backend {} --manifests {} --cni-results-dir {}",
        test.backend,
        test.manifests.display(),
        results.display()
    )
}

#[test]
fn each_fault_in_the_kernel_is_found_and_named() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build_with(&format!("ver{short}"), backend, VERIFIED_CLUSTER, None);
        let own: &[Planted] = if backend == "nftables" { &WITH_NFTABLES } else { &WITH_IPTABLES };
        let prelude = match backend {
            "nftables" => OF_NFTABLES.to_owned(),
            variant => OF_IPTABLES.replace("BACKEND", variant),
        };
        let dormant: [Planted; 2] = [
            (
                "a dormant filter table",
                "nft add table ip filter '{ flags dormant; }'",
                1,
                "table ip filter is dormant",
            ),
            (
                "a dormant filter table of IPv6",
                "nft add table ip6 filter '{ flags dormant; }'",
                1,
                "table ip6 filter is dormant",
            ),
        ];
        let more: &[Planted] = if backend == "iptables-nft" { &dormant } else { &[] };
        let verify = command(&test);
        for (what, script, code, words) in own.iter().chain(&WITH_EACH).chain(more) {
            // Nothing makes a table dormant that has an owner.
            test.start(&["--own-tables=off"]);
            test.wait_until_enforced();
            test.field.stop(false);
            let (said, ended) = tried(&test, &verify);
            assert_eq!(ended, 0, "{backend}: before {what}: {said}");
            let (said, ended) = tried(&test, &format!("set -e; {prelude}\n{script}"));
            assert_eq!(ended, 0, "{backend}: {what} cannot be planted: {said}");
            let (said, ended) = tried(&test, &verify);
            println!("{backend}: {what}: exit {ended}\n{said}");
            assert_eq!(ended, *code, "{backend}: {what}: {said}");
            assert!(said.contains(words), "{backend}: {what}: this does not say {words:?}: {said}");
            tried(&test, "sysctl -qw net.bridge.bridge-nf-call-iptables=1; nft flush ruleset");
        }
    });
}

#[test]
fn kernel_beside_a_running_agent_is_verified_and_the_agent_verifies_it_too() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build_with(&format!("vera{short}"), backend, VERIFIED_CLUSTER, None);
        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_until_enforced();
        let (said, ended) = tried(&test, &command(&test));
        assert_eq!(ended, 0, "{backend}: {said}");
        assert!(said.contains("decisions verified"), "{said}");
        // Without the flag, the backend is the one that has rules.
        let by_itself = command(&test).replace(&format!(" --backend {backend}"), "");
        let (said, ended) = tried(&test, &format!("{by_itself} -o json"));
        assert_eq!(ended, 0, "{backend}: {said}");
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((&json["kind"], &json["result"]), (&"Verification".into(), &"verified".into()));
        assert_eq!(json["backend"], *backend, "{json}");
        assert!(json["decisions"]["packets"].as_u64() > Some(300), "{json}");
        test.wait_for("the agent verifies", || {
            test.metric("node-a", "bridgewarden_verified_timestamp_seconds") > 0.0
        });
        assert!(test.metric("node-a", "bridgewarden_verified_decisions") > 300.0);
        assert!(test.get("node-a", "/readyz").contains("verified"), "{}", test.get("node-a", "/readyz"));
    });
}
