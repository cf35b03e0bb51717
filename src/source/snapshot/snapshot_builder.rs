//! Puts objects together to a snapshot, whether they come from files or from an API server.

use super::SnapshotInput;
use super::workloads::WorkloadPods;
use crate::api;
use crate::model::{
    AuditLabel, NAMESPACE_NAME_LABEL, Namespace, NamespaceName, NamespaceScope, Peer, Peers, Pod, Policy,
    PolicyOrigin, Service, Snapshot, audit_label_note,
};
use crate::source::convert;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A snapshot that is being put together.
#[derive(Debug, Default)]
pub(super) struct SnapshotBuilder {
    pub(super) snapshot: Snapshot,
    pub(super) workloads: WorkloadPods,
    pub(super) warnings: Vec<String>,
    pub(super) skipped: BTreeMap<String, usize>,
}

impl SnapshotBuilder {
    pub(super) fn namespace(&mut self, namespace: Namespace) {
        self.snapshot.namespaces.insert(namespace.name.clone(), namespace);
    }

    /// A pod, as it is written and as it is converted. One on its node's network shows an address of the node.
    pub(super) fn pod(&mut self, written: &api::Pod, pod: Pod) {
        if let Some(node) = &pod.node {
            let known = self.snapshot.nodes.entry(node.clone()).or_default();
            if !pod.networked {
                let listed = written.status.pod_ips.iter().map(|pod_ip| &pod_ip.ip);
                let addresses = listed.chain(&written.status.pod_ip).filter_map(|text| text.parse().ok());
                addresses.for_each(|address| add(known, address));
            }
        }
        self.snapshot.pods.insert(pod.key.clone(), pod);
    }

    pub(super) fn policy(&mut self, policy: Policy, origin: Option<PolicyOrigin>) {
        if let Some(origin) = origin {
            self.snapshot.origins.insert(policy.key.clone(), origin);
        }
        self.snapshot.policies.insert(policy.key.clone(), policy);
    }

    pub(super) fn service(&mut self, service: Service) {
        self.snapshot.services.insert(service.key.clone(), service);
    }

    pub(super) fn node(&mut self, node: &api::Node) {
        let known = self.snapshot.nodes.entry(node.metadata.name.as_str().into()).or_default();
        // A node speaks to pods by its internal address.
        let (internal, others): (Vec<_>, Vec<_>) =
            node.status.addresses.iter().partition(|listed| listed.address_type == "InternalIP");
        let listed = internal.into_iter().chain(others);
        listed.filter_map(|listed| listed.address.parse().ok()).for_each(|address| add(known, address));
    }

    /// The whole snapshot: with a pod for each workload that has none, and with the namespaces that only other objects name.
    pub(super) fn finish(self) -> SnapshotInput {
        let SnapshotBuilder { mut snapshot, workloads, mut warnings, skipped } = self;
        let (stand_ins, notes) = workloads.without_pods(snapshot.pods.values());
        warnings.extend(notes);
        for pod in stand_ins {
            snapshot.pods.insert(pod.key.clone(), pod);
        }
        warnings.extend(unknown_labels(&snapshot));
        let of_pods = snapshot.pods.keys().map(|key| &key.namespace);
        let named = of_pods.chain(snapshot.policies.keys().map(|key| &key.namespace));
        for name in named {
            if !snapshot.namespaces.contains_key(name) {
                snapshot.namespaces.insert(name.clone(), convert::implied_namespace(name));
            }
        }
        warnings.extend(audit_notes(&snapshot));
        for (kind, count) in skipped.iter().filter(|(kind, _)| kind.contains("NetworkPolic")) {
            warnings.push(format!(
                "{count} {kind} not read: only NetworkPolicy of networking.k8s.io/v1 is enforced"
            ));
        }
        SnapshotInput { snapshot, warnings, skipped }
    }
}

/// Says of which namespaces no object was read, if a policy asks for their labels.
fn unknown_labels(snapshot: &Snapshot) -> Option<String> {
    const FEW: usize = 5;
    let asks = |peer: &Peer| match peer {
        Peer::Pods { namespaces: NamespaceScope::Matching(selector), .. } => {
            selector.requirements().any(|requirement| &*requirement.key != NAMESPACE_NAME_LABEL)
        }
        Peer::Pods { namespaces: NamespaceScope::Own, .. } | Peer::Block(_) => false,
    };
    let rules =
        snapshot.policies.values().flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
    let is_asked = rules.into_iter().any(|rule| match &rule.peers {
        Peers::Anywhere => false,
        Peers::Listed(peers) => peers.iter().any(asks),
    });
    let namespaces: BTreeSet<&NamespaceName> = snapshot.pods.keys().map(|key| &key.namespace).collect();
    let unknown: Vec<&str> = namespaces
        .into_iter()
        .filter(|name| !snapshot.namespaces.contains_key(*name))
        .map(NamespaceName::as_str)
        .collect();
    (is_asked && !unknown.is_empty()).then(|| {
        let more = unknown.len().saturating_sub(FEW);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "no object of namespace {}{more} was read: the only label that it is known to have is {NAMESPACE_NAME_LABEL}, and policies \
             select namespaces by others",
            unknown[..unknown.len().min(FEW)].join(", ")
        )
    })
}

/// Which labels for audit mode are not understood.
fn audit_notes(snapshot: &Snapshot) -> Vec<String> {
    let of_policies =
        snapshot.policies.iter().map(|(key, policy)| ("policy", key.to_string(), policy.audit.clone()));
    let of_namespaces = snapshot
        .namespaces
        .iter()
        .map(|(name, namespace)| ("namespace", name.to_string(), AuditLabel::of(&namespace.labels)));
    let notes = of_policies.chain(of_namespaces).filter_map(|(owner, name, label)| match label {
        AuditLabel::NotUnderstood(value) => {
            Some(format!("{owner} {name}: {}", audit_label_note(owner, &value)))
        }
        AuditLabel::Enforced | AuditLabel::Audited => None,
    });
    notes.collect()
}

fn add(known: &mut Vec<IpAddr>, address: IpAddr) {
    let address = address.to_canonical();
    if !known.contains(&address) {
        known.push(address);
    }
}
