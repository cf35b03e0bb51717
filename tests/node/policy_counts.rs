//! What policies have allowed is counted by the kernel and told by policy, whatever is written anew meanwhile.

use crate::stage::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::Outcome;

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
fn allowed(stage: &Stage, what: &str, policy: &str) -> Option<u64> {
    let labels = format!("direction=\"ingress\",policy=\"{policy}\",policy_namespace=\"shop\"");
    let series = format!("bridgewarden_policy_allowed_{what}_total{{{labels}}} ");
    stage.get("node-a", "/metrics").lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

fn connect(stage: &Stage, from: &str, to: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(stage.probe(from, to, Protocol::Tcp), Outcome::Open);
    }
}

#[test]
fn connections_that_a_policy_allows_are_counted_and_no_rewriting_takes_from_the_count() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("counts{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        stage.start(&["--metrics-per-policy", "on"]);
        stage.enforces();
        let packets = |stage: &Stage, policy: &str| allowed(stage, "packets", policy);
        stage.waits_for("a first reading", || packets(&stage, "web") == Some(0));
        connect(&stage, "near", WEB[0], 3);
        connect(&stage, "far", WEB[1], 2);
        stage.waits_for("five are counted", || packets(&stage, "web") == Some(5));
        // Three SYNs of IPv4 and two of IPv6, with options.
        let bytes = allowed(&stage, "bytes", "web").expect("both have series");
        assert!((5 * 40..5 * 100).contains(&bytes), "{bytes}");
        stage.write("more.yaml", WEB_ALLOWS_CLIENTS_TWICE);
        stage.waits_for("the other is in force", || packets(&stage, "web-too").is_some());
        assert_eq!(packets(&stage, "web"), Some(5), "the pod's chain was written anew");
        connect(&stage, "near", WEB[0], 2);
        stage.waits_for("two more are counted", || packets(&stage, "web") == Some(7));
        assert_eq!(packets(&stage, "web-too"), Some(0), "nobody has asked it");
        stage.write("policy.yaml", WEB_ALLOWS_NOBODY);
        stage.waits_for("the other is asked", || {
            connect(&stage, "near", WEB[0], 1);
            packets(&stage, "web-too") > Some(0)
        });
        stage.field.stop(false);
        stage.start(&["--metrics-per-policy", "on"]);
        stage.enforces();
        stage.waits_for("a first reading", || packets(&stage, "web").is_some());
        assert_eq!(packets(&stage, "web"), Some(0), "what was counted before is not told again");
    });
}

#[test]
fn without_the_flag_nothing_is_told_by_policy() {
    let mut stage = Stage::set("countso", support::field::BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    stage.start(&[]);
    stage.enforces();
    connect(&stage, "near", WEB[0], 1);
    assert_eq!(allowed(&stage, "packets", "web"), None);
    assert!(!stage.get("node-a", "/metrics").contains("policy=\""));
}
