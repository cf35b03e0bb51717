//! The agents' pods, as `kubectl get pods -o json` prints them.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The name of the agent's container.
const CONTAINER: &str = "agent";

/// The agent of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct AgentPod {
    pub(in crate::commands) node: String,
    /// Where it can be asked, or why it cannot.
    pub(in crate::commands) place: Result<AgentPlace, String>,
}

/// Where an agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct AgentPlace {
    pub(in crate::commands) pod: String,
    /// The arguments of its program.
    pub(in crate::commands) arguments: Vec<String>,
}

impl AgentPlace {
    /// The value of a flag with which the agent runs; of several, the last counts. `None` if it is not given.
    pub(in crate::commands) fn flag(&self, name: &str) -> Option<&str> {
        let mut value = None;
        let mut words = self.arguments.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            let Some(rest) = word.strip_prefix("--").and_then(|word| word.strip_prefix(name)) else {
                continue;
            };
            match rest.strip_prefix('=') {
                Some(own) => value = Some(own),
                None if rest.is_empty() => {
                    value = Some(words.next_if(|next| !next.starts_with("--")).unwrap_or_default());
                }
                None => {}
            }
        }
        value
    }

    /// The socket at which the agent serves something, according to a flag.
    ///
    /// # Errors
    /// It does not serve that.
    pub(in crate::commands) fn socket<'a>(&'a self, flag: &str, default: &'a str) -> Result<&'a str, String> {
        match self.flag(flag).unwrap_or(default) {
            "" => Err(format!("the agent of pod {} runs with an empty --{flag}", self.pod)),
            socket => Ok(socket),
        }
    }
}

#[derive(Deserialize)]
struct PodList {
    items: Vec<ListedPod>,
}

#[derive(Deserialize)]
struct ListedPod {
    metadata: ListedMeta,
    #[serde(default)]
    spec: ListedSpec,
    #[serde(default)]
    status: ListedStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedMeta {
    name: String,
    deletion_timestamp: Option<String>,
    #[serde(default)]
    owner_references: Vec<ListedOwner>,
}

#[derive(Deserialize)]
struct ListedOwner {
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedSpec {
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    containers: Vec<ListedContainer>,
}

#[derive(Deserialize)]
struct ListedContainer {
    name: String,
    #[serde(default)]
    args: Vec<String>,
}

#[derive(Default, Deserialize)]
struct ListedStatus {
    #[serde(default)]
    phase: String,
}

/// The agents of a list of pods, one for each node. Pods that no DaemonSet owns, such as those of `helm test`, are none.
///
/// # Errors
/// It is no list of pods.
pub(super) fn agents(json: &[u8]) -> Result<Vec<AgentPod>, serde_json::Error> {
    let list: PodList = serde_json::from_slice(json)?;
    let mut by_node: BTreeMap<String, (u8, AgentPod)> = BTreeMap::new();
    for pod in list.items {
        if !pod.metadata.owner_references.iter().any(|owner| owner.kind == "DaemonSet") {
            continue;
        }
        // A pod that is not assigned yet is listed under its own name: it must not be left out either.
        let assigned = !pod.spec.node_name.is_empty();
        let node =
            if assigned { pod.spec.node_name.clone() } else { format!("(of pod {})", pod.metadata.name) };
        let (rank, place) = judge(pod);
        let known = by_node.get(&node).map_or(0, |(rank, _)| *rank);
        if rank > known {
            by_node.insert(node.clone(), (rank, AgentPod { node, place }));
        }
    }
    Ok(by_node.into_values().map(|(_, agent)| agent).collect())
}

/// Whether a pod can be asked, and how likely it is the right one of several on its node. While a pod is replaced, there are two.
fn judge(pod: ListedPod) -> (u8, Result<AgentPlace, String>) {
    let name = pod.metadata.name;
    let ends = pod.metadata.deletion_timestamp.is_some();
    let phase = if pod.status.phase.is_empty() { "Unknown" } else { &pod.status.phase };
    if phase != "Running" {
        return (if ends { 1 } else { 2 }, Err(format!("its pod {name} is {phase}")));
    }
    match pod.spec.containers.into_iter().find(|container| container.name == CONTAINER) {
        Some(container) => {
            (if ends { 3 } else { 4 }, Ok(AgentPlace { pod: name, arguments: container.args }))
        }
        None => {
            (2, Err(format!("its pod {name} has no container named {CONTAINER}; is it being cleaned up?")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, node: &str, phase: &str) -> Value {
        json!({
            "metadata": {"name": name, "ownerReferences": [{"kind": "DaemonSet", "name": "bridgewarden"}]},
            "spec": {"nodeName": node, "containers": [{"name": "agent", "args": ["run", "--backend=auto"]}]},
            "status": {"phase": phase},
        })
    }

    fn found(pods: &[Value]) -> Vec<(String, Result<String, String>)> {
        let list = json!({"kind": "List", "items": pods}).to_string();
        let agents = agents(list.as_bytes()).expect("it is a list");
        agents.into_iter().map(|agent| (agent.node, agent.place.map(|place| place.pod))).collect()
    }

    #[test]
    fn each_node_has_the_agent_that_runs_and_stays() {
        let mut ending = pod("old", "node-a", "Running");
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        let of_a_test = json!({"metadata": {"name": "test"}, "spec": {"nodeName": "node-a"}});
        let all = [ending.clone(), pod("new", "node-a", "Running"), of_a_test, pod("b", "node-b", "Running")];
        let wanted =
            [("node-a", "new"), ("node-b", "b")].map(|(node, pod)| (node.to_owned(), Ok(pod.to_owned())));
        assert_eq!(found(&all), wanted);
        let starting = [ending, pod("new", "node-a", "Pending")];
        assert_eq!(found(&starting), [("node-a".to_owned(), Ok("old".to_owned()))]);
    }

    #[test]
    fn node_whose_agent_does_not_run_is_kept_with_the_reason() {
        let mut cleaning = pod("c", "node-c", "Running");
        cleaning["spec"]["containers"][0]["name"] = json!("wait");
        let found = found(&[pod("a", "node-a", "Pending"), pod("b", "", "Pending"), cleaning]);
        let reasons: Vec<_> =
            found.into_iter().map(|(node, place)| (node, place.expect_err("it cannot be asked"))).collect();
        let wanted = [
            ("(of pod b)", "its pod b is Pending"),
            ("node-a", "its pod a is Pending"),
            ("node-c", "its pod c has no container named agent; is it being cleaned up?"),
        ];
        assert_eq!(reasons, wanted.map(|(node, why)| (node.to_owned(), why.to_owned())));
    }

    #[test]
    fn what_is_no_list_of_pods_is_an_error() {
        for text in ["", "{}", "[]", "{\"items\": [1]}", "{\"items\": [{\"metadata\": {}}]}"] {
            assert!(agents(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn last_value_of_a_flag_counts_in_either_form() {
        let words = ["run", "--deny=drop", "--deny", "reject", "--deny-all=1", "--own-tables", "--mark=0x1"];
        let place = AgentPlace { pod: "a".into(), arguments: words.map(str::to_owned).into() };
        let flags = ["deny", "own-tables", "mark", "bridge"].map(|name| place.flag(name));
        assert_eq!(flags, [Some("reject"), Some(""), Some("0x1"), None]);
    }
}
