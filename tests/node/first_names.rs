//! The rules of version 0.1.0, whose names lack the mark of later ones, in a real kernel.

use crate::cleanup::PROGRAM;
use crate::coexistence::WEB_ALLOWS_FAR;
use crate::setup::*;
use crate::switch::ConnectionProbe;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use std::io::ErrorKind;

/// All rules and sets; `None` if a set was removed while a program read the rule that names it.
fn everything(test: &NodeTest, backend: &str) -> Option<String> {
    let program6 = backend.replace("iptables", "ip6tables");
    let script = format!("{backend}-save -t filter; {program6}-save -t filter; ipset save");
    test.field.run("node-a", &["sh", "-ec", &script]).ok()
}

/// Chains and sets with a hash that lacks the mark.
fn has_first_names(text: &str) -> bool {
    ["KUBE-NWPLCY-Z", "KUBE-POD-SPECIFIC-FW-Z", "KUBE-NWPLCY-P4-Z", "KUBE-NWPLCY-P6-Z"]
        .iter()
        .any(|begin| text.contains(begin))
}

/// Gives what the kernel holds the names that 0.1.0 would have given it: a hash of base32 alone.
fn rename(test: &NodeTest, backend: &str) {
    let files = test.manifests.with_file_name("saved");
    std::fs::create_dir_all(&files).expect("a directory of our own");
    let program6 = backend.replace("iptables", "ip6tables");
    let script = format!(
        "cd {}
         {backend}-save -t filter > four; {program6}-save -t filter > six; ipset save > sets
         {PROGRAM} cleanup
         sed -i -E 's/(KUBE-NWPLCY-|KUBE-POD-SPECIFIC-FW-|[PNB][46]-)0/\\1Z/g' four six sets
         ipset restore < sets; {backend}-restore < four; {program6}-restore < six",
        files.display()
    );
    test.on_node_a(&["sh", "-ec", &script]);
}

#[test]
fn rules_of_0_1_0_are_taken_over_with_no_packet_leaked_and_none_wrongly_refused() {
    on_each_variant(|backend, short| {
        let mut test = NodeTest::build(&format!("names{short}"), backend, Some(WEB_ALLOWS_FAR));
        // 0.1.0 did not bind pods to ports.
        test.start(&["--bind-addresses=off"]);
        test.wait_until_enforced();
        test.field.stop(false);
        rename(&test, backend);
        assert!(has_first_names(&everything(&test, backend).expect("nothing changes")));
        for (pod, outcome) in [("near", ProbeOutcome::Refused), ("far", ProbeOutcome::Open)] {
            for web in WEB {
                assert_eq!(test.probe(pod, web, Protocol::Tcp), outcome, "{pod} under the first names");
            }
        }

        let refused = ConnectionProbe::from(&test, "near");
        let allowed = ConnectionProbe::from(&test, "far");
        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_for("taken over", || {
            everything(&test, backend).is_some_and(|text| !has_first_names(&text))
        });
        test.wait_until_enforced();
        let (let_in, kept_out) = refused.end();
        let (passed, lost) = allowed.end();
        println!(
            "{backend}: {} refused and {let_in} open; {passed} open and {} not",
            kept_out.len(),
            lost.len()
        );
        assert!(kept_out.iter().all(|kind| *kind == ErrorKind::ConnectionRefused), "{kept_out:?}");
        assert!(let_in == 0 && kept_out.len() > 20, "{let_in} got in beside {}", kept_out.len());
        assert!(lost.is_empty() && passed > 20, "{lost:?} lost beside {passed}\n{}", test.field.log());
        let now = everything(&test, backend).expect("nothing changes");
        assert!(now.contains("KUBE-POD-SPECIFIC-FW-0"), "they have the names of now");
        for pod in ["near", "far"] {
            let wanted = if pod == "far" { ProbeOutcome::Open } else { ProbeOutcome::Refused };
            assert_eq!(test.probe(pod, WEB[0], Protocol::Tcp), wanted, "{pod} afterwards");
        }
        assert_eq!(test.metric("node-a", "bridgewarden_drift_repairs_total"), 0.0);
    });
}
