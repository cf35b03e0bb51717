//! A snapshot from manifests.

use super::SnapshotInput;
use super::other_kinds;
use super::snapshot_builder::SnapshotBuilder;
use crate::api;
use crate::model::{Change, Direction, Namespace, Pod, Policy, PolicyOrigin};
use crate::source::convert::object_key::ObjectKey;
use crate::source::files::{ManifestText, read_texts};
use crate::source::manifest::collect::Collect;
use crate::source::manifest::object::{Object, OtherObject};
use crate::source::manifest::problem::duplicate;
use crate::source::manifest::{ManifestError, Origin, Problem, manifest_reader};
use std::collections::BTreeMap;
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

/// Reads manifests as one snapshot. An object in a later input replaces that of an earlier one; in one input it stands once.
///
/// # Errors
/// Lists everything that is wrong with the manifests.
pub fn read_snapshot(inputs: &[ManifestInput]) -> Result<SnapshotInput, ManifestError> {
    let mut manifests = SnapshotManifests::default();
    for input in inputs {
        manifests.seen.clear();
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
        None => Ok(manifests.builder.finish()),
    }
}

fn stdin() -> Result<ManifestText, Problem> {
    let file: Arc<str> = "(standard input)".into();
    let mut text = String::new();
    match io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(ManifestText { file, text }),
        Err(error) => Err(Problem::of_file(&file, format!("cannot be read: {error}"))),
    }
}

/// Receives the objects of one file after the other.
#[derive(Debug, Default)]
struct SnapshotManifests {
    builder: SnapshotBuilder,
    /// The objects of this input, and where each begins.
    seen: BTreeMap<ObjectKey, Origin>,
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
        other_kinds::read(object, &mut self.builder).unwrap_or_else(|fault| {
            let message = format!("{} cannot be read: {fault}", object.kind);
            let (line, column) = object.position();
            self.problems.push(Problem { line, column, ..Problem::of_file(&self.file, message) });
            true
        })
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
