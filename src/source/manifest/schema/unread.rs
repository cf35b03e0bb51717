//! Drops the parts of objects that are not read, so that a long list of objects takes the memory of what is read of them.

use super::{Shape, of};
use crate::source::convert::object_kind::ObjectKind;
use crate::source::manifest::tree::{YamlNode, YamlValue};

/// Removes all fields of an object whose values may be anything. Other kinds stay as they are.
pub(in crate::source::manifest) fn drop_unread(node: &mut YamlNode<'_>) {
    let is = |field: &str, word: &str| node.get(field).and_then(YamlNode::text) == Some(word);
    let known = ObjectKind::ALL
        .into_iter()
        .find(|kind| is("kind", kind.name()) && is("apiVersion", kind.api_version()));
    if let Some(kind) = known {
        drop_anything(node, of(kind));
    }
}

fn drop_anything(node: &mut YamlNode<'_>, shape: Shape) {
    if let (Shape::List(shape), YamlValue::List(items)) = (shape, &mut node.value) {
        if matches!(shape, Shape::Any) {
            *items = Vec::new();
        }
        items.iter_mut().for_each(|item| drop_anything(item, *shape));
    } else if let (Shape::Object(fields), YamlValue::Map(entries)) = (shape, &mut node.value) {
        entries.retain_mut(|entry| {
            let field = fields.binary_search_by(|field| field.name.cmp(&entry.key));
            match field.ok().and_then(|index| fields.get(index)).map(|field| field.shape) {
                Some(Shape::Any) => return false,
                Some(shape) => drop_anything(&mut entry.value, shape),
                // It is reported, or belongs to a newer API.
                None => {}
            }
            true
        });
        entries.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifest::schema::check;
    use crate::source::manifest::yaml::Documents;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, managedFields: [{manager: kubectl}], labels: {app: web}}
spec:
  afinity: {}
  affinity: {nodeAffinity: {}}
  containers: [{name: web, env: [{name: A, value: a}], resources: {}, ports: [{containerPort: 80}]}]
status: {podIP: 10.0.0.1, conditions: 1}
";

    fn node(text: &str) -> YamlNode<'_> {
        Documents::new(text).next().unwrap().unwrap()
    }

    #[test]
    fn what_is_read_stays_with_its_place_and_what_is_wrong_is_found_as_before() {
        let (mut pod, whole) = (node(POD), of(ObjectKind::Pod));
        let before = check(&pod, whole);
        assert_eq!(before.len(), 2);
        let at = pod.position_of("spec.containers[0].ports[0].containerPort");
        drop_unread(&mut pod);
        assert_eq!(check(&pod, whole), before);
        assert_eq!(pod.position_of("spec.containers[0].ports[0].containerPort"), at);
        let text = format!("{pod:?}");
        for kept in ["\"web\"", "\"app\"", "\"80\"", "\"10.0.0.1\"", "\"managedFields\"", "\"afinity\""] {
            assert!(text.contains(kept), "{kept}");
        }
        for dropped in ["kubectl", "nodeAffinity", "\"A\"", "\"resources\""] {
            assert!(!text.contains(dropped), "{dropped}");
        }
    }

    #[test]
    fn object_of_another_kind_or_version_stays_whole() {
        for text in [POD.replace("Pod", "Deployment"), POD.replace("v1", "v2")] {
            let mut other = node(&text);
            drop_unread(&mut other);
            assert_eq!(other, node(&text));
        }
    }
}
