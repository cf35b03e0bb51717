//! Checks whether any pod is on this node; if there is none, the node's name may be wrong.

use crate::model::Change;

/// Whether pods name this node. In a cluster, at least the agent's own pod does.
pub(super) struct OwnNode {
    pub(super) name: String,
    pub(super) has_pods: bool,
    pub(super) others: bool,
}

impl OwnNode {
    /// Applies changes of pods. Returns whether they contain the first pod on this node.
    pub(super) fn take_in(&mut self, changes: &[Change]) -> bool {
        if self.has_pods {
            return false;
        }
        for change in changes {
            let node = match change {
                Change::Pod(pod) => &pod.node,
                Change::PodUnreadable(pod) => &pod.node,
                Change::PodGone(_)
                | Change::Namespace(_)
                | Change::NamespaceUnreadable(_)
                | Change::NamespaceGone(_)
                | Change::Policy(_)
                | Change::PolicyGone(_)
                | Change::Sandbox(_)
                | Change::SandboxGone(_)
                | Change::Link(_) => continue,
            };
            self.others |= node.is_some();
            self.has_pods |= node.as_deref() == Some(&*self.name);
        }
        self.has_pods
    }

    /// What is wrong, once all pods were listed.
    pub(super) fn doubt(&self) -> Option<String> {
        (self.others && !self.has_pods).then(|| {
            let name = &self.name;
            format!("no pod of the cluster is on a node `{name}`: --node-name must be as in spec.nodeName of pods, or no pod is isolated")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PodKey, UnreadablePod};

    #[test]
    fn node_without_pods_is_reported_until_it_has_one() {
        let on = |node: &str| {
            let key = PodKey::new("shop", node);
            Change::PodUnreadable(UnreadablePod { key, node: Some(node.into()), addresses: vec![] })
        };
        let mut own = OwnNode { name: "node-a".to_owned(), has_pods: false, others: false };
        assert_eq!((own.take_in(&[]), own.doubt()), (false, None), "an empty cluster proves nothing");
        assert!(!own.take_in(&[on("node-b")]) && own.doubt().unwrap().contains("`node-a`"));
        assert!(own.take_in(&[on("node-a")]) && own.doubt().is_none());
        assert!(!own.take_in(&[on("node-a")]), "it is found once");
    }
}
