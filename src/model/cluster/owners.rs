//! What made the pods, kept so that thousands of them cost little.

use crate::model::{Finder, Owner};
use std::sync::Arc;

/// The owners of all pods, each kept once however many pods it has.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(Finder<Arc<Owner>>);

impl Owners {
    /// The kept one that is equal to this.
    pub(super) fn share(&mut self, owner: Arc<Owner>) -> Arc<Owner> {
        if let Some(kept) = self.0.get(&owner, |kept| *kept == owner) {
            return Arc::clone(kept);
        }
        self.0.insert(&owner, Arc::clone(&owner));
        owner
    }

    /// A pod has no use for it any longer; without another that has, it goes.
    pub(super) fn release(&mut self, owner: Arc<Owner>) {
        // One is `owner`, the other is kept here.
        if Arc::strong_count(&owner) <= 2 {
            self.0.remove(&owner, |kept| *kept == owner);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Cluster, Labels, Pod, PodKey};

    fn owner(name: &str) -> Arc<Owner> {
        Arc::new(Owner { kind: "ReplicaSet".into(), name: name.into() })
    }

    #[test]
    fn owner_of_many_pods_is_kept_once_and_no_longer_than_the_last_of_them() {
        let mut owners = Owners::default();
        let (first, second) = (owners.share(owner("web")), owners.share(owner("web")));
        assert!(Arc::ptr_eq(&first, &second));
        owners.release(first);
        let third = owners.share(owner("web"));
        assert!(Arc::ptr_eq(&second, &third));
        owners.release(second);
        owners.release(third);
        assert_eq!(owners.len(), 0);
    }

    #[test]
    fn owner_that_changes_touches_nothing_and_is_forgotten_with_its_last_pod() {
        let mut cluster = Cluster::new("node-a");
        let key = PodKey::new("shop", "web");
        for node in ["node-a", "node-b"] {
            let pod = |owner: Option<Arc<Owner>>| {
                Change::Pod(Pod {
                    key: key.clone(),
                    uid: None,
                    node: Some(node.into()),
                    owner,
                    labels: Labels::default(),
                    ports: Vec::new(),
                    networked: true,
                    addresses: vec![[10, 244, 1, 10].into()],
                })
            };
            cluster.apply(pod(None));
            for name in ["web-1", "web-2"] {
                assert!(cluster.apply(pod(Some(owner(name)))).is_empty());
                let told = cluster.owner_of(&key).map(ToString::to_string);
                assert_eq!(told, Some(format!("ReplicaSet/{name}")));
                assert_eq!(cluster.pods.owners.len(), 1);
            }
            cluster.apply(Change::PodGone(key.clone()));
            assert_eq!((cluster.owner_of(&key), cluster.pods.owners.len()), (None, 0));
        }
    }
}
