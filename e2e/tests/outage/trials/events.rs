//! What is denied, and what of a policy cannot be enforced, is told to the API server by one Event each.

use crate::test::OutageTest;
use anyhow::{Context, Result, bail, ensure};
use bridgewarden::testbed::Outcome;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::control_plane::PORT;

/// Who dials whom in vain. The first is refused on node-a by whom it dials, the second on node-b by its own policy.
const DENIED: [(&str, &str); 2] = [("bank/vault", "shop/web"), ("shop/other", "shop/db")];
/// An Event that must come.
struct ExpectedEvent {
    reason: &'static str,
    kind: &'static str,
    namespace: &'static str,
    name: &'static str,
    /// What its note says, among other things.
    words: &'static [&'static str],
    /// The node that tells, where only one can.
    node: Option<&'static str>,
}

const EXPECTED_EVENTS: [ExpectedEvent; 3] = [
    ExpectedEvent {
        reason: "FlowDenied",
        kind: "Pod",
        namespace: "shop",
        name: "web",
        words: &["ingress refused ", " -> shop/web (", "80/TCP", "policy shop/web"],
        node: Some("node-a"),
    },
    ExpectedEvent {
        reason: "FlowDenied",
        kind: "Pod",
        namespace: "shop",
        name: "other",
        words: &["refused ", "shop/other (", "80/TCP", "policy shop/other"],
        node: Some("node-b"),
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

/// How long an Event may take: half a minute must have passed before a policy is spoken of.
const PATIENCE: Duration = Duration::from_secs(90);
/// For how long it goes on after that without another: more than two of the looks after which Events are written.
const MORE: Duration = Duration::from_secs(25);

pub(crate) fn show(test: &mut OutageTest) -> Result<()> {
    test.agents.clear();
    let before: BTreeSet<String> = events(test)?.iter().map(name).collect();
    // While it is waited until they enforce, everybody dials everybody.
    test.watch(PORT)?;
    let mut after = test.cluster.clone();
    // Both nodes have pods in bank, and one of them is to speak. It allows nothing, and all is closed there anyway.
    after.add_policy(
        "bank/nameless",
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": "nowhere"}]}]}),
    );
    test.apply(&after)?;
    let begun = Instant::now();
    let new = |test: &OutageTest| -> Result<Vec<Value>> {
        Ok(events(test)?.into_iter().filter(|event| !before.contains(&name(event))).collect())
    };
    while EXPECTED_EVENTS.iter().any(|told| new(test).is_ok_and(|events| of(&events, told).is_empty())) {
        dial(test)?;
        let told = new(test)?;
        ensure!(begun.elapsed() < PATIENCE, "within {PATIENCE:?} no more was told than {told:#?}");
    }
    let all_told = begun.elapsed();
    let then = Instant::now();
    while then.elapsed() < MORE {
        dial(test)?;
    }

    let events = new(test)?;
    for told in &EXPECTED_EVENTS {
        let [event] = of(&events, told)[..] else {
            bail!("{} of {} should be told once: {events:#?}", told.reason, told.name)
        };
        assert_tells(test, event, told)?;
    }
    let objects: BTreeSet<String> = events.iter().map(|event| event["regarding"].to_string()).collect();
    ensure!(objects.len() == events.len(), "something was told twice: {events:#?}");
    let kinds: BTreeSet<String> = events.iter().map(|event| event["regarding"]["kind"].to_string()).collect();
    ensure!(kinds.len() == 2, "pods and one policy are spoken of, and nothing else: {kinds:?}");
    test.note(&format!(
        "told by {} Events, those that were waited for within {:.0} s, and none twice",
        events.len(),
        all_told.as_secs_f64(),
    ))
}

/// The Events about an object, for a reason.
fn of<'a>(events: &'a [Value], told: &ExpectedEvent) -> Vec<&'a Value> {
    let is_about = |event: &&Value| {
        let regarding = &event["regarding"];
        event["reason"] == told.reason && regarding["kind"] == told.kind && regarding["name"] == told.name
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
        ensure!(!question.open && outcome != Outcome::Open, "{from} reaches {to}");
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

/// Fails unless an Event tells this, of the object that is there.
fn assert_tells(test: &OutageTest, event: &Value, told: &ExpectedEvent) -> Result<()> {
    let resource = match told.kind {
        "Pod" => "api/v1/namespaces/NAMESPACE/pods",
        _ => "apis/networking.k8s.io/v1/namespaces/NAMESPACE/networkpolicies",
    };
    let object = get(test, &format!("/{}/{}", resource.replace("NAMESPACE", told.namespace), told.name))?;
    let regarding = &event["regarding"];
    ensure!(regarding["namespace"] == told.namespace, "it is about another namespace's: {event:#}");
    ensure!(regarding["uid"] == object["metadata"]["uid"], "`kubectl describe` would not find {event:#}");
    ensure!(event["type"] == "Warning", "it is no warning: {event:#}");
    ensure!(event["reportingController"] == "bridgewarden", "somebody else tells {event:#}");
    let node = event["reportingInstance"].as_str();
    ensure!(told.node.is_none_or(|own| node == Some(own)), "{node:?} tells it: {event:#}");
    let note = event["note"].as_str().unwrap_or_default();
    ensure!(told.words.iter().all(|word| note.contains(word)), "{:?} is not in {note:?}", told.words);
    Ok(())
}
