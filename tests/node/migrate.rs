//! `bridgewarden migrate`: which steps are left to change over, and back.

use crate::coexistence::WEB_ALLOWS_FAR;
use crate::other_controllers::{loading, run};
use crate::setup::*;

/// What it prints on node-a, and its exit code. It finds no kubectl there.
fn migrate(test: &NodeTest, flags: &str) -> String {
    let program = env!("CARGO_BIN_EXE_bridgewarden");
    let script = format!("{program} migrate --backend {} {flags} 2>/dev/null; echo exit $?", test.backend);
    test.on_node_a(&["sh", "-c", &format!("PATH=/usr/sbin:/sbin:/bin; {script}")])
}

fn next(said: &str) -> &str {
    said.lines().find(|line| line.starts_with("[next]")).unwrap_or("nothing is left")
}

#[test]
fn steps_are_done_one_after_the_other_from_kube_router_to_bridgewarden_and_back() {
    on_each_variant(|backend, short| {
        let mut test = NodeTest::build(&format!("migrate{short}"), backend, Some(WEB_ALLOWS_FAR));
        run(&test, &loading(&test, backend));
        let said = migrate(&test, "");
        assert!(
            said.contains("kube-router: its rules are in force; Bridgewarden: it does not run"),
            "{said}"
        );
        assert!(next(&said).contains("Install Bridgewarden") && said.ends_with("exit 1\n"), "{said}");
        assert_eq!(said.matches("[done]").count(), 2, "{said}");
        let said = migrate(&test, "--back");
        assert!(said.ends_with("exit 0\n") && said.matches("[done]").count() == 2, "{said}");

        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_for("it waits", || {
            test.get("node-a", "/readyz")
                .contains("nothing is written while another NetworkPolicy controller")
        });
        let said = migrate(&test, "");
        assert!(next(&said).contains("Bridgewarden's rules alone are in force"), "{said}");

        test.field.stop(false);
        test.start(&["--takeover"]);
        test.wait_until_enforced();
        test.wait_for("the change is over", || migrate(&test, "").ends_with("exit 0\n"));
        let said = migrate(&test, "");
        assert!(
            said.starts_with("no other controller; Bridgewarden: its rules are in force, and it runs"),
            "{said}"
        );
        assert!(next(&said).contains("Prove"), "{said}");
        let said = migrate(&test, "--back");
        assert!(next(&said).contains("Install and start the other controller"), "{said}");

        run(&test, &loading(&test, backend));
        let said = migrate(&test, "--back");
        assert!(next(&said).contains("Remove Bridgewarden's rules") && said.ends_with("exit 1\n"), "{said}");
        test.field.stop(false);
        test.field.clean_up().expect("cleanup works");
        assert!(migrate(&test, "--back").ends_with("exit 0\n"));
    });
}
