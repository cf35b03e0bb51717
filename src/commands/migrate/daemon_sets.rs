//! The DaemonSets of NetworkPolicy controllers, as `kubectl get daemonsets -o json` prints them.

use crate::apply::OtherController;
use OtherController::{Antrea, AzureNpm, Calico, Cilium, KubeNetworkPolicies, KubeRouter, WeaveNpc};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A part of the image's name by which a controller is recognised.
const IMAGES: [(&str, OtherController); 8] = [
    ("kube-router", KubeRouter),
    ("kube-network-policies", KubeNetworkPolicies),
    ("calico/node", Calico),
    ("calico-node", Calico),
    ("weave-npc", WeaveNpc),
    ("cilium/cilium", Cilium),
    ("antrea-agent", Antrea),
    ("azure-npm", AzureNpm),
];
/// The value of this label is the name of an application.
const NAME: &str = "app.kubernetes.io/name";
/// By these annotations Helm knows its objects.
const RELEASE: &str = "meta.helm.sh/release-name";
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// A release of Helm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Helm {
    pub(super) release: String,
    pub(super) namespace: String,
}

/// The DaemonSet of another controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DaemonSet {
    pub(super) controller: OtherController,
    namespace: String,
    name: String,
    release: Option<Helm>,
    /// Whether it also routes or serves Services (kube-router).
    does_more: bool,
}

impl DaemonSet {
    /// The command that stops it and leaves its rules.
    pub(super) fn stop(&self) -> String {
        let DaemonSet { namespace, name, .. } = self;
        match (self.controller, &self.release) {
            (KubeRouter, _) if self.does_more => {
                format!(
                    "kubectl -n {namespace} edit daemonset {name}     # --run-firewall=false, as it also routes or serves Services"
                )
            }
            (KubeNetworkPolicies, Some(Helm { release, namespace })) => {
                format!(
                    "helm upgrade {release} CHART -n {namespace} --reset-then-reuse-values --set netpol.enabled=false     # CHART: Flannel's"
                )
            }
            _ => format!("kubectl -n {namespace} delete daemonset {name}"),
        }
    }
}

#[derive(Deserialize)]
struct DaemonSetList {
    items: Vec<ListedDaemonSet>,
}

#[derive(Deserialize)]
struct ListedDaemonSet {
    metadata: DaemonSetMeta,
    spec: DaemonSetSpec,
}

#[derive(Deserialize)]
struct DaemonSetMeta {
    name: String,
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct DaemonSetSpec {
    template: DaemonSetTemplate,
}

#[derive(Deserialize)]
struct DaemonSetTemplate {
    spec: DaemonSetPodSpec,
}

#[derive(Deserialize)]
struct DaemonSetPodSpec {
    containers: Vec<DaemonSetContainer>,
}

#[derive(Deserialize)]
struct DaemonSetContainer {
    #[serde(default)]
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
}

impl DaemonSetContainer {
    /// Whether a switch of kube-router is on, which is so if it is not mentioned.
    fn has_on(&self, switch: &str) -> bool {
        let mut words = self.command.iter().chain(&self.args);
        !words.any(|word| word.strip_prefix(switch) == Some("=false"))
    }
}

/// The other controllers' DaemonSets that filter packets, and the release of Bridgewarden.
///
/// # Errors
/// It is no list of DaemonSets.
pub(super) fn daemon_sets(json: &[u8]) -> Result<(Vec<DaemonSet>, Option<Helm>), serde_json::Error> {
    let list: DaemonSetList = serde_json::from_slice(json)?;
    let (mut others, mut own) = (Vec::new(), None);
    for ListedDaemonSet { metadata, spec } in list.items {
        let annotation = |name: &str| metadata.annotations.get(name).cloned();
        let release = annotation(RELEASE).zip(annotation(RELEASE_NAMESPACE));
        let release = release.map(|(release, namespace)| Helm { release, namespace });
        if metadata.labels.get(NAME).is_some_and(|name| name == "bridgewarden") {
            own = release;
            continue;
        }
        let containers = &spec.template.spec.containers;
        let found = IMAGES.iter().find_map(|(word, controller)| {
            containers
                .iter()
                .find(|container| container.image.contains(word))
                .map(|container| (*controller, container))
        });
        let Some((controller, container)) = found else { continue };
        let is_router = controller == KubeRouter;
        if is_router && !container.has_on("--run-firewall") {
            continue;
        }
        let does_more = is_router
            && ["--run-router", "--run-service-proxy"].iter().any(|switch| container.has_on(switch));
        others.push(DaemonSet {
            controller,
            namespace: metadata.namespace,
            name: metadata.name,
            release,
            does_more,
        });
    }
    Ok((others, own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(name: &str, image: &str, args: &[&str], meta: Value) -> Value {
        let mut set = json!({
            "metadata": {"name": name, "namespace": "net"},
            "spec": {"template": {"spec": {"containers": [{"image": image, "args": args}]}}},
        });
        for (key, value) in meta.as_object().into_iter().flatten() {
            set["metadata"][key] = value.clone();
        }
        set
    }

    fn read(sets: &[Value]) -> (Vec<DaemonSet>, Option<Helm>) {
        daemon_sets(json!({"items": sets}).to_string().as_bytes()).expect("a list")
    }

    #[test]
    fn each_controller_is_stopped_by_the_command_of_its_own_daemon_set() {
        let alone = ["--run-router=false", "--run-service-proxy=false", "--run-firewall=true"];
        let release = json!({"annotations": {(RELEASE): "flannel", (RELEASE_NAMESPACE): "kube-flannel"}});
        let cases = [
            (
                set("firewall", "docker.io/cloudnativelabs/kube-router:v2", &alone, json!({})),
                "kubectl -n net delete daemonset firewall",
            ),
            (
                set("router", "kube-router", &["--run-router=false"], json!({})),
                "kubectl -n net edit daemonset router ",
            ),
            (
                set("policies", "x/kube-network-policies:v1", &[], json!({})),
                "kubectl -n net delete daemonset policies",
            ),
            (
                set("policies", "x/kube-network-policies:v1", &[], release),
                "helm upgrade flannel CHART -n kube-flannel ",
            ),
            (set("canal", "calico/node:v3", &[], json!({})), "kubectl -n net delete daemonset canal"),
        ];
        for (set, command) in cases {
            let (others, _) = read(&[set]);
            assert!(others[0].stop().starts_with(command), "{others:?}");
        }
    }

    #[test]
    fn daemon_set_that_filters_nothing_is_no_controller_and_our_own_gives_its_release() {
        let ours = json!({
            "labels": {(NAME): "bridgewarden"}, "annotations": {(RELEASE): "bw", (RELEASE_NAMESPACE): "security"}
        });
        let (others, own) = read(&[
            set("router", "kube-router", &["--run-firewall=false"], json!({})),
            set("kube-proxy", "kube-proxy", &[], json!({})),
            set("bw-bridgewarden", "bridgewarden", &[], ours),
        ]);
        assert_eq!(others, []);
        assert_eq!(own, Some(Helm { release: "bw".to_owned(), namespace: "security".to_owned() }));
    }
}
