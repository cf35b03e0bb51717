//! Pods come, change their ports, and go.

use super::addressing::{Admission, NodeNets};
use super::names::claim;
use super::town::{self, Site};
use super::wire::{Wire, Work};
use super::{Attached, Endpoint, Place, Pod, Port, Testbed, TestbedError};
use crate::model::PodKey;
use std::collections::BTreeMap;

/// From how many entries on neighbours are told instead of left to find each other.
///
/// A kernel remembers 1024 learned neighbours of a family over all namespaces together (gc_thresh3, a setting of the
/// host's); in a full mesh each pod learns every other on its bridge. Half is left to others.
const MOST_LEARNED: usize = 512;

impl Testbed {
    /// Adds a pod, as `add_pods` does.
    pub fn add_pod(&mut self, place: &Place) -> Result<(), TestbedError> {
        self.add_pods(std::slice::from_ref(place))
    }

    /// Adds pods, all or none. Pods that could not be added leave nothing but the CIDRs they gave their nodes.
    pub fn add_pods(&mut self, places: &[Place]) -> Result<(), TestbedError> {
        let mut added = Vec::new();
        let done = self.try_add(places, &mut added);
        if done.is_err() {
            for pod in added {
                if let Err(error) = self.remove_pod(&pod) {
                    tracing::warn!(%error, "a pod that could not be added is not wholly removed");
                }
            }
        }
        done
    }

    /// Removes a pod with its namespace, link and listeners. Its node keeps its CIDRs.
    pub fn remove_pod(&mut self, pod: &PodKey) -> Result<(), TestbedError> {
        let who = Endpoint::Pod(pod.clone());
        let gone = self.pods.remove(pod).ok_or_else(|| TestbedError::Unknown(who.clone()))?;
        self.addressing.dismiss(pod);
        self.prober.ledger.forget(&who);
        self.prober.silence(&who);
        let forgotten = self.results.remove(&gone.place);
        let Some(own) = gone.own else { return forgotten };
        // The kernel frees a namespace when it likes; the address must not answer until then.
        let unlinked = match self.nodes.get(&gone.place.node) {
            Some(node) => {
                let wire = node.site.wire.clone();
                self.prober.worker.run(async move { wire.remove(own.link).await })
            }
            None => Ok(()),
        };
        self.names.remove(own.namespace.name());
        own.namespace.remove().and(unlinked).and(forgotten)
    }

    /// Makes a pod listen on these ports and no others. Ports it keeps are not interrupted.
    pub fn set_listens(&mut self, pod: &PodKey, ports: &[Port]) -> Result<(), TestbedError> {
        self.serve(&Endpoint::Pod(pod.clone()), ports)?;
        if let Some(pod) = self.pods.get_mut(pod) {
            pod.place.listens = ports.to_vec();
        }
        Ok(())
    }

    fn try_add(&mut self, places: &[Place], added: &mut Vec<PodKey>) -> Result<(), TestbedError> {
        let mut wires = Vec::new();
        for place in places {
            if self.pods.contains_key(&place.pod) {
                return Err(TestbedError::Layout {
                    object: format!("pod {}", place.pod),
                    problem: "it is in the testbed already".to_owned(),
                    cure: "List each pod once, or remove it before it is added again",
                });
            }
            let admission = self.addressing.admit(place)?;
            added.push(place.pod.clone());
            self.pods.insert(place.pod.clone(), Pod { place: place.clone(), own: None });
            self.extend_node(&place.node, admission)?;
            if !place.host_network {
                wires.push(self.attach(place)?);
            }
        }
        self.prober.worker.run(async move {
            for wire in wires {
                wire.wait(Work::Addresses).await?;
            }
            Ok::<(), TestbedError>(())
        })?;
        self.introduce()?;
        places.iter().try_for_each(|place| self.serve(&Endpoint::Pod(place.pod.clone()), &place.listens))
    }

    /// Gives a node what a pod brought along, and lets it and its host-network pods listen there.
    fn extend_node(&mut self, name: &str, admission: Admission) -> Result<(), TestbedError> {
        if admission == Admission::default() {
            return Ok(());
        }
        let (node, nets) = self.node(name)?;
        let router = self.router.clone();
        self.prober.worker.run(async move { town::extend_node(&router, &node, &nets, &admission).await })?;
        let here = |pod: &&Pod| pod.place.host_network && pod.place.node == name;
        let pods = self.pods.values().filter(here).map(|pod| Endpoint::Pod(pod.place.pod.clone()));
        let listeners: Vec<Endpoint> = std::iter::once(Endpoint::node(name)).chain(pods).collect();
        listeners.iter().try_for_each(|who| self.serve_again(who))
    }

    fn attach(&mut self, place: &Place) -> Result<Wire, TestbedError> {
        let (node, nets) = self.node(&place.node)?;
        let wanted = format!("bw-{}-pod-{}-{}", self.id, place.pod.namespace, place.pod.name);
        let name = claim(&mut self.names, &wanted);
        let title = name.clone();
        let created =
            self.prober.worker.run(async move { Site::create(&title, &town::host_sysctls()).await });
        let pod = created.inspect_err(|_| {
            self.names.remove(&name);
        })?;
        let link = self.next_link(&place.node);
        if let Some(entry) = self.pods.get_mut(&place.pod) {
            entry.own = Some(Attached { namespace: pod.namespace.clone(), link });
        }
        let wire = pod.wire.clone();
        let joined = place.clone();
        self.prober.worker.run(async move { town::attach_pod(&node, &pod, &joined, &nets, link).await })?;
        self.results.write(place, &town::device(place), town::hardware(place))?;
        Ok(wire)
    }

    /// Tells the pods of each node each other's hardware addresses, if they are more than the kernel would remember.
    fn introduce(&self) -> Result<(), TestbedError> {
        let mut bridges = BTreeMap::<&str, Vec<&Pod>>::new();
        for pod in self.pods.values().filter(|pod| pod.own.is_some()) {
            bridges.entry(&pod.place.node).or_default().push(pod);
        }
        if bridges.values().map(|pods| pods.len() * pods.len()).sum::<usize>() <= MOST_LEARNED {
            return Ok(());
        }
        for pods in bridges.into_values() {
            let places: Vec<Place> = pods.iter().map(|pod| pod.place.clone()).collect();
            let namespaces: Vec<_> =
                pods.iter().filter_map(|pod| Some(pod.own.as_ref()?.namespace.clone())).collect();
            self.prober.worker.run(async move {
                for (own, namespace) in namespaces.iter().enumerate() {
                    let others = places.iter().enumerate().filter(|(place, _)| *place != own);
                    let others: Vec<&Place> = others.map(|(_, place)| place).collect();
                    town::introduce(&Wire::open(namespace)?, &others).await?;
                }
                Ok::<(), TestbedError>(())
            })?;
        }
        Ok(())
    }

    fn node(&self, name: &str) -> Result<(Site, NodeNets), TestbedError> {
        let found = self.nodes.get(name).zip(self.addressing.node(name));
        let (node, nets) = found.ok_or_else(|| TestbedError::Unknown(Endpoint::node(name)))?;
        Ok((node.site.clone(), nets.clone()))
    }

    fn next_link(&mut self, node: &str) -> u32 {
        self.nodes.get_mut(node).map_or(town::FIRST_POD_LINK, |node| {
            node.next_link += 1;
            node.next_link - 1
        })
    }
}
