//! The kernel counts what policies have allowed; the counts are reported by policy, and survive rewrites of chains.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;

/// Also takes in web, and allows what `web` allows; its name comes later.
const WEB_ALLOWS_CLIENTS_TWICE: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web-too}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {}}]}]
";

/// The packets or bytes that a policy has allowed, if it has a series.
fn allowed(test: &NodeTest, what: &str, policy: &str) -> Option<u64> {
    let labels = format!("direction=\"ingress\",policy=\"{policy}\",policy_namespace=\"shop\"");
    let series = format!("bridgewarden_policy_allowed_{what}_total{{{labels}}} ");
    test.get("node-a", "/metrics").lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

fn connect(test: &NodeTest, from: &str, to: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(test.probe(from, to, Protocol::Tcp), ProbeOutcome::Open);
    }
}

#[test]
fn connections_that_a_policy_allows_are_counted_and_no_rewriting_takes_from_the_count() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("counts{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        test.start(&["--metrics-per-policy", "on"]);
        test.wait_until_enforced();
        let packets = |test: &NodeTest, policy: &str| allowed(test, "packets", policy);
        test.wait_for("a first reading", || packets(&test, "web") == Some(0));
        connect(&test, "near", WEB[0], 3);
        connect(&test, "far", WEB[1], 2);
        test.wait_for("five are counted", || packets(&test, "web") == Some(5));
        // Three SYNs of IPv4 and two of IPv6, with options.
        let bytes = allowed(&test, "bytes", "web").expect("both have series");
        assert!((5 * 40..5 * 100).contains(&bytes), "{bytes}");
        test.write("more.yaml", WEB_ALLOWS_CLIENTS_TWICE);
        test.wait_for("the other is in force", || packets(&test, "web-too").is_some());
        assert_eq!(packets(&test, "web"), Some(5), "the pod's chain was rewritten");
        connect(&test, "near", WEB[0], 2);
        test.wait_for("two more are counted", || packets(&test, "web") == Some(7));
        assert_eq!(packets(&test, "web-too"), Some(0), "no packet has matched it");
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        test.wait_for("the other is asked", || {
            connect(&test, "near", WEB[0], 1);
            packets(&test, "web-too") > Some(0)
        });
        test.field.stop(false);
        test.start(&["--metrics-per-policy", "on"]);
        test.wait_until_enforced();
        test.wait_for("a first reading", || packets(&test, "web").is_some());
        assert_eq!(packets(&test, "web"), Some(0), "earlier counts are not reported again");
    });
}

#[test]
fn without_the_flag_nothing_is_reported_by_policy() {
    let mut test = NodeTest::build("countso", support::field::BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    test.start(&[]);
    test.wait_until_enforced();
    connect(&test, "near", WEB[0], 1);
    assert_eq!(allowed(&test, "packets", "web"), None);
    assert!(!test.get("node-a", "/metrics").contains("policy=\""));
}
