//! What audited policies would deny passes and is reported; once they are enforced it is denied.

use crate::denied_flows::reported;
use crate::setup::*;
use bridgewarden::flow::{FlowVerdict, Reason};
use bridgewarden::model::Direction;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;

fn audited(policy: &str) -> String {
    policy.replace("name: web}", "name: web, labels: {bridgewarden.io/audit: 'true'}}")
}

#[test]
fn what_an_audited_policy_would_deny_passes_and_is_reported_once_until_it_is_enforced() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("audit{short}"), backend, Some(&audited(WEB_DENIES_INGRESS)));
        test.start(&["--log-denied", "on"]);
        test.wait_until_enforced();
        for _ in 0..3 {
            assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
            assert_eq!(test.probe("web", "10.244.1.11", Protocol::Tcp), ProbeOutcome::Open);
        }
        test.wait_for("reported", || !reported(&test).is_empty());
        let all = reported(&test);
        let [record] = all.as_slice() else { panic!("one flow, not {all:#?}") };
        let account = &record.account;
        assert_eq!((account.verdict, account.direction), (FlowVerdict::WouldBeDenied, Direction::Ingress));
        assert_eq!(
            (account.reason, account.policies.as_slice()),
            (Reason::NoRuleAllows, &["shop/web".to_owned()][..])
        );
        let ends = [&account.source, &account.destination].map(ToString::to_string);
        assert_eq!(ends, ["shop/near", "shop/web"]);
        assert!(record.to_string().contains("would be denied by ingress of shop/web"), "{record}");
        let audits = "bridgewarden_audited_packets_total{direction=\"ingress\",pod_namespace=\"shop\"}";
        assert!(test.metric("node-a", audits) >= 1.0);
        assert!(!test.get("node-a", "/metrics").contains("bridgewarden_denied_packets_total{"));
        let log = test.field.log();
        assert_eq!(log.matches("\"message\":\"would be denied\"").count(), 1, "{log}");

        test.write("policy.yaml", WEB_DENIES_INGRESS);
        test.wait_for("denied", || test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Refused);
        let denied = |record: &bridgewarden::flow::Record| record.account.verdict == FlowVerdict::Denied;
        test.wait_for("reported as denied", || reported(&test).iter().any(denied));
        test.write("policy.yaml", &audited(WEB_DENIES_INGRESS));
        test.wait_for("open", || test.probe("near", WEB[1], Protocol::Tcp) == ProbeOutcome::Open);
    });
}

/// An audited policy that would allow more than the enforced ones changes nothing.
#[test]
fn audited_policy_beside_an_enforced_one_lets_nothing_in() {
    on_each_backend(|backend, short| {
        let open = audited(WEB_ALLOWS_CLIENTS).replace("name: web,", "name: open,");
        let both = format!("{WEB_DENIES_INGRESS}---{open}");
        let mut test = NodeTest::build(&format!("auboth{short}"), backend, Some(&both));
        test.start(&[]);
        test.wait_until_enforced();
        for to in WEB {
            assert_eq!(test.probe("near", to, Protocol::Tcp), ProbeOutcome::Refused);
        }
        test.wait_for("reported", || reported(&test).len() == 2);
        assert!(reported(&test).iter().all(|record| record.account.verdict == FlowVerdict::Denied));
    });
}
