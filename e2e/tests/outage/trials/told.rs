//! What is denied, and what of a policy cannot be enforced, is told to the API server by one Event each.

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use bridgewarden::playground::Outcome;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::control_plane::PORT;

/// Who dials whom in vain. The first is refused on node-a by whom it dials, the second on node-b by its own policy.
const DENIED: [(&str, &str); 2] = [("bank/vault", "shop/web"), ("shop/other", "shop/db")];
/// How long an Event may take: half a minute must have passed before a policy is spoken of.
const PATIENCE: Duration = Duration::from_secs(90);
/// For how long it goes on after that without another: more than two of the looks after which Events are written.
const MORE: Duration = Duration::from_secs(25);

pub(crate) fn show(stage: &mut Stage) -> Result<()> {
    stage.watch(PORT)?;
    let before: BTreeSet<String> = events(stage)?.iter().map(name).collect();
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
    while new(stage)?.len() < 3 {
        dial(stage)?;
        let told = new(stage)?;
        ensure!(begun.elapsed() < PATIENCE, "within {PATIENCE:?} no more was told than {told:#?}");
    }
    let all_told = begun.elapsed();
    let then = Instant::now();
    while then.elapsed() < MORE {
        dial(stage)?;
    }

    let mut told = new(stage)?;
    ensure!(told.len() == 3, "each should be told once: {told:#?}");
    told.sort_by_key(|event| event["regarding"]["name"].to_string());
    let [policy, other, web] = &told[..] else { unreachable!("there are three") };
    assert_tells(stage, policy, "NamedPortUnresolved", ("NetworkPolicy", "bank/nameless"), &["nowhere"])?;
    let denied = "FlowDenied";
    assert_tells(stage, other, denied, ("Pod", "shop/other"), &["shop/other (", "shop/db (", "egress"])?;
    assert_tells(stage, web, denied, ("Pod", "shop/web"), &["bank/vault (", "80/TCP", "policy shop/web"])?;
    let nodes = [other, web].map(|event| event["reportingInstance"].as_str());
    ensure!(nodes == [Some("node-b"), Some("node-a")], "told by {nodes:?}");
    stage.note(&format!("told by three Events within {:.0} s, and by none more", all_told.as_secs_f64()))
}

fn dial(stage: &Stage) -> Result<()> {
    for (from, to) in DENIED {
        let questions = stage.town.questions();
        let asked = |question: &&crate::town::Question| {
            (question.from.to_string(), question.to.to_string()) == (from.to_owned(), to.to_owned())
        };
        let question =
            questions.iter().find(asked).with_context(|| format!("{from} or {to} is not there"))?;
        let outcome = stage.playground.probe(&question.probe());
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

/// Fails unless an Event is about this object, under its uid, and says these words.
fn assert_tells(
    stage: &Stage,
    event: &Value,
    reason: &str,
    (kind, key): (&str, &str),
    words: &[&str],
) -> Result<()> {
    let (namespace, name) = key.split_once('/').context("namespace/name")?;
    let group = if kind == "Pod" { "api/v1" } else { "apis/networking.k8s.io/v1" };
    let resource = if kind == "Pod" { "pods" } else { "networkpolicies" };
    let object = get(stage, &format!("/{group}/namespaces/{namespace}/{resource}/{name}"))?;
    let regarding = &event["regarding"];
    ensure!(
        regarding["kind"] == kind && regarding["namespace"] == namespace && regarding["name"] == name,
        "it is about something else: {event:#}"
    );
    ensure!(regarding["uid"] == object["metadata"]["uid"], "`kubectl describe` would not find {event:#}");
    ensure!(
        event["reason"] == reason && event["type"] == "Warning",
        "it is no warning of {reason}: {event:#}"
    );
    ensure!(event["reportingController"] == "bridgewarden", "somebody else tells {event:#}");
    let note = event["note"].as_str().unwrap_or_default();
    ensure!(words.iter().all(|word| note.contains(word)), "{words:?} is not in {note:?}");
    Ok(())
}
