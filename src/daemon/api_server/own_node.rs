//! The pods of this node: if there are none, its name may be wrong; one that cannot be read is reported by its own node.

use crate::daemon::events::unreadable_warning;
use crate::model::Change;
use crate::observe::Warning;
use crate::source::UnreadableObject;

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

    /// The warning about an object that cannot be read, if it is a pod of this node. Where a pod's node cannot be read, it may be any
    /// node's, and each would write one.
    pub(super) fn unreadable(&self, object: &UnreadableObject, consequence: &str) -> Option<Warning> {
        let pod = object.pod.as_ref().filter(|pod| pod.node.as_deref() == Some(&*self.name))?;
        Some(unreadable_warning(pod, &object.fault, consequence))
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
    fn pod_that_cannot_be_read_is_reported_by_its_own_node_alone() {
        let own = OwnNode { name: "node-a".to_owned(), has_pods: false, others: false };
        let on = |node: Option<&str>| {
            let pod = UnreadablePod {
                key: PodKey::new("shop", "odd"),
                uid: Some("7".into()),
                node: node.map(Into::into),
                addresses: vec![],
            };
            let (object, fault) = ("Pod shop/odd".to_owned(), "status.podIPs[0].ip: no address".to_owned());
            own.unreadable(&UnreadableObject { object, fault, pod: Some(pod) }, "it is nobody's peer")
        };
        let warning = on(Some("node-a")).expect("a warning");
        assert_eq!((&*warning.namespace, &*warning.name, warning.uid.as_deref()), ("shop", "odd", Some("7")));
        assert_eq!(warning.reason, "PodNotUnderstood");
        assert!(
            warning.note.contains("status.podIPs[0].ip: no address; it is nobody's peer"),
            "{}",
            warning.note
        );
        assert_eq!([on(Some("node-b")), on(None)], [None, None]);
    }

    #[test]
    fn node_without_pods_is_reported_until_it_has_one() {
        let on = |node: &str| {
            let key = PodKey::new("shop", node);
            Change::PodUnreadable(UnreadablePod {
                key,
                uid: None,
                node: Some(node.into()),
                addresses: vec![],
            })
        };
        let mut own = OwnNode { name: "node-a".to_owned(), has_pods: false, others: false };
        assert_eq!((own.take_in(&[]), own.doubt()), (false, None), "an empty cluster proves nothing");
        assert!(!own.take_in(&[on("node-b")]) && own.doubt().unwrap().contains("`node-a`"));
        assert!(own.take_in(&[on("node-a")]) && own.doubt().is_none());
        assert!(!own.take_in(&[on("node-a")]), "it is found once");
    }
}
