//! Each denial, and each part of a policy that cannot be enforced, is reported to the API server by one Event.

use crate::test::OutageTest;
use anyhow::{Context, Result, bail, ensure};
use bridgewarden::testbed::ProbeOutcome;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::control_plane::PORT;

/// Connections that are denied: the first on node-a and the second on node-c by the destination's policy, the third on node-b by the
/// source's. So two agents write an Event on the same sender.
const DENIED: [(&str, &str); 3] =
    [("bank/vault", "shop/web"), ("bank/vault", "bank/guest"), ("shop/other", "shop/db")];
/// The reason of the Event on the sender.
const ON_SENDER: &str = "FlowDeniedByDestination";

/// An Event that must be written.
struct ExpectedEvent {
    reason: &'static str,
    kind: &'static str,
    namespace: &'static str,
    name: &'static str,
    /// Words that its note contains.
    words: &'static [&'static str],
    /// The node that reports it, if only one can.
    node: Option<&'static str>,
}

const EXPECTED_EVENTS: [ExpectedEvent; 5] = [
    ExpectedEvent {
        reason: "FlowDenied",
        kind: "Pod",
        namespace: "shop",
        name: "web",
        words: &["ingress denied ", " -> shop/web (", "80/TCP", "policy shop/web"],
        node: Some("node-a"),
    },
    ExpectedEvent {
        reason: "FlowDenied",
        kind: "Pod",
        namespace: "bank",
        name: "guest",
        words: &["ingress denied ", " -> bank/guest (", "80/TCP", "bank/closed"],
        node: Some("node-c"),
    },
    ExpectedEvent {
        reason: "FlowDenied",
        kind: "Pod",
        namespace: "shop",
        name: "other",
        words: &["denied ", "shop/other (", "80/TCP", "policy shop/other"],
        node: Some("node-b"),
    },
    ExpectedEvent {
        reason: ON_SENDER,
        kind: "Pod",
        namespace: "bank",
        name: "vault",
        words: &["no NetworkPolicy of the destination allows this pod to reach", "port 80/TCP"],
        node: None,
    },
    ExpectedEvent {
        reason: "NamedPortUnresolved",
        kind: "NetworkPolicy",
        namespace: "bank",
        name: "nameless",
        words: &["nowhere"],
        node: None,
    },
];

/// The deadline for an Event: policies are reported after half a minute.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long no further Event may follow: more than two of the intervals at which Events are written.
const MORE: Duration = Duration::from_secs(25);

pub(crate) fn show(test: &mut OutageTest) -> Result<()> {
    test.agents.clear();
    let before: BTreeSet<String> = events(test)?.iter().map(name).collect();
    // Until the agents enforce, every pod probes every other.
    test.watch(PORT)?;
    let mut after = test.cluster.clone();
    // Both nodes have pods in bank, and only one may report. The policy allows nothing, and all pods there are isolated anyway.
    after.add_policy(
        "bank/nameless",
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": "nowhere"}]}]}),
    );
    test.apply(&after)?;
    let begun = Instant::now();
    let new = |test: &OutageTest| -> Result<Vec<Value>> {
        Ok(events(test)?.into_iter().filter(|event| !before.contains(&name(event))).collect())
    };
    // All agents give the Event on a sender one name for an hour, so an earlier trial may have caused it.
    let known = |test: &OutageTest, expected: &ExpectedEvent| {
        if expected.reason == ON_SENDER { events(test) } else { new(test) }
    };
    while EXPECTED_EVENTS
        .iter()
        .any(|expected| known(test, expected).is_ok_and(|events| of(&events, expected).is_empty()))
    {
        dial(test)?;
        let written = new(test)?;
        ensure!(begun.elapsed() < PATIENCE, "only these Events within {PATIENCE:?}: {written:#?}");
    }
    let all_told = begun.elapsed();
    let then = Instant::now();
    while then.elapsed() < MORE {
        dial(test)?;
    }

    let events = new(test)?;
    for expected in &EXPECTED_EVENTS {
        let known = known(test, expected)?;
        match (expected.reason, &of(&known, expected)[..]) {
            (_, [event]) | (ON_SENDER, [event, ..]) => assert_reports(test, event, expected)?,
            _ => bail!("{} of {} should be reported once: {known:#?}", expected.reason, expected.name),
        }
    }
    let subject = |event: &Value| format!("{} {}", event["regarding"], event["reason"]);
    let subjects: BTreeSet<String> = events.iter().map(subject).collect();
    ensure!(subjects.len() == events.len(), "an object was reported twice for one reason: {events:#?}");
    let kinds: BTreeSet<String> = events.iter().map(|event| event["regarding"]["kind"].to_string()).collect();
    ensure!(kinds.len() == 2, "only pods and one policy should be reported: {kinds:?}");
    test.note(&format!(
        "{} Events, the expected ones within {:.0} s, and none twice",
        events.len(),
        all_told.as_secs_f64(),
    ))
}

/// The Events about an object with a reason.
fn of<'a>(events: &'a [Value], expected: &ExpectedEvent) -> Vec<&'a Value> {
    let is_about = |event: &&Value| {
        let regarding = &event["regarding"];
        event["reason"] == expected.reason
            && regarding["kind"] == expected.kind
            && regarding["name"] == expected.name
    };
    events.iter().filter(is_about).collect()
}

fn dial(test: &OutageTest) -> Result<()> {
    for (from, to) in DENIED {
        let questions = test.cluster.questions();
        let asked = |question: &&crate::cluster::PairCheck| {
            (question.from.to_string(), question.to.to_string()) == (from.to_owned(), to.to_owned())
        };
        let question =
            questions.iter().find(asked).with_context(|| format!("{from} or {to} is not there"))?;
        let outcome = test.testbed.probe(&question.probe());
        ensure!(!question.open && outcome != ProbeOutcome::Open, "{from} reaches {to}");
    }
    Ok(())
}

/// Every Event that the API server holds of these namespaces.
fn events(test: &OutageTest) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for namespace in ["shop", "bank"] {
        let list = get(test, &format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"))?;
        all.extend(list["items"].as_array().context("a list has items")?.iter().cloned());
    }
    Ok(all)
}

fn get(test: &OutageTest, path: &str) -> Result<Value> {
    let page = test.control_plane.objects()?.page(path)?;
    serde_json::from_str(&page).with_context(|| format!("{path} is no JSON"))
}

fn name(event: &Value) -> String {
    format!("{}/{}", event["metadata"]["namespace"], event["metadata"]["name"])
}

/// Checks that an Event reports this, about the existing object.
fn assert_reports(test: &OutageTest, event: &Value, expected: &ExpectedEvent) -> Result<()> {
    let resource = match expected.kind {
        "Pod" => "api/v1/namespaces/NAMESPACE/pods",
        _ => "apis/networking.k8s.io/v1/namespaces/NAMESPACE/networkpolicies",
    };
    let object =
        get(test, &format!("/{}/{}", resource.replace("NAMESPACE", expected.namespace), expected.name))?;
    let regarding = &event["regarding"];
    ensure!(regarding["namespace"] == expected.namespace, "wrong namespace: {event:#}");
    ensure!(regarding["uid"] == object["metadata"]["uid"], "`kubectl describe` would not find {event:#}");
    ensure!(event["type"] == "Warning", "not a warning: {event:#}");
    ensure!(event["reportingController"] == "bridgewarden", "another controller reported {event:#}");
    let node = event["reportingInstance"].as_str();
    ensure!(expected.node.is_none_or(|own| node == Some(own)), "{node:?} reported it: {event:#}");
    let note = event["note"].as_str().unwrap_or_default();
    ensure!(expected.words.iter().all(|word| note.contains(word)), "{:?} is not in {note:?}", expected.words);
    Ok(())
}
