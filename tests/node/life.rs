//! An agent over time: edits, kills, foreign rules, broken manifests, cleanup.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use std::time::Duration;
use support::field::BACKENDS;

#[test]
fn remote_pod_costs_one_element_and_no_process() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("count{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        let kind = if backend == "nftables" { "table" } else { "set" };
        test.start(&["--audit-interval-seconds", "3600"]);
        test.wait_until_enforced();
        let figures = |test: &NodeTest| {
            [
                "bridgewarden_processes_started_total",
                "bridgewarden_kernel_writes_total{kind=\"rules\"}",
                &format!("bridgewarden_kernel_writes_total{{kind=\"{kind}\"}}"),
                "bridgewarden_set_elements_written_total",
            ]
            .map(|series| test.metric("node-a", series))
        };
        let pod = |labels: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: new, labels: {{{labels}}}}}\n\
             spec: {{nodeName: node-b}}\nstatus: {{podIPs: [{{ip: 10.244.2.30}}]}}\n"
            )
        };
        let changes = |test: &NodeTest| test.metric("node-a", "bridgewarden_changes_total{kind=\"pod\"}");
        let idle = |test: &NodeTest, reported: f64| {
            test.wait_for("reported", || changes(test) == reported);
            test.wait_for("idle", || test.metric("node-a", "bridgewarden_pending_changes") == 0.0);
        };
        let (before, reported) = (figures(&test), changes(&test));
        test.write("new.yaml", &pod("app: client"));
        idle(&test, reported + 1.0);
        let added = figures(&test);
        assert_eq!(added, [before[0], before[1], before[2] + 1.0, before[3] + 1.0]);
        test.write("new.yaml", &pod("app: client, color: red"));
        idle(&test, reported + 2.0);
        assert_eq!(figures(&test), added, "a label that no policy asks for");
        std::fs::remove_file(test.manifests.join("new.yaml")).expect("the manifest is there");
        idle(&test, reported + 3.0);
        let removed = figures(&test);
        assert_eq!(removed, [added[0], added[1], added[2] + 1.0, added[3] + 1.0]);
    });
}

#[test]
fn restart_after_a_kill_keeps_enforcing_and_writes_nothing() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("kill{short}"), backend, Some(WEB_DENIES_INGRESS));
        test.start(&[]);
        test.wait_until_enforced();
        test.field.stop(true);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
        assert!(isolates(&rules(&test, backend), "pod shop/web", WEB[0]));
        test.start(&[]);
        test.wait_until_enforced();
        assert_eq!(test.metric("node-a", "bridgewarden_kernel_writes_total{kind=\"rules\"}"), 0.0);
        assert_eq!(test.metric("node-a", "bridgewarden_kernel_writes_total{kind=\"set\"}"), 0.0);
        assert_eq!(test.metric("node-a", "bridgewarden_kernel_writes_total{kind=\"table\"}"), 0.0);
        assert_eq!(test.probe("far", WEB[1], Protocol::Tcp), ProbeOutcome::Refused);
    });
}

/// What `render` prints is what `run` would write: a controller that finds it in the kernel has nothing to do.
#[test]
fn rendered_text_loads_and_is_what_a_controller_wants() {
    let mut test = NodeTest::build("render", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    let program = env!("CARGO_BIN_EXE_bridgewarden");
    for node in ["node-a", "node-b"] {
        let render = format!("{program} render {} --node-name {node} | sh -e", test.manifests.display());
        test.field.run(node, &["sh", "-c", &render]).expect("the text loads");
    }
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
    assert_eq!(test.probe("web", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
    test.start(&[]);
    test.wait_until_enforced();
    for node in ["node-a", "node-b"] {
        assert_eq!(test.metric(node, "bridgewarden_kernel_writes_total{kind=\"rules\"}"), 0.0);
        assert_eq!(test.metric(node, "bridgewarden_kernel_writes_total{kind=\"set\"}"), 0.0);
        let tables = test.metric(node, "bridgewarden_kernel_writes_total{kind=\"table\"}");
        assert_eq!(tables, 2.0, "what binds pods to ports: which port is whose, only the node knows");
    }
}

#[test]
fn rendered_table_loads_and_is_what_a_controller_wants() {
    let mut test = NodeTest::build("rendert", "nftables", Some(WEB_ALLOWS_CLIENTS));
    let render = format!(
        "{} render --backend nftables {} --node-name node-a",
        env!("CARGO_BIN_EXE_bridgewarden"),
        test.manifests.display()
    );
    test.on_node_a(&["sh", "-c", &format!("{render} | nft -c -f -")]);
    assert_eq!(test.on_node_a(&["nft", "list", "tables"]), "", "it was only checked");
    for _ in ["the first time", "again"] {
        test.on_node_a(&["sh", "-c", &format!("{render} | nft -f -")]);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
    }
    test.start(&["--bind-addresses", "addresses"]);
    test.wait_until_enforced();
    test.field.stop(false);
    // The agent may have been its owner, which nft 1.0.6 cannot say.
    test.on_node_a(&["nft", "delete", "table", "inet", "bridgewarden"]);
    let render = format!("{render} --bind-addresses addresses");
    test.on_node_a(&["sh", "-c", &format!("{render} | nft -f -")]);
    // A table that nft has loaded has no owner.
    test.start(&["--bind-addresses", "addresses", "--own-tables=off"]);
    test.wait_until_enforced();
    let writes = test.metric("node-a", "bridgewarden_kernel_writes_total{kind=\"table\"}");
    assert_eq!(writes, 0.0, "the table is as the controller would write it");
}

#[test]
fn cleanup_leaves_the_host_as_it_was_found() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("clean{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        let program = iptables_beside(backend);
        let save = format!("{program}-save");
        let save6 = save.replace("iptables", "ip6tables");
        let restore = format!("{program}-restore");
        let theirs = "*filter\n:THEIRS - [0:0]\n-A FORWARD -j THEIRS\n-A THEIRS -s 198.51.100.0/24 -j DROP\nCOMMIT\n\
                      *nat\n-A POSTROUTING -s 198.51.100.0/24 -j MASQUERADE\nCOMMIT\n";
        let file = test.manifests.parent().expect("a directory of our own").join("theirs");
        std::fs::write(&file, theirs).expect("their rules are written");
        let file = file.to_string_lossy().into_owned();
        test.on_node_a(&["sh", "-c", &format!("{restore} < {file}")]);
        test.on_node_a(&[&program.replace("iptables", "ip6tables"), "-P", "FORWARD", "ACCEPT"]);
        test.on_node_a(&["sh", "-c", "ipset create theirs hash:ip && ipset add theirs 198.51.100.7"]);
        let held = |test: &NodeTest| {
            let listed: [&[&str]; 4] =
                [&[&save], &[&save6], &["ipset", "save"], &["nft", "list", "tables", "inet"]];
            let text = listed.map(|words| test.on_node_a(words)).concat();
            let bare = |line: &str| match line.split_once(" [") {
                Some((chain, _)) if line.starts_with(':') => chain.to_owned(),
                Some(_) | None => line.to_owned(),
            };
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(bare).collect();
            // Listing a table of iptables creates it; a table without chains and rules counts as none.
            let empty =
                ["*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", "COMMIT"].join("\n");
            lines.join("\n").replace(&empty, "").lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let before = held(&test);
        test.start(&[]);
        test.wait_until_enforced();
        assert_ne!(held(&test), before);
        test.field.stop(false);
        test.field.clean_up().expect("cleanup works");
        let filled =
            |lines: Vec<String>| lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>();
        assert_eq!(filled(held(&test)), filled(before));
    });
}

#[test]
fn agent_ends_when_asked_to_at_any_moment_of_its_start() {
    let mut test = NodeTest::build("asked", "iptables-nft", Some(WEB_DENIES_INGRESS));
    for wait in (0..100).step_by(4).map(Duration::from_millis) {
        test.start(&[]);
        std::thread::sleep(wait);
        test.field.stop(false);
    }
}

#[test]
fn flushed_rules_and_foreign_edits_are_put_right_by_the_audit() {
    on_each_variant(|backend, short| {
        let mut test = NodeTest::build(&format!("drift{short}"), backend, Some(WEB_DENIES_INGRESS));
        test.start(&["--audit-interval-seconds", "1"]);
        test.wait_until_enforced();
        test.on_node_a(&[backend, "-A", "FORWARD", "-s", "198.51.100.9", "-j", "DROP"]);
        test.on_node_a(&[backend, "-F", "KUBE-NWPLCY-INGRESS"]);
        test.wait_for("put right", || test.metric("node-a", "bridgewarden_drift_repairs_total") >= 1.0);
        test.wait_for("refused", || test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Refused);
        let saved = test.on_node_a(&[&format!("{backend}-save"), "-t", "filter"]);
        assert!(saved.contains("-A FORWARD -s 198.51.100.9/32 -j DROP"), "{saved}");
    });
}

#[test]
fn broken_manifest_keeps_the_last_good_state_and_says_where() {
    let mut test = NodeTest::build("broken", BACKENDS[0], Some(WEB_DENIES_INGRESS));
    test.start(&[]);
    test.wait_until_enforced();
    test.write("policy.yaml", &WEB_DENIES_INGRESS.replace("podSelector", "podselector"));
    test.wait_for("not ready", || is_unready(&test));
    let page = test.get("node-a", "/readyz");
    assert!(page.contains("policy.yaml:5:") && page.contains("podSelector"), "{page}");
    assert!(test.field.page("node-a", "/livez").is_ok_and(|page| page.status == 200));
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    test.write("policy.yaml", WEB_ALLOWS_CLIENTS);
    test.wait_until_enforced();
    test.wait_for("open", || test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Open);
}

#[test]
fn node_without_bridge_filtering_is_not_ready_and_reports_the_fix() {
    let mut test = NodeTest::build("blind", BACKENDS[0], Some(WEB_DENIES_INGRESS));
    test.start(&[]);
    test.wait_until_enforced();
    test.on_node_a(&["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"]);
    test.wait_for("not ready", || is_unready(&test));
    let page = test.get("node-a", "/readyz");
    assert!(page.contains("bridge-nf-call-iptables") && page.contains("sysctl -w"), "{page}");
    let check = "bridgewarden_preflight_ok{check=\"bridge-nf-call-iptables\"}";
    assert_eq!(test.metric("node-a", check), 0.0);
    test.on_node_a(&["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"]);
    test.wait_until_enforced();
}

/// Whether the controller of node-a answers that it is not ready.
fn is_unready(test: &NodeTest) -> bool {
    test.field.page("node-a", "/readyz").is_ok_and(|page| page.status == 503)
}
