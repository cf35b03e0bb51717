//! An agent says which version of a policy is in force, and `wait` returns when it is.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::status::{AgentStatus, PolicyState};
use bridgewarden::testbed::ProbeOutcome;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use support::field::BACKENDS;
use support::topology::NODES;

/// A manifest with this generation of its policy.
fn generation(policy: &str, generation: u32) -> String {
    policy.replace("name: web}", &format!("name: web, uid: u1, generation: {generation}}}"))
}

/// A command about the agent of node-a.
fn command(test: &NodeTest, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    command.args(words).arg("--socket").arg(test.field.status_socket(NODES[0]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(test: &NodeTest, words: &[&str]) -> Output {
    command(test, words).output().expect("the program runs")
}

fn begin(test: &NodeTest, words: &[&str]) -> Child {
    command(test, words).spawn().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn status(test: &NodeTest) -> AgentStatus {
    let output = run(test, &["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

/// Waits for the end of a program that is to find what it waits for.
fn succeeds(waiting: Child) -> String {
    let output = waiting.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn wait_returns_when_the_kernel_enforces_the_generation_and_when_it_no_longer_enforces_the_policy() {
    on_each_backend(|backend, short| {
        let allows = generation(WEB_ALLOWS_CLIENTS, 1);
        let mut test = NodeTest::build(&format!("status{short}"), backend, Some(&allows));
        test.start(&[]);
        test.wait_until_enforced();
        let first = status(&test);
        assert_eq!((first.node.as_str(), first.ready, first.backend.as_str()), ("node-a", true, backend));
        assert!(first.last_sync.is_some());
        let policies = first.policies.expect("the lists are complete");
        assert_eq!(policies.len(), 1);
        assert_eq!((policies[0].state, policies[0].pods), (PolicyState::InForce, 1));
        assert_eq!(policies[0].in_force.as_ref().and_then(|version| version.generation), Some(1));
        let counts = first.counts.expect("the lists are complete");
        assert_eq!((counts.policies, counts.local_pods, counts.isolated_pods), (1, 2, 1));
        assert!(counts.kernel.iter().all(|kernel| kernel.chains > 0 && kernel.rules > 0), "{counts:?}");

        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
        let wait = ["wait", "networkpolicy/shop/web", "--timeout", "10s"];
        let waiting = begin(&test, &[&wait[..], &["--generation", "2", "--uid", "u1"]].concat());
        test.write("policy.yaml", &generation(WEB_DENIES_INGRESS, 2));
        let said = succeeds(waiting);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused, "at once");
        assert_eq!(said, "networkpolicy/shop/web is in force on node-a; pods that it selects there: 1\n");

        let waiting = begin(&test, &[&wait[..], &["--for", "delete"]].concat());
        std::fs::remove_file(test.manifests.join("policy.yaml")).expect("the manifest is there");
        succeeds(waiting);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open, "at once");
        assert_eq!(status(&test).policies.map(|policies| policies.len()), Some(0));
    });
}

#[test]
fn wait_for_what_does_not_come_ends_at_its_timeout_and_says_why() {
    let denies = generation(WEB_DENIES_INGRESS, 2);
    let mut test = NodeTest::build("statusw", BACKENDS[0], Some(&denies));
    test.start(&[]);
    test.wait_until_enforced();
    let times_out = |policy: &str, more: &[&str], why: &str| {
        let output = run(&test, &[&["wait", policy, "--timeout", "200ms"], more].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(said.contains(why), "{said}");
    };
    times_out(
        "shop/web",
        &["--generation", "3"],
        "node-a: generation 3 is not received yet, only generation 2",
    );
    times_out("shop/web", &["--uid", "u2"], "an earlier policy of this name is known there");
    times_out("shop/web", &["--for", "delete"], "it is still known");
    times_out("shop/other", &[], "node-a: the policy is not known there");
    assert!(run(&test, &["wait", "shop/web"]).status.success());
    let mode =
        std::fs::metadata(test.field.status_socket(NODES[0])).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is for root alone");
    test.field.stop(false);
    let output = run(&test, &["wait", "shop/web"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot connect to the agent"), "{}", text(&output.stderr));
}

#[test]
fn parts_that_allow_nothing_are_named_with_their_policy() {
    let wrong = generation(WEB_ALLOWS_CLIENTS, 1)
        .replace("{podSelector: {matchLabels: {app: client}}}", "{ipBlock: {cidr: 10.0.0.300/8}}");
    let mut test = NodeTest::build("statusp", BACKENDS[0], Some(&wrong));
    test.start(&[]);
    test.wait_until_enforced();
    let output = run(&test, &["status", "--policy", "shop/web"]);
    let said = text(&output.stdout);
    assert!(said.contains("shop/web  in force  1      1         1"), "{said}");
    assert!(said.contains("allows nothing: spec.ingress[0].from[0].ipBlock.cidr: "), "{said}");
}
