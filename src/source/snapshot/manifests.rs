//! A snapshot from manifests.

use super::SnapshotInput;
use super::other_kinds;
use super::snapshot_builder::SnapshotBuilder;
use crate::api;
use crate::model::{Change, Direction, Namespace, Pod, Policy, PolicyOrigin};
use crate::source::convert;
use crate::source::convert::object_key::ObjectKey;
use crate::source::files::{ManifestText, read_texts};
use crate::source::manifest::collect::Collect;
use crate::source::manifest::object::{Object, OtherObject};
use crate::source::manifest::problem::duplicate;
use crate::source::manifest::{ManifestError, Origin, Problem, manifest_reader};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

/// Where manifests are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestInput {
    /// A file or a directory.
    Path(PathBuf),
    /// The standard input.
    Stdin,
}

impl fmt::Display for ManifestInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestInput::Path(path) => write!(f, "{}", path.display()),
            ManifestInput::Stdin => f.write_str(STDIN),
        }
    }
}

/// Reads manifests as one snapshot. An object in a later input replaces that of an earlier one; in one input it stands once.
///
/// # Errors
/// Lists everything that is wrong with the manifests.
pub fn read_snapshot(inputs: &[ManifestInput]) -> Result<SnapshotInput, ManifestError> {
    let mut manifests = SnapshotManifests::default();
    if inputs.iter().filter(|input| **input == ManifestInput::Stdin).count() > 1 {
        let message = "is named twice, and can be read once: write one of them to a file".to_owned();
        manifests.problems.push(Problem::of_file(&STDIN.into(), message));
    }
    for input in inputs {
        manifests.seen.clear();
        manifests.seen_others.clear();
        manifests.builder.workloads.begin_input();
        let texts: Box<dyn Iterator<Item = Result<ManifestText, Problem>> + '_> = match input {
            ManifestInput::Path(root) => Box::new(read_texts(root)),
            ManifestInput::Stdin => Box::new(std::iter::once(stdin())),
        };
        for text in texts {
            match text {
                Ok(ManifestText { file, text }) => manifests.read(file, &text),
                Err(problem) => manifests.problems.push(problem),
            }
        }
    }
    match ManifestError::of(manifests.problems) {
        Some(error) => Err(error),
        None => {
            let mut read = manifests.builder.finish();
            if read.snapshot.pods.is_empty() && read.snapshot.policies.is_empty() {
                let names: Vec<String> = inputs.iter().map(ToString::to_string).collect();
                read.warnings.push(format!(
                    "there are no pods, no objects that make pods and no NetworkPolicies in {}",
                    names.join(", ")
                ));
            }
            Ok(read)
        }
    }
}

/// How the standard input is named in problems.
const STDIN: &str = "(standard input)";

fn stdin() -> Result<ManifestText, Problem> {
    let file: Arc<str> = STDIN.into();
    let mut bytes = Vec::new();
    match io::stdin().lock().read_to_end(&mut bytes) {
        // What is not UTF-8 is replaced, as in a file: the reader refuses an object of which such a part matters.
        Ok(_) => Ok(ManifestText { file, text: String::from_utf8_lossy(&bytes).into_owned() }),
        Err(error) => Err(Problem::of_file(&file, format!("cannot be read: {error}"))),
    }
}

/// An object of which only the name is read.
#[derive(Deserialize)]
struct NamedObject {
    #[serde(default)]
    metadata: api::ObjectMeta,
}

/// Receives the objects of one file after the other.
#[derive(Debug, Default)]
struct SnapshotManifests {
    builder: SnapshotBuilder,
    /// The objects of this input, and where each begins.
    seen: BTreeMap<ObjectKey, Origin>,
    /// The same of workloads, Services and nodes, by kind, namespace and name.
    seen_others: BTreeMap<[String; 3], Origin>,
    file: Arc<str>,
    /// The lines of the rules of the policy that comes next.
    rules: BTreeMap<(Direction, usize), usize>,
    problems: Vec<Problem>,
}

impl SnapshotManifests {
    fn read(&mut self, file: Arc<str>, text: &str) {
        self.file = file.clone();
        match manifest_reader::collect(file, text, self) {
            Ok(remarks) => {
                self.builder.warnings.extend(remarks.invalid.iter().map(ToString::to_string));
                for (kind, count) in remarks.skipped {
                    *self.builder.skipped.entry(kind).or_default() += count;
                }
            }
            Err(error) => self.problems.extend(error.problems),
        }
    }

    /// Records where a workload, a Service or a node stands. Of two the later one counts, and that is reported.
    fn note_other(&mut self, kind: &str, metadata: api::ObjectMeta, origin: Origin) {
        let namespace =
            if kind == "Node" { String::new() } else { convert::namespace_of(&metadata).to_owned() };
        let name = if namespace.is_empty() {
            metadata.name.clone()
        } else {
            format!("{namespace}/{}", metadata.name)
        };
        let key = [kind.to_owned(), namespace, metadata.name];
        let place = origin.to_string();
        if let Some(first) = self.seen_others.insert(key, origin) {
            self.builder.warnings.push(format!(
                "{place}: duplicate object: {kind} {name} already stands at {first}; this one counts"
            ));
        }
    }

    /// Records where an object stands. A second file of the same input must not contain it.
    fn note(&mut self, key: ObjectKey, origin: &Origin) {
        if let Some(first) = self.seen.insert(key.clone(), origin.clone())
            && first.file != origin.file
        {
            let Origin { file, line, column } = origin;
            let message = duplicate(&key, &first);
            self.problems.push(Problem { line: *line, column: *column, ..Problem::of_file(file, message) });
        }
    }
}

impl Collect for SnapshotManifests {
    fn namespace(&mut self, object: Object<api::Namespace, Namespace>) {
        self.note(ObjectKey::Namespace(object.converted.name.clone()), &object.origin);
        self.builder.namespace(object.converted);
    }

    fn pod(&mut self, object: Object<api::Pod, Pod>) {
        self.note(ObjectKey::Pod(object.converted.key.clone()), &object.origin);
        self.builder.workloads.see_pod(&object.converted);
        self.builder.pod(&object.written, object.converted);
    }

    fn policy(&mut self, object: Object<api::NetworkPolicy, Policy>) {
        self.note(ObjectKey::Policy(object.converted.key.clone()), &object.origin);
        let Origin { file, line, .. } = object.origin;
        let rules = std::mem::take(&mut self.rules);
        self.builder.policy(object.converted, Some(PolicyOrigin::File { file, line, rules }));
    }

    fn policy_lines(&mut self, policy: &Policy, line_of: &dyn Fn(&str) -> usize) {
        let of = |direction: Direction| {
            let rules = policy.rules(direction).into_iter().flatten();
            rules.map(move |rule| {
                let path = format!("spec.{direction}[{}]", rule.index);
                ((direction, rule.index), path)
            })
        };
        let rules = Direction::BOTH.into_iter().flat_map(of);
        self.rules = rules.map(|(rule, path)| (rule, line_of(&path))).collect();
    }

    fn other(&mut self, object: &OtherObject<'_>) -> bool {
        let (line, column) = object.position();
        let read = other_kinds::read(object, &mut self.builder).unwrap_or_else(|fault| {
            let message = format!("{} cannot be read: {fault}", object.kind);
            self.problems.push(Problem { line, column, ..Problem::of_file(&self.file, message) });
            true
        });
        if read && let Ok(NamedObject { metadata }) = object.read() {
            let origin = Origin { file: self.file.clone(), line, column };
            self.note_other(object.kind, metadata, origin);
        }
        read
    }

    /// Reading fails with what is wrong instead.
    fn unreadable(&mut self, _: Change, _: &Origin) {}

    fn replace(&mut self, key: &ObjectKey) {
        self.seen.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PodKey, PolicyKey, ServiceKey, Snapshot, Workload};
    use crate::net::Protocol;
    use crate::source::files::scratch::Scratch;

    fn read(scratch: &Scratch) -> Result<SnapshotInput, ManifestError> {
        read_snapshot(&[ManifestInput::Path(scratch.path().to_owned())])
    }

    fn snapshot(text: &str) -> Snapshot {
        let scratch = Scratch::new();
        scratch.write("a.yaml", text);
        read(&scratch).unwrap().snapshot
    }

    fn names(snapshot: &Snapshot) -> Vec<String> {
        snapshot.pods.keys().map(ToString::to_string).collect()
    }

    const DEPLOYMENT: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
";

    #[test]
    fn workload_object_stands_for_its_pods() {
        let snapshot = snapshot(DEPLOYMENT);
        let pod = &snapshot.pods[&PodKey::new("shop", "deployment/web")];
        assert_eq!(Workload::of(pod).to_string(), "shop/deployment/web");
        assert_eq!((pod.labels.get("app"), pod.ports[0].port), (Some("web"), 8080));
        assert!(pod.addresses.is_empty() && pod.networked);
        assert!(snapshot.namespaces.contains_key(&pod.key.namespace));
    }

    #[test]
    fn every_kind_that_makes_pods_is_read() {
        let template = "template: {metadata: {labels: {app: a}}, spec: {containers: []}}";
        for (version, kind) in [
            ("apps/v1", "Deployment"),
            ("apps/v1", "ReplicaSet"),
            ("apps/v1", "StatefulSet"),
            ("apps/v1", "DaemonSet"),
            ("batch/v1", "Job"),
            ("v1", "ReplicationController"),
        ] {
            let head = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n");
            let expected = format!("default/{}/a", kind.to_lowercase());
            assert_eq!(names(&snapshot(&format!("{head}spec: {{{template}}}\n"))), [expected]);
        }
        let text = format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: a}}\nspec: {{jobTemplate: {{spec: {{{template}}}}}}}\n"
        );
        assert_eq!(names(&snapshot(&text)), ["default/cronjob/a"]);
    }

    #[test]
    fn workload_whose_pods_are_there_does_not_stand_for_others() {
        let replica_set = DEPLOYMENT.replace("kind: Deployment", "kind: ReplicaSet").replace(
            "metadata: {name: web, namespace: shop}",
            "metadata: {name: web-5d9c, namespace: shop, \
             ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: a, controller: true}]}",
        );
        assert_eq!(names(&snapshot(&format!("{DEPLOYMENT}{replica_set}"))), ["shop/deployment/web"]);
        assert_eq!(names(&snapshot(&replica_set)), ["shop/replicaset/web-5d9c"]);
        let pod = "
---
apiVersion: v1
kind: Pod
metadata:
  name: web-5d9c-x7k
  namespace: shop
  labels: {app: web, pod-template-hash: 5d9c}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d9c, uid: b, controller: true}]
";
        let all = format!("{DEPLOYMENT}{replica_set}{pod}");
        assert_eq!(names(&snapshot(&all)), ["shop/web-5d9c-x7k"]);
    }

    #[test]
    fn workload_stands_for_its_next_pods_after_its_last_ones_have_finished() {
        let template = "template: {metadata: {labels: {app: a}}, spec: {containers: []}}";
        let owned = |name: &str, kind: &str, owner: &str| {
            format!(
                "metadata: {{name: {name}, ownerReferences: [{{kind: {kind}, name: {owner}, controller: true}}]}}"
            )
        };
        let pod = |owner: &str, phase: &str| {
            format!(
                "---\napiVersion: v1\nkind: Pod\n{owner}\nspec: {{containers: []}}\nstatus: {{phase: {phase}}}\n"
            )
        };
        let cron = format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: rep}}\nspec: {{jobTemplate: {{spec: {{{template}}}}}}}\n"
        );
        let job = format!(
            "---\napiVersion: batch/v1\nkind: Job\n{}\nspec: {{{template}}}\n",
            owned("rep-29012345", "CronJob", "rep")
        );
        let of_job = |phase| pod(&owned("rep-29012345-x", "Job", "rep-29012345"), phase);
        let finished = of_job("Succeeded");
        assert_eq!(
            names(&snapshot(&format!("{cron}{job}{finished}"))),
            ["default/cronjob/rep", "default/rep-29012345-x"]
        );
        assert_eq!(
            names(&snapshot(&format!("{cron}{job}{}", of_job("Running")))),
            ["default/rep-29012345-x"]
        );
        // A Job makes no more pods once they have finished.
        assert_eq!(names(&snapshot(&format!("{job}{finished}"))), ["default/rep-29012345-x"]);
        let set = format!(
            "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db}}\nspec: {{{template}}}\n"
        );
        let evicted = pod(&owned("db-0", "StatefulSet", "db"), "Failed");
        assert_eq!(names(&snapshot(&format!("{set}{evicted}"))), ["default/db-0", "default/statefulset/db"]);
    }

    #[test]
    fn list_of_a_kind_is_read_as_its_items() {
        let template = "template: {metadata: {labels: {app: a}}, spec: {containers: []}}";
        let item =
            |name: &str, more: &str| format!("{{{more}metadata: {{name: {name}}}, spec: {{{template}}}}}");
        let list = format!(
            "apiVersion: apps/v1\nkind: DeploymentList\nitems: [{}, {}]\n",
            item("a", ""),
            item("b", "apiVersion: apps/v1, kind: Deployment, ")
        );
        assert_eq!(names(&snapshot(&list)), ["default/deployment/a", "default/deployment/b"]);
        let cron = "{metadata: {name: c}, spec: {jobTemplate: {spec: {template: {spec: {containers: []}}}}}}";
        let list = format!("apiVersion: batch/v1\nkind: CronJobList\nitems: [{cron}]\n");
        assert_eq!(names(&snapshot(&list)), ["default/cronjob/c"]);
        // An object of its own whose kind ends alike, and a list of a kind that is not read.
        let scratch = Scratch::new();
        let other = "apiVersion: x.io/v1\nkind: AllowList\nmetadata: {name: a}\nitems: [192.0.2.1]\n---\n\
                     apiVersion: v1\nkind: ConfigMapList\nitems: [{metadata: {name: a}}, {metadata: {name: b}}]\n";
        scratch.write("a.yaml", other);
        let skipped = BTreeMap::from([("AllowList".to_owned(), 1), ("ConfigMap".to_owned(), 2)]);
        assert_eq!(read(&scratch).unwrap().skipped, skipped);
    }

    #[test]
    fn workload_service_or_node_that_stands_twice_is_reported() {
        let objects = [
            DEPLOYMENT.trim_start_matches("\n---\n").to_owned(),
            "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: []}\n"
                .to_owned(),
            "apiVersion: v1\nkind: Node\nmetadata: {name: node-a}\n".to_owned(),
        ];
        for (object, named) in objects.iter().zip(["Deployment shop/web", "Service shop/web", "Node node-a"])
        {
            let (one, two) = (Scratch::new(), Scratch::new());
            one.write("a.yaml", &format!("{object}---\n{object}"));
            two.write("a.yaml", object);
            two.write("b.yaml", object);
            let text = format!("duplicate object: {named} already stands at ");
            let reported = |inputs: &[ManifestInput]| {
                let warnings = read_snapshot(inputs).unwrap().warnings;
                warnings.iter().filter(|warning| warning.contains(&text)).count()
            };
            for scratch in [&one, &two] {
                assert_eq!(reported(&[ManifestInput::Path(scratch.path().to_owned())]), 1, "{named}");
            }
            // A later input is there to replace it.
            let inputs = ["a.yaml", "b.yaml"].map(|file| ManifestInput::Path(two.path().join(file)));
            assert_eq!(reported(&inputs), 0, "{named}");
        }
    }

    #[test]
    fn changed_workload_whose_old_pods_are_shown_in_its_place_is_reported() {
        let pod = |labels: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: web-1, namespace: shop, labels: {{{labels}}}, \
                 ownerReferences: [{{kind: ReplicaSet, name: web-5d9c, controller: true}}]}}\nspec: {{containers: []}}\n"
            )
        };
        let own = "app: web, pod-template-hash: 5d9c";
        let (one, two) = (Scratch::new(), Scratch::new());
        for (pods, workloads, reported) in [
            (format!("{}{DEPLOYMENT}", pod(own)), String::new(), false),
            (format!("{}{DEPLOYMENT}", pod("app: old, pod-template-hash: 5d9c")), String::new(), true),
            (pod(own), DEPLOYMENT.to_owned(), true),
            (DEPLOYMENT.to_owned(), pod(own), false),
        ] {
            one.write("a.yaml", &pods);
            two.write("a.yaml", &workloads);
            let inputs = [one.path(), two.path()].map(|path| ManifestInput::Path(path.to_owned()));
            let found = read_snapshot(&inputs).unwrap();
            assert_eq!(names(&found.snapshot), ["shop/web-1"]);
            let is_about = |warning: &String| warning.contains("shop/deployment/web is shown by its pods");
            assert_eq!(found.warnings.iter().any(is_about), reported, "{:?}", found.warnings);
        }
    }

    #[test]
    fn label_for_audit_mode_that_is_not_understood_is_reported() {
        let labelled =
            POLICY.replace("namespace: shop}", "namespace: shop, labels: {bridgewarden.io/audit: \"True\"}}");
        let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {bridgewarden.io/audit: \"yes\"}}\n";
        let scratch = Scratch::new();
        scratch.write("a.yaml", &format!("{labelled}{namespace}"));
        let warnings = read(&scratch).unwrap().warnings;
        for part in [
            "policy shop/db: the label bridgewarden.io/audit of the policy is `True`",
            "namespace shop: the label",
        ] {
            assert!(warnings.iter().any(|warning| warning.starts_with(part)), "{warnings:?}");
        }
    }

    #[test]
    fn output_of_kubectl_is_read_with_all_that_it_lists() {
        let list = r#"{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"},
             "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"},
                                      {"type": "Hostname", "address": "node-a"}]}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "proxy", "namespace": "shop"},
             "spec": {"nodeName": "node-b", "hostNetwork": true, "containers": []},
             "status": {"podIP": "192.0.2.2", "podIPs": [{"ip": "192.0.2.2"}]}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
             "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "selector": {"app": "web"},
                      "ports": [{"port": 80, "targetPort": "http"}]}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}]}"#;
        let scratch = Scratch::new();
        scratch.write("a.json", list);
        let SnapshotInput { snapshot, skipped, .. } = read(&scratch).unwrap();
        assert_eq!(skipped, BTreeMap::from([("ConfigMap".to_owned(), 1)]));
        assert_eq!(snapshot.nodes["node-a"], ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(snapshot.nodes["node-b"], ["192.0.2.2".parse::<std::net::IpAddr>().unwrap()]);
        let service = &snapshot.services[&ServiceKey::new("shop", "web")];
        assert!(service.translates_source && service.addresses.len() == 1);
        assert_eq!((service.ports[0].protocol, service.ports[0].port), (Protocol::Tcp, 80));
    }

    const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from: [{podSelector: {}}]
  - ports: [{port: 80}]
";

    #[test]
    fn policy_and_its_rules_have_the_lines_on_which_they_begin() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &format!("# a comment\n{POLICY}"));
        let snapshot = read(&scratch).unwrap().snapshot;
        let origin = &snapshot.origins[&PolicyKey::new("shop", "db")];
        let line = |text: String| text.rsplit_once(':').map(|(_, line)| line.to_owned()).unwrap();
        assert_eq!(line(origin.to_string()), "2");
        assert_eq!(line(origin.of_rule(Direction::Ingress, 0).to_string()), "8");
        assert_eq!(line(origin.of_rule(Direction::Ingress, 1).to_string()), "9");
    }

    #[test]
    fn object_stands_once_in_an_input_and_a_later_input_replaces_it() {
        let (one, other) = (Scratch::new(), Scratch::new());
        one.write("a.yaml", POLICY);
        other.write("b.yaml", &POLICY.replace("port: 80", "port: 81"));
        let inputs = [one.path(), other.path()].map(|path| ManifestInput::Path(path.to_owned()));
        let snapshot = read_snapshot(&inputs).unwrap().snapshot;
        assert_eq!(snapshot.policies.len(), 1);
        assert!(snapshot.origins[&PolicyKey::new("shop", "db")].to_string().contains("b.yaml"));
        one.write("c.yaml", POLICY);
        let error = read(&one).unwrap_err().to_string();
        assert!(
            error.contains("c.yaml:1:1: duplicate object: NetworkPolicy shop/db already stands at"),
            "{error}"
        );
    }

    #[test]
    fn object_that_cannot_be_read_is_an_error_with_its_line() {
        let scratch = Scratch::new();
        for (text, expected) in [
            (
                DEPLOYMENT.replace("labels: {app: web}", "labels: {app: 1.5}"),
                "a.yaml:3:1: Deployment cannot be read",
            ),
            (DEPLOYMENT.replace("containerPort: 8080", "containerPort: 0"), "0 is not a port"),
            (DEPLOYMENT.replace("  template:", "  templates:"), "it has no template for its pods"),
            (POLICY.replace("port: 80", "prot: 80"), "unknown field `prot`"),
        ] {
            scratch.write("a.yaml", &text);
            let error = read(&scratch).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
