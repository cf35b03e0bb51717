//! What is denied, and what of a policy cannot be enforced, is told to the API server by one Event each.

use crate::stage::Stage;
use anyhow::{Context, Result, bail, ensure};
use bridgewarden::testbed::Outcome;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::control_plane::PORT;

/// Who dials whom in vain. The first is refused on node-a by whom it dials, the second on node-b by its own policy.
const DENIED: [(&str, &str); 2] = [("bank/vault", "shop/web"), ("shop/other", "shop/db")];
/// An Event that must come.
struct Told {
    reason: &'static str,
    kind: &'static str,
    namespace: &'static str,
    name: &'static str,
    /// What its note says, among other things.
    words: &'static [&'static str],
    /// The node that tells, where only one can.
    node: Option<&'static str>,
}

const TOLD: [Told; 3] = [
    Told {
        reason: "FlowDenied",
        kind: "Pod",
        namespace: "shop",
        name: "web",
        words: &["ingress refused ", " -> shop/web (", "80/TCP", "policy shop/web"],
        node: Some("node-a"),
    },
    Told {
        reason: "FlowDenied",
        kind: "Pod",
        namespace: "shop",
        name: "other",
        words: &["refused ", "shop/other (", "80/TCP", "policy shop/other"],
        node: Some("node-b"),
    },
    Told {
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

pub(crate) fn show(stage: &mut Stage) -> Result<()> {
    stage.daemons.clear();
    let before: BTreeSet<String> = events(stage)?.iter().map(name).collect();
    // While it is waited until they enforce, everybody dials everybody.
    stage.watch(PORT)?;
    let mut after = stage.town.clone();
    // Both nodes have pods in bank, and one of them is to speak. It allows nothing, and all is closed there anyway.
    after.add_policy(
        "bank/nameless",
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": "nowhere"}]}]}),
    );
    stage.tell(&after)?;
    let begun = Instant::now();
    let new = |stage: &Stage| -> Result<Vec<Value>> {
        Ok(events(stage)?.into_iter().filter(|event| !before.contains(&name(event))).collect())
    };
    while TOLD.iter().any(|told| new(stage).is_ok_and(|events| of(&events, told).is_empty())) {
        dial(stage)?;
        let told = new(stage)?;
        ensure!(begun.elapsed() < PATIENCE, "within {PATIENCE:?} no more was told than {told:#?}");
    }
    let all_told = begun.elapsed();
    let then = Instant::now();
    while then.elapsed() < MORE {
        dial(stage)?;
    }

    let events = new(stage)?;
    for told in &TOLD {
        let [event] = of(&events, told)[..] else {
            bail!("{} of {} should be told once: {events:#?}", told.reason, told.name)
        };
        assert_tells(stage, event, told)?;
    }
    let objects: BTreeSet<String> = events.iter().map(|event| event["regarding"].to_string()).collect();
    ensure!(objects.len() == events.len(), "something was told twice: {events:#?}");
    let kinds: BTreeSet<String> = events.iter().map(|event| event["regarding"]["kind"].to_string()).collect();
    ensure!(kinds.len() == 2, "pods and one policy are spoken of, and nothing else: {kinds:?}");
    stage.note(&format!(
        "told by {} Events, those that were waited for within {:.0} s, and none twice",
        events.len(),
        all_told.as_secs_f64(),
    ))
}

/// The Events about an object, for a reason.
fn of<'a>(events: &'a [Value], told: &Told) -> Vec<&'a Value> {
    let is_about = |event: &&Value| {
        let regarding = &event["regarding"];
        event["reason"] == told.reason && regarding["kind"] == told.kind && regarding["name"] == told.name
    };
    events.iter().filter(is_about).collect()
}

fn dial(stage: &Stage) -> Result<()> {
    for (from, to) in DENIED {
        let questions = stage.town.questions();
        let asked = |question: &&crate::town::Question| {
            (question.from.to_string(), question.to.to_string()) == (from.to_owned(), to.to_owned())
        };
        let question =
            questions.iter().find(asked).with_context(|| format!("{from} or {to} is not there"))?;
        let outcome = stage.testbed.probe(&question.probe());
        ensure!(!question.open && outcome != Outcome::Open, "{from} reaches {to}");
    }
    Ok(())
}

/// Every Event that the API server holds of these namespaces.
fn events(stage: &Stage) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for namespace in ["shop", "bank"] {
        let list = get(stage, &format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"))?;
        all.extend(list["items"].as_array().context("a list has items")?.iter().cloned());
    }
    Ok(all)
}

fn get(stage: &Stage, path: &str) -> Result<Value> {
    let page = stage.control_plane.objects()?.page(path)?;
    serde_json::from_str(&page).with_context(|| format!("{path} is no JSON"))
}

fn name(event: &Value) -> String {
    format!("{}/{}", event["metadata"]["namespace"], event["metadata"]["name"])
}

/// Fails unless an Event tells this, of the object that is there.
fn assert_tells(stage: &Stage, event: &Value, told: &Told) -> Result<()> {
    let resource = match told.kind {
        "Pod" => "api/v1/namespaces/NAMESPACE/pods",
        _ => "apis/networking.k8s.io/v1/namespaces/NAMESPACE/networkpolicies",
    };
    let object = get(stage, &format!("/{}/{}", resource.replace("NAMESPACE", told.namespace), told.name))?;
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
