//! Pods of this node whose objects cannot be understood: each is given a sandbox with the addresses that its object states.

use crate::model::{Cluster, PodKey, Sandbox, SandboxKey, Touched, UnreadablePod};
use std::time::Duration;

/// The name of the sandbox of a pod whose object cannot be understood; no CNI result has this name.
pub(super) const BY_ITS_OBJECT: &str = "unreadable object";

impl Cluster {
    /// Discards everything that was known of the pod. If it may be on this node, an unknown sandbox gets its addresses.
    /// It counts as older than any other, so the object of a known pod takes precedence.
    pub(in crate::model::cluster) fn set_unreadable_pod(
        &mut self,
        pod: UnreadablePod,
        touched: &mut Touched,
    ) {
        self.replace_stranger(&pod.key, None, touched);
        let may_be_here = pod.node.as_ref().is_none_or(|node| *node == self.node);
        if !may_be_here || pod.addresses.is_empty() {
            return self.end_unreadable(&pod.key, touched);
        }
        let UnreadablePod { key, addresses, .. } = pod;
        self.residents.unreadable.insert(key.clone());
        let key = SandboxKey::new(key, BY_ITS_OBJECT);
        self.set_sandbox(
            Sandbox { key, uid: None, addresses, made: Duration::ZERO, devices: Vec::new(), hardware: None },
            touched,
        );
    }

    pub(super) fn end_unreadable(&mut self, key: &PodKey, touched: &mut Touched) {
        if !self.residents.unreadable.is_empty() && self.residents.unreadable.remove(key) {
            self.remove_sandbox(&SandboxKey::new(key.clone(), BY_ITS_OBJECT), touched);
        }
    }
}
