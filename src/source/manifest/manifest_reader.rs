//! Reads the objects in the text of manifests, and reports everything that is wrong with it.

use super::collect::Collect;
use super::json::{join_surrogates, separate};
use super::object::{Manifests, Object, OtherObject, Remarks};
use super::problem::{ManifestError, Origin, Problem, duplicate};
use super::schema::{self, Shape};
use super::tree::{Position, YamlNode, YamlValue};
use super::unparsed::{Isolates, UNKNOWN_ISOLATION, isolates};
use super::yaml::Documents;
use crate::source::convert::object_key::ObjectKey;
use crate::source::convert::object_kind::ObjectKind;
use crate::source::convert::{self, name, partial};
use crate::{api, model};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Reads the manifests in a text; `file` is its name in problems.
///
/// # Errors
/// Lists everything that is wrong with it.
pub fn parse(file: &str, text: &str) -> Result<Manifests, ManifestError> {
    let mut manifests = Manifests::default();
    parse_into(file.into(), text, &mut manifests)?;
    Ok(manifests)
}

/// Reads the manifests in a text into `manifests`, remarks included.
///
/// # Errors
/// Lists everything that is wrong with it.
pub(in crate::source) fn parse_into(
    file: Arc<str>,
    text: &str,
    manifests: &mut Manifests,
) -> Result<(), ManifestError> {
    let mut remarks = collect(file, text, manifests)?;
    manifests.invalid.append(&mut remarks.invalid);
    for (kind, count) in remarks.skipped {
        *manifests.skipped.entry(kind).or_default() += count;
    }
    Ok(())
}

/// Reads the manifests in a text; `file` is its name in problems. Readable objects are collected even if others are not
/// readable. Of those, what is certain is collected.
///
/// # Errors
/// Lists everything that is wrong with it.
pub(in crate::source) fn collect(
    file: Arc<str>,
    text: &str,
    objects: &mut dyn Collect,
) -> Result<Remarks, ManifestError> {
    let mut reader = ManifestReader {
        file,
        objects,
        damaged: text.contains(char::REPLACEMENT_CHARACTER),
        positions: BTreeMap::new(),
        skipped: BTreeMap::new(),
        problems: Vec::new(),
        invalid: Vec::new(),
    };
    let text = &*separate(text);
    let joined = join_surrogates(text);
    let mut documents = Documents::new(&joined);
    while let Some(document) = documents.next() {
        match document {
            Ok(node) => reader.document(node),
            Err(faults) => {
                reader.not_yaml(text, faults.first().map_or(1, |fault| fault.at.line), documents.has_ended());
                faults.into_iter().for_each(|fault| reader.complain(fault.at, "", fault.message));
            }
        }
    }
    let ManifestReader { file, skipped, problems, invalid, .. } = reader;
    if problems.is_empty() && invalid.is_empty() {
        return Ok(Remarks { invalid: Vec::new(), skipped });
    }
    let lines: Vec<&str> = text.lines().collect();
    let place = |complaint: Complaint| {
        let Complaint { at: Position { line, column }, path, message } = complaint;
        let source = line.checked_sub(1).and_then(|index| lines.get(index)).copied();
        Problem { file: Arc::clone(&file), line, column, path, message, source: None }.show(source)
    };
    let remarks = Remarks { invalid: invalid.into_iter().map(place).collect(), skipped };
    ManifestError::of(problems.into_iter().map(place).collect()).map_or(Ok(remarks), Err)
}

/// Something wrong in the text.
struct Complaint {
    at: Position,
    path: String,
    message: String,
}

struct ManifestReader<'a> {
    file: Arc<str>,
    objects: &'a mut dyn Collect,
    /// Whether a part of the text may not have been UTF-8.
    damaged: bool,
    /// Where each object that was read begins.
    positions: BTreeMap<ObjectKey, Position>,
    skipped: BTreeMap<String, usize>,
    problems: Vec<Complaint>,
    invalid: Vec<Complaint>,
}

impl ManifestReader<'_> {
    fn document(&mut self, mut node: YamlNode<'_>) {
        if !node.is_null() {
            self.object(&mut node, None);
        }
    }

    /// Reads an object; `expected` is the version and kind of an item without them, which follow from the list around it.
    fn object(&mut self, node: &mut YamlNode<'_>, expected: Option<(&str, &str)>) {
        if !matches!(node.value, YamlValue::Map(_)) {
            let message = format!("expected a Kubernetes object, found {}", node.describe());
            return self.complain(node.at, "", message);
        }
        let kind =
            self.string(node, "kind", expected.map(|(_, kind)| kind), "NetworkPolicy").map(str::to_owned);
        let Some(kind) = kind.as_deref() else { return self.unreadable(node, None, "") };
        let known = ObjectKind::ALL.into_iter().find(|known| known.name() == kind);
        let usual = known.map_or("v1", ObjectKind::api_version);
        let version =
            self.string(node, "apiVersion", expected.map(|(version, _)| version), usual).map(str::to_owned);
        let Some(version) = version.as_deref() else { return self.unreadable(node, known, "") };
        match known {
            Some(kind) if kind.api_version() == version => self.known(node, kind),
            Some(kind) if kind.was_served_as(version) => {
                let message = format!("unknown version `{version}`: write `{usual}`");
                self.unreadable(node, Some(kind), &message);
                self.complain(node.position_of("apiVersion"), "apiVersion", message);
            }
            Some(_) => self.other(node, kind, version),
            None => self.list_or_other_kind(node, kind, version),
        }
    }

    /// The string under `field`, or else `expected`; without either, a problem is reported.
    fn string<'a>(
        &mut self,
        node: &'a YamlNode<'_>,
        field: &str,
        expected: Option<&'a str>,
        usual: &str,
    ) -> Option<&'a str> {
        let word = match node.get(field).filter(|word| !word.is_null()) {
            Some(word) if word.text().is_none() => {
                let message = format!("wrong type: expected a string, found {}", word.describe());
                self.complain(word.at, field, message);
                return None;
            }
            Some(word) => word.text(),
            None => expected,
        };
        if word.is_none() {
            self.complain(
                node.at,
                field,
                format!("{field} is missing: write `{field}: {usual}` or the like"),
            );
        }
        word
    }

    fn list_or_other_kind(&mut self, node: &mut YamlNode<'_>, kind: &str, version: &str) {
        let of = ObjectKind::ALL.into_iter().find(|known| kind.strip_suffix("List") == Some(known.name()));
        if of.is_some() || kind == "List" {
            return self.list(node, of.map(|of| (of.api_version(), of.name())));
        }
        match ObjectKind::ALL.into_iter().find(|known| schema::is_meant_by(*known, kind, version)) {
            Some(meant) => {
                let message = format!("unknown kind `{kind}`: did you mean `{}`?", meant.name());
                self.unreadable(node, Some(meant), &message);
                self.complain(node.position_of("kind"), "kind", message);
            }
            None => match (kind.strip_suffix("List"), objects_in(node)) {
                (Some(of), Some(items)) => {
                    items.iter_mut().for_each(|item| self.object(item, Some((version, of))))
                }
                _ => self.other(node, kind, version),
            },
        }
    }

    fn list(&mut self, node: &mut YamlNode<'_>, of: Option<(&str, &str)>) {
        let sound = self.check(node, schema::LIST, true);
        if let Some(items) = node.get_mut("items").filter(|_| sound)
            && let YamlValue::List(items) = &mut items.value
        {
            for item in items {
                self.object(item, of);
            }
        }
    }

    fn known(&mut self, node: &mut YamlNode<'_>, kind: ObjectKind) {
        schema::normalise(node, schema::of(kind));
        let may_be_newer = kind != ObjectKind::NetworkPolicy;
        let fits = self.check(node, schema::of(kind), may_be_newer) && self.is_utf8(node, kind);
        if !fits || !self.is_named(node, kind) {
            return self.unreadable(node, Some(kind), "it does not have the API's shape");
        }
        let origin = self.origin(node.at);
        match kind {
            ObjectKind::Namespace => {
                let Some(written) = self.decode::<api::Namespace>(node) else { return };
                let converted = convert::namespace(&written);
                self.note(ObjectKey::Namespace(converted.name.clone()), &origin);
                self.objects.namespace(Object { written, converted, origin });
            }
            ObjectKind::Pod => {
                let Some(written) = self.decode::<api::Pod>(node) else { return };
                let (converted, invalid_parts) = convert::pod(&written);
                self.note(ObjectKey::Pod(converted.key.clone()), &origin);
                // If not all addresses of a pod are known, it would not be isolated completely.
                if !invalid_parts.is_empty() {
                    self.unreadable(node, Some(kind), "");
                    for part in invalid_parts {
                        self.complain(node.position_of(&part.path), &part.path, part.message);
                    }
                    return;
                }
                self.objects.pod(Object { written, converted, origin });
            }
            ObjectKind::NetworkPolicy => {
                let Some(written) = self.decode::<api::NetworkPolicy>(node) else { return };
                let converted = convert::policy(&written);
                for part in &converted.invalid_parts {
                    let at = node.position_of(&part.path);
                    let (path, message) = (part.path.clone(), part.message.clone());
                    self.invalid.push(Complaint { at, path, message });
                }
                self.note(ObjectKey::Policy(converted.key.clone()), &origin);
                self.objects.policy_lines(&converted, &|path| node.position_of(path).line);
                self.objects.policy(Object { written, converted, origin });
            }
        }
    }

    /// Collects what is certain of an object that cannot be read completely. An object without a kind counts as a
    /// policy if it looks like one.
    fn unreadable(&mut self, node: &YamlNode<'_>, kind: Option<ObjectKind>, fault: &str) {
        let Ok(mut object) = serde_json::Value::deserialize(node) else { return };
        let spec = object.get("spec");
        let looks_so = ["podSelector", "policyTypes", "ingress", "egress"]
            .iter()
            .any(|key| spec.is_some_and(|spec| spec.get(key).is_some()));
        let Some(kind) = kind.or(looks_so.then_some(ObjectKind::NetworkPolicy)) else { return };
        let origin = self.origin(node.at);
        if partial::identity(&object).name.is_none() && kind == ObjectKind::NetworkPolicy {
            let name = format!("unnamed, {origin}");
            if let Some(metadata) = object.get_mut("metadata").and_then(|metadata| metadata.as_object_mut()) {
                metadata.insert("name".to_owned(), name.into());
            } else {
                object = serde_json::json!({"metadata": {"name": name}});
            }
        }
        if let Some(change) = partial::change(kind, &object, fault) {
            self.objects.unreadable(change, &origin);
        }
    }

    /// Handles a part of the text that is not YAML: from the beginning of the document around this line to the end of
    /// the document, or of the text. The pods that it may isolate are isolated.
    fn not_yaml(&mut self, text: &str, line: usize, to_the_end: bool) {
        let lines: Vec<&str> = text.lines().collect();
        let begin = lines.iter().take(line.saturating_sub(1)).rposition(|line| line.starts_with("---"));
        let begin = begin.map_or(0, |index| index + 1);
        let rest = lines.get(begin..).unwrap_or_default();
        let end = rest.iter().position(|line| line.starts_with("---") && !to_the_end).unwrap_or(rest.len());
        let origin = self.origin(Position { line: begin + 1, column: 1 });
        match isolates(&rest.get(..end).unwrap_or_default().join("\n")) {
            Isolates::Nothing => {}
            Isolates::Namespaces(namespaces) => {
                for namespace in namespaces {
                    let name = format!("unreadable, {origin}");
                    let metadata =
                        api::ObjectMeta { name, namespace: Some(namespace), ..api::ObjectMeta::default() };
                    let policy = convert::unreadable_policy(&metadata, "it is not valid YAML");
                    self.objects.unreadable(model::Change::Policy(policy), &origin);
                }
            }
            Isolates::Unknown => {
                self.complain(Position { line: begin + 1, column: 1 }, "", UNKNOWN_ISOLATION.to_owned())
            }
        }
    }

    fn origin(&self, at: Position) -> Origin {
        Origin { file: Arc::clone(&self.file), line: at.line, column: at.column }
    }

    /// Whether an object has its shape. With `may_be_newer`, it may have fields of a newer API.
    fn check(&mut self, node: &YamlNode<'_>, shape: Shape, may_be_newer: bool) -> bool {
        let mut misfits = schema::check(node, shape);
        misfits.retain(|misfit| !(may_be_newer && misfit.may_be_newer));
        let sound = misfits.is_empty();
        misfits.into_iter().for_each(|misfit| self.complain(misfit.at, &misfit.path, misfit.message));
        sound
    }

    /// Whether all strings that matter are UTF-8.
    fn is_utf8(&mut self, node: &YamlNode<'_>, kind: ObjectKind) -> bool {
        let object = self.damaged.then(|| serde_json::Value::deserialize(node).ok()).flatten();
        let damage = object.and_then(|object| partial::damage(kind, &object));
        let sound = damage.is_none();
        damage.into_iter().for_each(|damage| self.complain(node.at, "", damage));
        sound
    }

    fn is_named(&mut self, node: &YamlNode<'_>, kind: ObjectKind) -> bool {
        let metadata = node.get("metadata");
        let text = |field| metadata.and_then(|metadata| metadata.get(field)).and_then(YamlNode::text);
        let name = text("name").unwrap_or_default();
        let mut faults = Vec::new();
        if name.is_empty() {
            faults.push(("metadata.name", "the name is missing: give the object one".to_owned()));
        } else {
            let fault = match kind {
                ObjectKind::Namespace => name::label_fault(name),
                ObjectKind::Pod | ObjectKind::NetworkPolicy => name::subdomain_fault(name),
            };
            faults
                .extend(fault.map(|fault| ("metadata.name", format!("`{name}` cannot be a name: {fault}"))));
        }
        match (kind, text("namespace").filter(|namespace| !namespace.is_empty())) {
            (ObjectKind::Namespace, _) | (ObjectKind::Pod | ObjectKind::NetworkPolicy, None) => {}
            (ObjectKind::Pod | ObjectKind::NetworkPolicy, Some(namespace)) => {
                let fault = name::label_fault(namespace);
                faults.extend(fault.map(|fault| {
                    ("metadata.namespace", format!("`{namespace}` cannot be a namespace's name: {fault}"))
                }));
            }
        }
        let sound = faults.is_empty();
        for (path, message) in faults {
            self.complain(node.position_of(path), path, message);
        }
        sound
    }

    fn decode<'de, T: Deserialize<'de>>(&mut self, node: &'de YamlNode<'_>) -> Option<T> {
        match T::deserialize(node) {
            Ok(written) => Some(written),
            Err(error) => {
                self.complain(node.at, "", format!("the object cannot be read: {error}"));
                None
            }
        }
    }

    /// Records where an object begins. If the text defines it twice, the last definition counts, as for kubectl, and that is reported.
    fn note(&mut self, key: ObjectKey, origin: &Origin) {
        let at = Position { line: origin.line, column: origin.column };
        match self.positions.entry(key) {
            Entry::Vacant(place) => {
                place.insert(at);
            }
            Entry::Occupied(mut place) => {
                let Position { line, column } = *place.get();
                let first = Origin { file: Arc::clone(&origin.file), line, column };
                let message = format!("{}; this one counts", duplicate(place.key(), &first));
                self.objects.replace(place.key());
                self.invalid.push(Complaint { at, path: String::new(), message });
                place.insert(at);
            }
        }
    }

    fn other(&mut self, node: &YamlNode<'_>, kind: &str, api_version: &str) {
        if !self.objects.other(&OtherObject { api_version, kind, node }) {
            *self.skipped.entry(kind.to_owned()).or_default() += 1;
        }
    }

    fn complain(&mut self, at: Position, path: &str, message: String) {
        self.problems.push(Complaint { at, path: path.to_owned(), message });
    }
}

/// The items of a list of objects. `None` if it is something else.
fn objects_in<'n, 'a>(node: &'n mut YamlNode<'a>) -> Option<&'n mut [YamlNode<'a>]> {
    let YamlValue::List(items) = &mut node.get_mut("items")?.value else { return None };
    items.iter().all(|item| matches!(item.value, YamlValue::Map(_))).then_some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn complaints(text: &str) -> String {
        parse("shop.yaml", text).unwrap_err().to_string()
    }

    fn sound(text: &str) -> Manifests {
        parse("shop.yaml", text).unwrap()
    }

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n";

    #[test]
    fn file_holds_objects_of_every_kind() {
        let manifests = sound(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {nodeName: a}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {name: web}\nwhatever: [on]\n---\n\
             apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: apps/v1\nkind: Deployment\n",
        );
        let origin = |line| Origin { file: "shop.yaml".into(), line, column: 1 };
        assert_eq!(
            manifests.namespaces.iter().map(|object| &object.origin).collect::<Vec<_>>(),
            [&origin(1)]
        );
        assert_eq!(manifests.pods.iter().map(|object| &object.origin).collect::<Vec<_>>(), [&origin(6)]);
        assert_eq!(manifests.policies.iter().map(|object| &object.origin).collect::<Vec<_>>(), [&origin(11)]);
        let written =
            manifests.pods.first().map(|pod| (&pod.written.metadata.namespace, &pod.converted.node));
        assert_eq!(written, Some((&Some("shop".to_owned()), &Some("a".into()))));
        let skipped = BTreeMap::from([("Deployment".to_owned(), 2), ("Service".to_owned(), 1)]);
        assert_eq!(manifests.skipped, skipped);
    }

    #[test]
    fn items_of_lists_are_read() {
        let manifests = sound(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n\
             - {apiVersion: v1, kind: Secret}\n---\n\
             {\"apiVersion\": \"v1\", \"kind\": \"PodList\", \"metadata\": {}, \"items\": [{\"metadata\": {\"name\": \"b\"}}]}\n---\n\
             apiVersion: v1\nkind: NamespaceList\nitems: [{metadata: {name: c}}]\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems: [{metadata: {name: d}}]\n---\n\
             apiVersion: v1\nkind: PodList\nitems: null\n",
        );
        let count = (manifests.namespaces.len(), manifests.pods.len(), manifests.policies.len());
        assert_eq!((count, manifests.skipped.len()), ((1, 2, 1), 1));
    }

    #[test]
    fn unknown_field_is_an_error_that_shows_the_line() {
        let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  ingress:\n  \
                    - from:\n    - podSelector: {}\n      namespaceselector: {}\n";
        assert_eq!(
            complaints(text),
            "shop.yaml:8:7: spec.ingress[0].from[0].namespaceselector: unknown field `namespaceselector`: \
             did you mean `namespaceSelector`?\n  8 |       namespaceselector: {}\n    |       ^"
        );
    }

    #[test]
    fn fields_of_a_newer_api_are_no_error_unless_a_policy_has_them_or_they_resemble_known_ones() {
        let newer = format!("{POD}spec: {{nodeName: a, colour: red}}\nstatus: {{moods: [good]}}\n---\n")
            + "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\nspec: {colour: red}\n";
        let manifests = sound(&newer);
        assert_eq!((manifests.pods.len(), manifests.namespaces.len()), (1, 1));
        let misspelt = complaints(&format!("{POD}spec: {{nodename: a}}\n"));
        assert!(misspelt.contains("unknown field `nodename`: did you mean `nodeName`?"), "{misspelt}");
        let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {colour: red}\n";
        assert!(complaints(policy).contains("unknown field `colour`"));
    }

    #[test]
    fn word_that_yaml_reads_as_a_boolean_is_an_error() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels:\n    canary: on\n";
        assert_eq!(
            complaints(text),
            "shop.yaml:6:13: metadata.labels[canary]: wrong type: expected a string, found the boolean `on`: quote it\n  \
             6 |     canary: on\n    |             ^"
        );
    }

    #[test]
    fn duplicate_key_is_an_error() {
        assert_eq!(
            complaints("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  name: b\n"),
            "shop.yaml:5:3: duplicate key `name`: it already stands at line 4\n  5 |   name: b\n    |   ^"
        );
    }

    #[test]
    fn last_definition_of_an_object_counts_and_both_places_are_reported() {
        let manifests = sound(&format!("{POD}---\n{POD}spec: {{nodeName: b}}\n"));
        let nodes: Vec<_> = manifests.pods.iter().map(|pod| pod.converted.node.as_deref()).collect();
        assert_eq!(nodes, [Some("b")]);
        assert_eq!(
            manifests.invalid[0].to_string(),
            "shop.yaml:5:1: duplicate object: Pod default/web already stands at shop.yaml:1: keep one of them; \
             this one counts\n  5 | apiVersion: v1\n    | ^"
        );
    }

    #[test]
    fn values_that_the_api_server_accepts_are_accepted() {
        let policy = |spec: &str| {
            let text = format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: a}}\nspec:\n{spec}"
            );
            let manifests = sound(&text);
            assert_eq!(manifests.invalid, vec![], "{spec}");
            manifests.policies.into_iter().next().unwrap().converted
        };
        let same = |one: &str, other: &str| assert_eq!(policy(one), policy(other), "{one}");
        // To Go, a blank item is an empty value: a rule that allows everything, or a port that means every TCP port.
        same("  ingress:\n  -\n", "  ingress: [{}]\n");
        same("  ingress: [{ports: [~]}]\n", "  ingress: [{ports: [{}]}]\n");
        same("  ingress: [{ports: [{port: 80.0}]}]\n", "  ingress: [{ports: [{port: 80}]}]\n");
        same("  podSelector: {matchLabels: {app: }}\n", "  podSelector: {matchLabels: {app: ''}}\n");
        let values = |values: &str| {
            format!("  podSelector: {{matchExpressions: [{{key: a, operator: In, values: [{values}]}}]}}\n")
        };
        same(&values("b, ~"), &values("b, ''"));
        let labels = sound(&format!("{POD}  \n").replace("name: web", "name: web, labels: {app: null}"));
        assert_eq!(labels.pods[0].converted.labels.get("app"), Some(""));
    }

    #[test]
    fn blank_peer_is_invalid_as_the_api_server_rejects_it() {
        let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {ingress: [{from: [~]}]}\n";
        let manifests = sound(text);
        assert_eq!(manifests.invalid.len(), 1);
        let rules = manifests.policies[0].converted.ingress.clone().unwrap();
        assert_eq!(rules[0].peers, crate::model::Peers::Listed(vec![]));
    }

    #[test]
    fn documents_are_separated_as_kubectl_does() {
        let pod = |name: &str| {
            format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}}}"#)
        };
        let (a, b, c) = (pod("a"), pod("b"), pod("c"));
        for text in [
            format!("{a}{b}{c}"),
            format!("{a}\n{b}\n\n{c}\n"),
            format!("  {a} {b}\n---\n{c}"),
            format!("\u{feff}{a}\n---\n\u{feff}{b}\n---\n{c}"),
        ] {
            let names: Vec<_> =
                sound(&text).pods.iter().map(|pod| pod.written.metadata.name.clone()).collect();
            assert_eq!(names, ["a", "b", "c"], "{text}");
        }
        let odd = b.replace("Pod", "pod");
        assert!(
            complaints(&format!("{a}\n{odd}\n")).starts_with("shop.yaml:2:"),
            "lines stay where they are"
        );
    }

    #[test]
    fn object_needs_a_kind_a_version_and_a_name() {
        for (text, expected) in [
            ("a: 1", "shop.yaml:1:1: kind: kind is missing: write `kind: NetworkPolicy` or the like"),
            (
                "kind: Pod",
                "shop.yaml:1:1: apiVersion: apiVersion is missing: write `apiVersion: v1` or the like",
            ),
            (
                "kind: NetworkPolicy",
                "shop.yaml:1:1: apiVersion: apiVersion is missing: write `apiVersion: networking.k8s.io/v1` or the like",
            ),
            (
                "{apiVersion: v1, kind: Pod}",
                "shop.yaml:1:1: metadata.name: the name is missing: give the object one",
            ),
            (
                "{apiVersion: v1, kind: Pod, metadata: {name: Web}}",
                "shop.yaml:1:46: metadata.name: `Web` cannot be a name: it must consist of lower-case letters, digits, \
                 `-` and `.`, and begin and end with a letter or digit",
            ),
            (
                "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b.c}}",
                "shop.yaml:1:60: metadata.namespace: `b.c` cannot be a namespace's name: it must consist of lower-case \
                 letters, digits and `-`, which may not stand first or last",
            ),
            ("- a", "shop.yaml:1:1: expected a Kubernetes object, found a list"),
            (
                "{kind: [], apiVersion: v1}",
                "shop.yaml:1:8: kind: wrong type: expected a string, found a list",
            ),
        ] {
            assert_eq!(complaints(text).lines().next(), Some(expected), "{text}");
        }
    }

    #[test]
    fn misspelt_kind_is_an_error_rather_than_another_kind() {
        for kind in ["Networkpolicy", "NetworkPolcy", "NetworkPolicies", "pod", "NameSpace"] {
            let complaints = complaints(&format!("{{apiVersion: v1, kind: {kind}}}"));
            assert!(
                complaints.contains(&format!("kind: unknown kind `{kind}`: did you mean `")),
                "{complaints}"
            );
        }
        let text = "kind: YamlNode\napiVersion: v1\n---\nkind: PodTemplate\napiVersion: v1\n---\n\
                    kind: AdminNetworkPolicy\napiVersion: policy.networking.k8s.io/v1alpha1\n";
        assert_eq!(sound(text).skipped.len(), 3);
        let others = "kind: SubNamespace\napiVersion: hnc.x-k8s.io/v1\n---\nkind: NameSpace\napiVersion: example.org/v1\n";
        assert_eq!(sound(others).skipped.len(), 2, "kinds of other groups are not ours");
    }

    #[test]
    fn kind_of_the_same_name_in_another_group_is_another_kind() {
        let manifests = sound("kind: NetworkPolicy\napiVersion: crd.projectcalico.org/v1\n");
        assert_eq!(manifests.skipped, BTreeMap::from([("NetworkPolicy".to_owned(), 1)]));
        for version in ["extensions/v1beta1", "networking.k8s.io/v1beta1", "networking.k8s.io"] {
            let complaints = complaints(&format!("kind: NetworkPolicy\napiVersion: {version}\n"));
            let expected = format!(
                "shop.yaml:2:13: apiVersion: unknown version `{version}`: write `networking.k8s.io/v1`"
            );
            assert_eq!(complaints.lines().next(), Some(expected.as_str()));
        }
    }

    #[test]
    fn invalid_part_is_reported_with_its_place() {
        let manifests = sound(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  ingress:\n  \
             - ports:\n    - port: 70000\n",
        );
        let invalid: Vec<_> = manifests.invalid.iter().map(ToString::to_string).collect();
        assert_eq!(invalid, {
            [
                "shop.yaml:7:13: spec.ingress[0].ports[0].port: 70000 is not a port: write a number from 1 to 65535\n  \
              7 |     - port: 70000\n    |             ^",
            ]
        });
    }

    #[test]
    fn pod_with_an_invalid_part_is_an_error() {
        assert_eq!(
            complaints(&format!("{POD}status: {{podIPs: [{{ip: 10.0.0.300}}]}}\n")),
            "shop.yaml:4:24: status.podIPs[0].ip: `10.0.0.300` is not an address: \
             write an IPv4 or IPv6 address without a prefix length\n  \
             4 | status: {podIPs: [{ip: 10.0.0.300}]}\n    |                        ^"
        );
    }

    #[test]
    fn every_problem_of_a_file_is_listed() {
        let text = format!("{POD}spec: {{nodename: a}}\n---\nkind: x\n---\na: [\n");
        let lines = parse("f", &text).unwrap_err().problems;
        let lines: Vec<_> = lines.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [4, 6, 8, 9]);
    }

    #[test]
    fn manifest_of_a_live_cluster_is_read() {
        let manifests = sound(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: null\n  generateName: web-\n  name: web-1\n  \
             annotations: {a: \"1\"}\n  ownerReferences: [{kind: ReplicaSet}]\nspec:\n  containers:\n  - name: web\n    \
             image: web:1\n    ports: [{containerPort: 80, name: http, protocol: TCP}]\n    env: [{name: A, value: \"1\"}]\n  \
             tolerations: [{operator: Exists}]\nstatus:\n  phase: Running\n  podIP: 10.0.0.1\n  podIPs: [{ip: 10.0.0.1}]\n  \
             startTime: 2026-01-01T00:00:00Z\n  hostIPs: [{ip: 192.0.2.1}]\n",
        );
        assert_eq!(manifests.pods.len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            let _ = parse("f", &text);
        }

        #[test]
        fn nothing_like_a_manifest_makes_the_reader_panic(
            parts in prop::collection::vec(prop::sample::select(vec![
                "apiVersion: v1\n", "kind: Pod\n", "kind: NetworkPolicy\n", "apiVersion: networking.k8s.io/v1\n",
                "metadata: {name: a}\n", "spec:\n", "  ingress:\n", "  - from:\n", "    - podSelector: {}\n",
                "    - ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9]}\n", "    ports: [{port: 80, endPort: 79}]\n",
                "---\n", "kind: List\n", "items:\n", "- ", "  ", "null\n", "[]", "{}", "on", "80", "status: {podIP: x}\n",
            ]), 0..40),
        ) {
            let problems = parse("f", &parts.concat()).err().map(|error| error.problems).unwrap_or_default();
            // What the schema accepts can be decoded.
            prop_assert!(problems.iter().all(|problem| !problem.message.contains("the object cannot be read")));
        }
    }
}
