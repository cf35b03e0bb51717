//! Which addresses the pods of this node have, and what may come and go by their ports.

use super::Plan;
use crate::compile::{Placement, PortBinding, Subject, port_binding};
use crate::model::{Cluster, NamespaceName};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Plan {
    pub(super) fn reconcile_addresses(&mut self, cluster: &Cluster, subject: &Subject) {
        let new = match subject {
            Subject::Pod(pod) => {
                let here = cluster.pod(pod).filter(|_| cluster.is_local(pod));
                here.map(|(addresses, _)| addresses.to_vec()).unwrap_or_default()
            }
            Subject::Unknown(sandbox) => cluster.addresses_of_unknown(sandbox).to_vec(),
        };
        let old = self.locals.of(subject).to_vec();
        if old == new {
            return;
        }
        let changed: BTreeSet<IpAddr> = old.iter().chain(&new).copied().collect();
        let before: Vec<_> = changed
            .into_iter()
            .map(|address| (address, self.locals.is_local(address), self.placement(address)))
            .collect();
        self.locals.set(subject, new);
        for (address, was_local, was) in before {
            let is_local = self.locals.is_local(address);
            if was_local != is_local && self.pending.local.remove(&address).is_none() {
                self.pending.local.insert(address, is_local);
            }
            self.note_placement(address, was);
        }
    }

    fn note_placement(&mut self, address: IpAddr, was: Placement) {
        let is = self.placement(address);
        if is == was {
            return;
        }
        let first = *self.pending.places.entry(address).or_insert(was);
        if first == is {
            self.pending.places.remove(&address);
        }
    }

    pub(super) fn ports_in(&self, cluster: &Cluster, namespaces: &BTreeSet<NamespaceName>) -> Vec<u32> {
        let ports = cluster.ports().map(|port| port.index);
        let is_in = |port: &u32| {
            cluster.sandbox_at(*port).is_some_and(|sandbox| namespaces.contains(&sandbox.key.pod.namespace))
        };
        ports.filter(is_in).collect()
    }

    pub(super) fn reconcile_port(&mut self, cluster: &Cluster, port: u32) {
        let new = port_binding(cluster, port, self.unknown_pods, |subject| self.isolations.get(subject));
        let old = self.ports.get(&port).cloned();
        if old == new {
            return;
        }
        let addresses = |binding: &Option<PortBinding>| match binding {
            Some(PortBinding::Bound(bound)) => bound.addresses.clone(),
            Some(PortBinding::Unbound) | None => BTreeSet::new(),
        };
        let (was, is) = (addresses(&old), addresses(&new));
        let before: Vec<_> = was.union(&is).map(|address| (*address, self.placement(*address))).collect();
        self.locals.bind(&was, &is);
        before.into_iter().for_each(|(address, was)| self.note_placement(address, was));
        match new.clone() {
            Some(binding) => self.ports.insert(port, binding),
            None => self.ports.remove(&port),
        };
        if *self.pending.ports.entry(port).or_insert(old) == new {
            self.pending.ports.remove(&port);
        }
    }
}
