//! Expectations and what they name; and what is said of input that cannot be used.

use crate::{program, run, stderr, stdout, with_input};
use std::fs;

#[test]
fn failed_expectations_are_reported_as_tap_and_as_junit() {
    let arguments =
        ["reach", "-f", "examples/reach/before.yaml", "--assert", "examples/ci/expectations.yaml"];
    let tap = stdout(&run(&arguments));
    assert!(tap.starts_with("TAP version 14\n1..3\nnot ok 1 - only the API reaches the database\n"), "{tap}");
    assert!(tap.contains("there is no end shop-data/postgres-0"), "{tap}");
    let junit = stdout(&run(&[&arguments[..], &["-o", "junit"]].concat()));
    assert!(junit.contains("tests=\"3\" failures=\"3\""), "{junit}");
    assert_eq!(junit.matches("<failure ").count(), 3, "{junit}");
}

/// What is printed of these expectations of some manifests, and whether all hold.
fn asserted(manifests: &str, expectations: &str) -> (String, bool) {
    let file = std::env::temp_dir().join(format!("bridgewarden-expectations-{}.yaml", std::process::id()));
    let text = format!(
        "{{apiVersion: bridgewarden.io/v1alpha1, kind: ReachExpectations, expectations: [{expectations}]}}"
    );
    fs::write(&file, text).expect("a file");
    let output = with_input(&["reach", "-f", "-", "--assert", file.to_str().expect("text")], manifests);
    let _ = fs::remove_file(&file);
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{}", stderr(&output));
    (stdout(&output), code == Some(0))
}

/// A StatefulSet of two pods without egress rules that nothing may reach, a pod of the other family, and one alone.
const FAMILIES: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: db-0, namespace: s, labels: {app: db}, ownerReferences: [{kind: StatefulSet, name: db, controller: true}]}, status: {podIP: 10.244.0.5}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db-1, namespace: s, labels: {app: db}, ownerReferences: [{kind: StatefulSet, name: db, controller: true}]}, status: {podIP: 10.244.1.5}}
---
{apiVersion: v1, kind: Pod, metadata: {name: six, namespace: six}, status: {podIP: '2001:db8:1::7'}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far, namespace: far}, status: {podIP: 10.244.0.9}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: s}, spec: {clusterIP: 10.96.0.7, selector: {app: db}, ports: [{port: 5432}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: s}, spec: {podSelector: {}, policyTypes: [Ingress]}}
";

#[test]
fn expectation_of_which_nothing_can_be_compared_does_not_hold() {
    for (expectation, fault) in [
        (
            "{from: s/sts/db, to: s/sts/db, allowed: 5432/TCP}",
            "s/statefulset/db to s/statefulset/db: not allowed: 5432/TCP",
        ),
        ("{from: s, to: s, exactly: all}", "not allowed: all"),
        ("{from: '2001:db8::1', to: far, allowed: all}", "no connection from 2001:db8::1/128 to compare"),
        ("{from: far, to: '2001:db8::1', exactly: all}", "no connection from far to compare"),
        ("{from: outside, to: outside, denied: all}", "no connection from outside to compare"),
        ("{from: far/far, to: far/far, denied: all}", "no connection from far/far to compare"),
        ("{from: [far, six], to: far, allowed: all}", "no family of addresses in common"),
        ("{from: [far, nope], to: s, denied: all}", "there is no end nope"),
        ("{from: far, to: [s, nope], denied: all}", "there is no end nope"),
        ("{from: '*', except: nope, to: s, denied: all}", "there is no end nope"),
        ("{from: far, except: far, to: s, denied: all}", "`except` leaves no end of `from`"),
        (
            "{from: [far, '2001:db8::1'], to: far, allowed: all}",
            "no connection from 2001:db8::1/128 to compare",
        ),
        ("{from: far, to: 10.244.0.5, allowed: all}", "far/far to s/statefulset/db: not allowed: all"),
        ("{from: far, to: 10.96.0.7, denied: all}", "10.96.0.7 is the address of Service s/db"),
    ] {
        let (printed, holds) = asserted(FAMILIES, expectation);
        assert!(!holds && printed.contains(fault), "{expectation}: {printed}");
    }
    for expectation in [
        "{from: '*', to: s, denied: all}",
        "{from: s, to: far, exactly: all}",
        "{from: outside, to: [far, six], allowed: all}",
        "{from: six, to: far, denied: all}",
        "{from: '2001:db8::1', to: far, exactly: []}",
        "{from: far, to: 10.244.0.5, denied: 'other protocols'}",
        "{from: 10.244.0.9, to: 192.0.2.1, allowed: all}",
    ] {
        let (printed, holds) = asserted(FAMILIES, expectation);
        assert!(holds, "{expectation}: {printed}");
    }
}

#[test]
fn address_of_a_pod_means_the_pod() {
    let reach =
        |to: &str| with_input(&["reach", "-f", "-", "-o", "csv", "--from", "far", "--to", to], FAMILIES);
    assert_eq!(stdout(&reach("10.244.0.5")), "from,to,allowed\n");
    assert_eq!(stdout(&reach("10.244.0.6")), "from,to,allowed\nfar/far,any IPv4 address outside,all\n");
    let service = reach("10.96.0.7");
    assert_eq!(service.status.code(), Some(2));
    assert!(stderr(&service).contains("10.96.0.7 is the address of Service s/db"), "{}", stderr(&service));
}

#[test]
fn standard_input_that_is_named_twice_is_an_error() {
    for arguments in [&["diff", "-", "-"][..], &["reach", "-f", "-", "-f", "-"]] {
        let output = with_input(arguments, FAMILIES);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains("can be read once"), "{}", stderr(&output));
    }
}

#[test]
fn what_cannot_be_read_or_asked_is_said_without_words_of_the_program_text() {
    let kubeconfig = std::env::temp_dir().join(format!("bridgewarden-kubeconfig-{}", std::process::id()));
    let text = "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], \
                clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: a, user: {}}]}";
    fs::write(&kubeconfig, text).expect("a file");
    let asked = |variable: &str| {
        let output = program().arg("reach").env("KUBECONFIG", variable).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    // As for kubectl, a file that is not there is skipped, and it is said why the server does not answer.
    let refused = asked(&format!("/nope:{}:", kubeconfig.display()));
    assert!(refused.contains("http://127.0.0.1:1/") && refused.contains("Connection refused"), "{refused}");
    let missing = asked("/nope");
    assert!(missing.contains("cannot use /nope: No such file or directory"), "{missing}");
    let _ = fs::remove_file(&kubeconfig);
    let misread = |expectations: &str| {
        let file = std::env::temp_dir().join(format!("bridgewarden-misfit-{}.yaml", std::process::id()));
        fs::write(&file, expectations).expect("a file");
        let path = file.to_str().expect("text").to_owned();
        let output = with_input(&["reach", "-f", "-", "--assert", &path], FAMILIES);
        let _ = fs::remove_file(&file);
        stderr(&output)
    };
    let head = "apiVersion: bridgewarden.io/v1alpha1\nkind: ReachExpectations\n";
    for said in [misread(&format!("{head}expectations: [far]\n")), misread("far\n")] {
        assert!(!said.contains("struct") && said.contains("expected"), "{said}");
    }
    let nothing = run(&["diff", "/dev/null", "examples/reach/before.yaml"]);
    let said = "warning: there are no pods, no objects that make pods and no NetworkPolicies in /dev/null";
    assert!(stderr(&nothing).contains(said), "{}", stderr(&nothing));
    let empty = with_input(&["reach", "-f", "-"], "");
    assert!(stderr(&empty).contains("there are no pods"), "{}", stderr(&empty));
}
