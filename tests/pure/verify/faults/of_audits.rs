//! Faults in the chains of audits: they may deny nothing.

use super::{CLUSTER, Fault, chain_of, evidence, find_all_in, in_chain, inet, node_of};
use bridgewarden::apply::Fake;
use bridgewarden::net::Family;
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::nftables::{Rule, Verdict};
use bridgewarden::verify::{VerificationOutcome, verify};

/// An audited policy that would isolate `near`, and one that would allow `web` everything.
const AUDITED: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: near, labels: {bridgewarden.io/audit: 'true'}}
spec:
  podSelector: {matchLabels: {app: client}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: everything, labels: {bridgewarden.io/audit: 'true'}}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress: [{}]
  egress: [{}]
";

fn cluster() -> String {
    format!("{CLUSTER}{AUDITED}")
}

fn audit_chain(kernel: &mut Fake) -> &mut Vec<String> {
    let chain = chain_of(kernel, Family::V4, |_, rules| {
        rules.iter().any(|rule| rule.contains("audit of ingress of pod shop/near"))
    });
    in_chain(kernel, Family::V4, &chain)
}

const OF_IPTABLES: [Fault<Fake>; 2] = [
    (
        "a pod's audit that drops",
        |kernel| audit_chain(kernel).push("-j DROP".into()),
        "what does not belong there",
    ),
    (
        "a pod's audit that rejects what it copies",
        |kernel| {
            let rules = audit_chain(kernel);
            let last = rules.last_mut().expect("it copies");
            *last = "-j REJECT --reject-with icmp-port-unreachable".into();
        },
        "what does not belong there",
    ),
];

const OF_NFTABLES: [Fault<Fake>; 2] = [
    (
        "an audit that drops what it copies",
        |kernel| {
            let chain = inet(kernel).chains.get_mut("AUDITED-INGRESS").expect("a chain");
            chain.rules.push(Rule::verdict(Verdict::Drop));
        },
        "what does not belong there: drop",
    ),
    (
        "a profile of audits that drops first",
        |kernel| {
            let table = inet(kernel);
            let verdict = table.sets["AUDIT-INGRESS-4"].elements.verdicts().next().cloned();
            let Some(Verdict::Goto(chain)) = verdict else { panic!("it leads to a chain") };
            table.chains.get_mut(&chain).expect("it is there").rules.insert(0, Rule::verdict(Verdict::Drop));
        },
        "what does not belong there: drop",
    ),
];

#[test]
fn audits_that_deny_are_found_and_named_on_each_backend() {
    find_all_in(BackendName::IptablesNft, &cluster(), &OF_IPTABLES);
    find_all_in(BackendName::Nftables, &cluster(), &OF_NFTABLES);
}

#[test]
fn kernel_with_audits_is_verified() {
    for backend in support::backends::BACKENDS {
        let (enforcer, mut kernel) = node_of(backend, &cluster());
        let verification = verify(&evidence(&mut kernel, enforcer.options()), &enforcer.expectation());
        assert_eq!(verification.finding, VerificationOutcome::Verified, "{backend:?}");
    }
}
