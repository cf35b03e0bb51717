//! Adding, changing and removing pods.

use super::addressing::{NodeAdditions, NodeNets};
use super::links::{NetnsLinks, WaitFor};
use super::names::claim;
use super::topology::{self, NetnsHandle};
use super::{Endpoint, PodNetns, PodPlacement, Port, TestPod, Testbed, TestbedError};
use crate::model::PodKey;
use std::collections::BTreeMap;

/// From this many entries on, neighbour entries are added instead of being learned.
///
/// A kernel keeps 1024 learned neighbours of a family in all namespaces together (gc_thresh3, a setting of the host).
/// In a full mesh each pod learns every other pod on its bridge. Half of the entries are left to other programs.
const MOST_LEARNED: usize = 512;

impl Testbed {
    /// Adds a pod, as `add_pods` does.
    pub fn add_pod(&mut self, place: &PodPlacement) -> Result<(), TestbedError> {
        self.add_pods(std::slice::from_ref(place))
    }

    /// Adds all pods or none. Pods that could not be added leave only the CIDRs that they added to their nodes.
    pub fn add_pods(&mut self, places: &[PodPlacement]) -> Result<(), TestbedError> {
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
        self.prober.received.forget(&who);
        self.prober.stop_listening(&who);
        let forgotten = self.results.remove(&gone.place);
        let Some(own) = gone.own else { return forgotten };
        // The kernel frees a namespace some time later; the address must not answer until then.
        let unlinked = match self.nodes.get(&gone.place.node) {
            Some(node) => {
                let links = node.handle.links.clone();
                self.prober.worker.run(async move { links.remove(own.link).await })
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

    fn try_add(&mut self, places: &[PodPlacement], added: &mut Vec<PodKey>) -> Result<(), TestbedError> {
        let mut attached = Vec::new();
        for place in places {
            if self.pods.contains_key(&place.pod) {
                return Err(TestbedError::Layout {
                    object: format!("pod {}", place.pod),
                    problem: "it is in the testbed already".to_owned(),
                    cure: "List each pod once, or remove it before it is added again",
                });
            }
            let additions = self.addressing.admit(place)?;
            added.push(place.pod.clone());
            self.pods.insert(place.pod.clone(), TestPod { place: place.clone(), own: None });
            self.extend_node(&place.node, additions)?;
            if !place.host_network {
                attached.push(self.attach(place)?);
            }
        }
        self.prober.worker.run(async move {
            for links in attached {
                links.wait(WaitFor::Addresses).await?;
            }
            Ok::<(), TestbedError>(())
        })?;
        self.add_neighbours()?;
        places.iter().try_for_each(|place| self.serve(&Endpoint::Pod(place.pod.clone()), &place.listens))
    }

    /// Adds to a node the addresses that a pod brought, and makes the node and its host-network pods listen on them.
    fn extend_node(&mut self, name: &str, additions: NodeAdditions) -> Result<(), TestbedError> {
        if additions == NodeAdditions::default() {
            return Ok(());
        }
        let (node, nets) = self.node(name)?;
        let router = self.router.clone();
        self.prober
            .worker
            .run(async move { topology::extend_node(&router, &node, &nets, &additions).await })?;
        let here = |pod: &&TestPod| pod.place.host_network && pod.place.node == name;
        let pods = self.pods.values().filter(here).map(|pod| Endpoint::Pod(pod.place.pod.clone()));
        let listeners: Vec<Endpoint> = std::iter::once(Endpoint::node(name)).chain(pods).collect();
        listeners.iter().try_for_each(|who| self.reopen_listeners(who))
    }

    fn attach(&mut self, place: &PodPlacement) -> Result<NetnsLinks, TestbedError> {
        let (node, nets) = self.node(&place.node)?;
        let wanted = format!("bw-{}-pod-{}-{}", self.id, place.pod.namespace, place.pod.name);
        let name = claim(&mut self.names, &wanted);
        let title = name.clone();
        let created = self
            .prober
            .worker
            .run(async move { NetnsHandle::create(&title, &topology::host_sysctls()).await });
        let pod = created.inspect_err(|_| {
            self.names.remove(&name);
        })?;
        let link = self.next_link(&place.node);
        if let Some(entry) = self.pods.get_mut(&place.pod) {
            entry.own = Some(PodNetns { namespace: pod.namespace.clone(), link });
        }
        let links = pod.links.clone();
        let joined = place.clone();
        self.prober
            .worker
            .run(async move { topology::attach_pod(&node, &pod, &joined, &nets, link).await })?;
        self.results.write(place, &topology::device(place), topology::hardware(place))?;
        Ok(links)
    }

    /// Adds the pods of each node to each other's neighbour tables, if the kernel could not keep all as learned entries.
    fn add_neighbours(&self) -> Result<(), TestbedError> {
        let mut bridges = BTreeMap::<&str, Vec<&TestPod>>::new();
        for pod in self.pods.values().filter(|pod| pod.own.is_some()) {
            bridges.entry(&pod.place.node).or_default().push(pod);
        }
        if bridges.values().map(|pods| pods.len() * pods.len()).sum::<usize>() <= MOST_LEARNED {
            return Ok(());
        }
        for pods in bridges.into_values() {
            let places: Vec<PodPlacement> = pods.iter().map(|pod| pod.place.clone()).collect();
            let namespaces: Vec<_> =
                pods.iter().filter_map(|pod| Some(pod.own.as_ref()?.namespace.clone())).collect();
            self.prober.worker.run(async move {
                for (own, namespace) in namespaces.iter().enumerate() {
                    let others = places.iter().enumerate().filter(|(place, _)| *place != own);
                    let others: Vec<&PodPlacement> = others.map(|(_, place)| place).collect();
                    topology::add_neighbours(&NetnsLinks::open(namespace)?, &others).await?;
                }
                Ok::<(), TestbedError>(())
            })?;
        }
        Ok(())
    }

    fn node(&self, name: &str) -> Result<(NetnsHandle, NodeNets), TestbedError> {
        let found = self.nodes.get(name).zip(self.addressing.node(name));
        let (node, nets) = found.ok_or_else(|| TestbedError::Unknown(Endpoint::node(name)))?;
        Ok((node.handle.clone(), nets.clone()))
    }

    fn next_link(&mut self, node: &str) -> u32 {
        self.nodes.get_mut(node).map_or(topology::FIRST_POD_LINK, |node| {
            node.next_link += 1;
            node.next_link - 1
        })
    }
}
