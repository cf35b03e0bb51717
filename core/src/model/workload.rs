//! The workload of a pod: what people know it by, when its own name changes with every roll-out.

use super::{NamespaceName, Pod};
use std::fmt;

/// The label that a Deployment puts on its ReplicaSets and their pods; the ReplicaSet's name ends with its value.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What makes a pod: the first of its owners that nothing else owns, or the pod itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its kind, such as `Deployment`; `Pod` for a pod that nothing else made.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

impl Workload {
    /// The workload of a pod, as its owner and labels show.
    ///
    /// A ReplicaSet whose name ends with the pod's `pod-template-hash` is a Deployment's. A Job whose name ends with a time in
    /// minutes, as a CronJob names its Jobs, is a CronJob's. A static pod, which its node owns, is its own workload.
    pub fn of(pod: &Pod) -> Workload {
        let namespace = pod.key.namespace.clone();
        let Some(owner) = pod.owner.as_deref().filter(|owner| *owner.kind != *"Node") else {
            return Workload { namespace, kind: "Pod".into(), name: (&*pod.key.name).into() };
        };
        let above = match &*owner.kind {
            "ReplicaSet" => {
                let hash = pod.labels.get(TEMPLATE_HASH).filter(|hash| !hash.is_empty());
                let name = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
                name.map(|name| ("Deployment", name))
            }
            "Job" => {
                let scheduled = owner.name.rsplit_once('-').filter(|(_, time)| is_minutes(time));
                scheduled.map(|(name, _)| ("CronJob", name))
            }
            _ => None,
        };
        let (kind, name) = above.unwrap_or((&owner.kind, &owner.name));
        Workload { namespace, kind: kind.into(), name: name.into() }
    }
}

/// Whether a word is a time in minutes since 1970, between 1989 and 2160.
fn is_minutes(word: &str) -> bool {
    word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_digit()) && !word.starts_with('0')
}

impl fmt::Display for Workload {
    /// `shop/deployment/web`; `shop/web` for a pod.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload { namespace, kind, name } = self;
        if **kind == *"Pod" {
            write!(f, "{namespace}/{name}")
        } else {
            write!(f, "{namespace}/{}/{name}", kind.to_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, Owner, PodKey};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn workload(owner: Option<(&str, &str)>, hash: &str) -> String {
        let labels = BTreeMap::from([(TEMPLATE_HASH.to_owned(), hash.to_owned())]);
        let owner = owner.map(|(kind, name)| Arc::new(Owner { kind: kind.into(), name: name.into() }));
        let pod =
            Pod { labels: Labels::new(&labels), owner, ..Pod::new(PodKey::new("shop", "web-5d9c-x7k")) };
        Workload::of(&pod).to_string()
    }

    #[test]
    fn workload_of_a_pod_is_its_topmost_owner() {
        for (owner, hash, expected) in [
            (None, "", "shop/web-5d9c-x7k"),
            (Some(("Node", "node-a")), "", "shop/web-5d9c-x7k"),
            (Some(("ReplicaSet", "web-5d9c")), "5d9c", "shop/deployment/web"),
            (Some(("ReplicaSet", "web-5d9c")), "77aa", "shop/replicaset/web-5d9c"),
            (Some(("ReplicaSet", "web-5d9c")), "", "shop/replicaset/web-5d9c"),
            (Some(("StatefulSet", "web-5d9c")), "5d9c", "shop/statefulset/web-5d9c"),
            (Some(("Job", "nightly-29012345")), "", "shop/cronjob/nightly"),
            (Some(("Job", "import-2024")), "", "shop/job/import-2024"),
        ] {
            assert_eq!(workload(owner, hash), expected, "{owner:?}");
        }
    }
}
