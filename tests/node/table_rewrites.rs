//! Chains that are rewritten and tables that are replaced under traffic: no connection is denied or let in wrongly.

use crate::setup::*;
use crate::switch::{ConnectionProbe, WEB_ALLOWS_ITS_NODE, WEB_ALLOWS_NEAR};
use bridgewarden::apply::nftables::replacement;
use bridgewarden::apply::{Actual, PacketFilter, Step};
use bridgewarden::controller::Enforcer;
use bridgewarden::kernel::Host;
use bridgewarden::model::Change;
use bridgewarden::netfilter::BackendName;
use bridgewarden::ownership::INET_TABLE_NEXT;
use bridgewarden::render::{Binding, Options};
use bridgewarden::source::Directory;

/// The same connections as [`WEB_ALLOWS_NEAR`] by sets of ranges of ports.
const WEB_ALLOWS_NEAR_ON_PORTS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
    - from: [{podSelector: {matchLabels: {app: client}}, namespaceSelector: {matchLabels: {none: none}}}]
    - from: [{ipBlock: {cidr: 10.244.1.0/24}}, {ipBlock: {cidr: 'fd00:10:244:1::/64'}}]
      ports: [{port: 80, endPort: 82}, {port: 443}, {port: 8080}]
";

/// How often: a few times, or as often as a variable says.
fn count(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// The changes that an agent of node-a reads from the manifests with this policy.
fn facts(test: &NodeTest, policy: &str) -> Vec<Change> {
    test.write("policy.yaml", policy);
    let loaded = Directory::new(&test.manifests).load();
    assert!(loaded.error.is_none() && loaded.invalid.is_empty());
    loaded.changes
}

/// Enforces on node-a in this process while near, which may, and far, which may not, dial web. Returns how many connections reached it
/// and how many were refused: neither wrongly.
fn under_traffic(
    id: &str,
    act: impl FnOnce(&mut Enforcer, &mut Host, &[Vec<Change>]) + Send,
) -> (usize, usize) {
    let test = NodeTest::build(id, "nftables", None);
    let variants =
        [WEB_ALLOWS_ITS_NODE, WEB_ALLOWS_NEAR, WEB_ALLOWS_NEAR_ON_PORTS].map(|policy| facts(&test, policy));
    let namespace = test.field.testbed.node_namespace("node-a").expect("a node").clone();
    let run = || {
        let options = Options { backend: BackendName::Nftables, binding: Binding::Off, ..Options::default() };
        let mut enforcer = Enforcer::new("node-a", options);
        variants[0].iter().cloned().for_each(|fact| enforcer.apply(fact));
        let mut host = Host::new(BackendName::Nftables).expect("a host");
        let actual = Actual::read(&mut host).expect("read");
        host.commit_all(&enforcer.adopt(&actual).steps).expect("written");
        let (allowed, denied) = (ConnectionProbe::from(&test, "near"), ConnectionProbe::from(&test, "far"));
        act(&mut enforcer, &mut host, &variants);
        let ((reached, failed), (let_in, refused)) = (allowed.end(), denied.end());
        assert!(reached > 0 && !refused.is_empty());
        assert_eq!((failed, let_in), (Vec::new(), 0));
        (reached, refused.len())
    };
    namespace.enter(run).expect("the namespace is entered")
}

#[test]
fn chains_are_rewritten_under_traffic_and_no_connection_is_denied_or_let_in() {
    let wanted = count("BRIDGEWARDEN_REWRITES", 300);
    let (reached, refused) = under_traffic("rewrite", |enforcer, host, variants| {
        for round in 1..=wanted {
            variants[round % variants.len()].iter().cloned().for_each(|fact| enforcer.apply(fact));
            let steps = enforcer.flush().steps;
            assert!(steps.iter().any(Step::changes_rules), "{steps:?}");
            host.commit_all(&steps).expect("written");
        }
    });
    println!("{wanted} times: {reached} connections that are allowed and {refused} that are not");
}

#[test]
fn table_is_replaced_under_traffic_and_no_connection_is_denied_or_let_in() {
    let wanted = count("BRIDGEWARDEN_REPLACEMENTS", 20);
    let (reached, refused) = under_traffic("replace", |enforcer, host, variants| {
        for round in 1..=wanted {
            variants[round % variants.len()].iter().cloned().for_each(|fact| enforcer.apply(fact));
            let table = enforcer.ruleset().inet.expect("there is one");
            for batches in replacement(&table, INET_TABLE_NEXT, Vec::new()) {
                host.commit(&Step::Transact(batches)).expect("written");
            }
        }
    });
    println!("{wanted} times: {reached} connections that are allowed and {refused} that are not");
}
