//! What is known, in parts of bounded size: who reads all of a large cluster does not keep the main loop for long.

use super::Cluster;
use crate::model::{Namespace, NamespaceName, Pod};
use std::ops::Bound;

/// Some of the pods that have an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsPart {
    /// The pods, in no order. Of pods of other nodes, the node is not known here; of no pod is the uid.
    pub pods: Vec<Pod>,
    /// Where the next part begins; `None` if this is the last.
    pub next: Option<u32>,
}

impl Cluster {
    /// A part of the pods that have an address, from a place on: 0, or the `next` of another part. A pod that stays between two parts
    /// is in exactly one of them.
    pub fn pods_part(&self, first: u32, most: usize) -> PodsPart {
        let (states, next) = self.pods.part(first, most);
        let pods = states.filter_map(|state| {
            let finished = self.pods.group_of(state).is_some_and(|group| !group.peers);
            let node = state.is_local().then(|| self.node.clone());
            Some(Pod { node, finished, ..self.pods.reported(state)? })
        });
        PodsPart { pods: pods.collect(), next }
    }

    /// The namespaces behind this one, or from the first on, in the order of their names, each with the labels by which it is
    /// selected. Those of which no labels are known are left out.
    pub fn namespaces_after(&self, name: Option<&NamespaceName>) -> impl Iterator<Item = Namespace> {
        let after = name.map_or(Bound::Unbounded, Bound::Excluded);
        let states = self.namespaces.range::<NamespaceName, _>((after, Bound::Unbounded));
        states.filter_map(|(name, state)| {
            let labels = state.labels.as_ref().or(state.last_labels.as_ref())?.clone();
            Some(Namespace { name: name.clone(), labels, terminating: state.is_ending() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Labels, PodKey};
    use std::collections::BTreeSet;

    fn pod(number: u8) -> Pod {
        let node = if number.is_multiple_of(2) { "node-a" } else { "node-b" };
        Pod {
            node: Some(node.into()),
            addresses: vec![[10, 244, 1, number].into()],
            ..Pod::new(PodKey::new("shop", &format!("web-{number}")))
        }
    }

    #[test]
    fn parts_together_are_all_pods_and_each_is_small() {
        let mut cluster = Cluster::new("node-a");
        (0..10).for_each(|number| drop(cluster.apply(Change::Pod(pod(number)))));
        cluster.apply(Change::PodGone(pod(3).key));
        let (mut found, mut first) = (Vec::new(), Some(0));
        while let Some(from) = first {
            let part = cluster.pods_part(from, 4);
            assert!(part.pods.len() <= 4);
            found.extend(part.pods);
            first = part.next;
        }
        let keys: BTreeSet<PodKey> = found.iter().map(|pod| pod.key.clone()).collect();
        assert_eq!((found.len(), keys.len()), (9, 9));
        for own in found {
            let number: u8 = own.key.name.rsplit('-').next().unwrap().parse().unwrap();
            let node = pod(number).node.filter(|node| **node == *"node-a");
            assert_eq!(own, Pod { node, ..pod(number) });
        }
        assert_eq!(cluster.pods_part(1000, 4), PodsPart::default());
    }

    #[test]
    fn namespaces_come_with_the_labels_by_which_they_are_selected() {
        let mut cluster = Cluster::new("node-a");
        for name in ["data", "shop", "web"] {
            let name = NamespaceName::new(name);
            let labels = Labels::of_unknown_namespace(&name);
            cluster.apply(Change::Namespace(Namespace { name, labels, terminating: false }));
        }
        cluster.apply(Change::NamespaceUnreadable(NamespaceName::new("odd")));
        let names = |after: Option<&str>| -> Vec<String> {
            let after = after.map(NamespaceName::new);
            cluster.namespaces_after(after.as_ref()).map(|own| own.name.to_string()).collect()
        };
        assert_eq!(names(None), ["data", "shop", "web"]);
        assert_eq!(names(Some("data")), ["shop", "web"]);
        assert_eq!(names(Some("web")), Vec::<String>::new());
    }
}
