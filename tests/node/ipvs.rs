//! A Service of kube-proxy's mode ipvs. Not every kernel has IPVS, so `e2e/vm/run` runs these tests.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;

const SERVICE: [&str; 2] = ["10.96.0.80", "fd00:96::80"];

/// What kube-proxy does on each node for a Service of the pod web.
fn serve(test: &NodeTest) {
    for node in ["node-a", "node-b"] {
        let run = |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            test.field.run(node, &words).expect("the program runs");
        };
        run("ip link add kube-ipvs0 type dummy");
        for (address, pod) in SERVICE.into_iter().zip(WEB) {
            let bracketed = |address: &str| {
                if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") }
            };
            let (service, pod) = (bracketed(address), bracketed(pod));
            run(&format!("ip address add {address} dev kube-ipvs0"));
            run(&format!("ipvsadm --add-service --tcp-service {service} --scheduler rr"));
            run(&format!("ipvsadm --add-server --tcp-service {service} --real-server {pod} --masquerading"));
        }
        run("sysctl -qw net.ipv4.vs.conntrack=1");
    }
}

/// What clients on both nodes measure at the Service, over both families.
fn outcomes(test: &NodeTest) -> Vec<ProbeOutcome> {
    let asked = ["near", "far"].into_iter().flat_map(|from| SERVICE.map(|to| (from, to)));
    asked.map(|(from, to)| test.probe(from, to, Protocol::Tcp)).collect()
}

fn is_open(test: &NodeTest) -> bool {
    outcomes(test).iter().all(|outcome| *outcome == ProbeOutcome::Open)
}

fn is_denied(test: &NodeTest) -> bool {
    outcomes(test).iter().all(|outcome| matches!(outcome, ProbeOutcome::Refused | ProbeOutcome::Timeout))
}

#[test]
#[ignore = "needs IPVS in the kernel; run: e2e/vm/run --trials ipvs"]
fn pods_behind_ipvs_are_reached_by_whom_policies_allow() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("ipvs{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        serve(&test);
        test.wait_for("the Service answers before any agent", || is_open(&test));
        test.start(&[]);
        test.wait_until_enforced();
        test.wait_for("clients are allowed", || is_open(&test));
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        test.wait_for("the pod behind the Service denies its ingress", || is_denied(&test));
        test.write("policy.yaml", NEAR_DENIES_EGRESS);
        test.wait_for("clients are denied their egress on their own nodes", || is_denied(&test));
        std::fs::remove_file(test.manifests.join("policy.yaml")).expect("the policy goes");
        test.wait_for("without a policy all is open again", || is_open(&test));
    });
}
