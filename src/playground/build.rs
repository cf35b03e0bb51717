//! Making a playground, changing it, and removing it.

use super::addressing::{Addressing, Admission};
use super::ledger::Ledger;
use super::listen::{Listener, listen};
use super::worker::Worker;
use super::{
    Attached, Endpoint, Layout, Namespace, Node, OUTSIDE, Patience, Place, Playground, PlaygroundError,
};
use super::{Pod, Port, namespace, town};
use crate::model::PodKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use town::Site;

/// The longest readable part of a namespace's name.
const LONGEST_NAME: usize = 100;

impl Playground {
    /// Makes the namespaces, links, addresses, routes and listeners of a layout.
    ///
    /// `id` is 1 to 12 lower-case letters and digits, and begins the name of every namespace: `bw-ID-router`,
    /// `bw-ID-node-NODE`, `bw-ID-pod-NAMESPACE-POD`, `bw-ID-outside`. Needs root. What fails half-way is removed.
    pub fn build(id: &str, layout: &Layout) -> Result<Playground, PlaygroundError> {
        check_id(id)?;
        let addressing = Addressing::new(&layout.nodes)?;
        let mut rehearsal = addressing.clone();
        for place in &layout.pods {
            rehearsal.admit(place)?;
        }
        let mut playground = Playground::found(id, addressing)?;
        playground.open_outside(&layout.outside_listens)?;
        for node in &layout.nodes {
            playground.add_node(node, &layout.node_listens)?;
        }
        for place in &layout.pods {
            playground.add_pod(place)?;
        }
        Ok(playground)
    }

    /// Removes the namespaces that a playground of this id left behind when its process was killed, and says which.
    pub fn sweep(id: &str) -> Result<Vec<String>, PlaygroundError> {
        check_id(id)?;
        namespace::sweep(&format!("bw-{id}-"))
    }

    /// Removes everything; goes on after errors and lists them. Processes started inside are the caller's to end.
    pub fn remove(mut self) -> Result<(), PlaygroundError> {
        self.tear_down()
    }

    fn found(id: &str, addressing: Addressing) -> Result<Playground, PlaygroundError> {
        let worker = Worker::start()?;
        let mut names = BTreeSet::new();
        let router_name = claim(&mut names, &format!("bw-{id}-router"));
        let outside_name = claim(&mut names, &format!("bw-{id}-outside"));
        let (router, outside) = worker.run(async move {
            let router = Site::create(&router_name, &town::router_sysctls())?;
            match Site::create(&outside_name, &town::host_sysctls()) {
                Ok(outside) => Ok((router, outside)),
                Err(error) => {
                    router.namespace.remove()?;
                    Err(error)
                }
            }
        })?;
        Ok(Playground {
            id: id.to_owned(),
            worker,
            names,
            addressing,
            router,
            outside,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            unattended: Vec::new(),
            ledger: Arc::new(Ledger::default()),
            patience: Patience::default(),
        })
    }

    fn open_outside(&mut self, ports: &[Port]) -> Result<(), PlaygroundError> {
        let (router, outside) = (self.router.clone(), self.outside.clone());
        self.worker.run(async move {
            router.wire.loopback().await?;
            town::attach_outside(&router, &outside).await
        })?;
        self.unattended = self.listen(&self.outside.namespace, Endpoint::Outside, &OUTSIDE, ports)?;
        Ok(())
    }

    fn add_node(&mut self, name: &str, ports: &[Port]) -> Result<(), PlaygroundError> {
        let title = claim(&mut self.names, &format!("bw-{}-node-{name}", self.id));
        let site = self.worker.run(async move { Site::create(&title, &town::node_sysctls()) })?;
        let node = Node {
            site: site.clone(),
            next_link: town::FIRST_POD_LINK,
            listens: ports.to_vec(),
            listeners: Vec::new(),
        };
        self.nodes.insert(name.to_owned(), node);
        let Some(nets) = self.addressing.node(name).cloned() else { return Ok(()) };
        let addresses = nets.addresses();
        let router = self.router.clone();
        self.worker.run(async move { town::attach_node(&router, &site, &nets).await })?;
        self.listen_on_node(name, &addresses)
    }

    /// Adds a pod. One that cannot be added leaves nothing but the CIDRs it gave its node.
    pub fn add_pod(&mut self, place: &Place) -> Result<(), PlaygroundError> {
        if self.pods.contains_key(&place.pod) {
            return Err(PlaygroundError::Layout {
                object: format!("pod {}", place.pod),
                problem: "it is in the playground already".to_owned(),
                cure: "List each pod once, or remove it before it is added anew",
            });
        }
        let admission = self.addressing.admit(place)?;
        let pod = Pod {
            place: Place { listens: Vec::new(), ..place.clone() },
            own: None,
            listeners: BTreeMap::new(),
        };
        self.pods.insert(place.pod.clone(), pod);
        let added = self
            .extend_node(&place.node, admission)
            .and_then(|()| if place.host_network { Ok(()) } else { self.attach(place) })
            .and_then(|()| self.set_listens(&place.pod, &place.listens));
        if let Err(error) = added {
            if let Err(left) = self.remove_pod(&place.pod) {
                tracing::warn!(error = %left, "a pod that could not be added is not wholly removed");
            }
            return Err(error);
        }
        Ok(())
    }

    /// Removes a pod with its namespace, link and listeners. Its node keeps its CIDRs.
    pub fn remove_pod(&mut self, pod: &PodKey) -> Result<(), PlaygroundError> {
        let unknown = || PlaygroundError::Unknown(Endpoint::Pod(pod.clone()));
        let gone = self.pods.remove(pod).ok_or_else(unknown)?;
        self.addressing.dismiss(pod);
        self.ledger.forget(&Endpoint::Pod(pod.clone()));
        self.close(gone.listeners.into_values().collect());
        let Some(own) = gone.own else { return Ok(()) };
        // The kernel frees a namespace when it likes; the address must not answer until then.
        let unlinked = match self.nodes.get(&gone.place.node) {
            Some(node) => {
                let wire = node.site.wire.clone();
                self.worker.run(async move { wire.remove(own.link).await })
            }
            None => Ok(()),
        };
        self.names.remove(own.namespace.name());
        own.namespace.remove().and(unlinked)
    }

    /// Makes a pod listen on these ports and no others. Ports it keeps are not interrupted.
    pub fn set_listens(&mut self, pod: &PodKey, ports: &[Port]) -> Result<(), PlaygroundError> {
        let unknown = || PlaygroundError::Unknown(Endpoint::Pod(pod.clone()));
        let wanted: BTreeSet<Port> = ports.iter().copied().collect();
        let namespace = self.pod_namespace(pod).ok_or_else(unknown)?.clone();
        let entry = self.pods.get_mut(pod).ok_or_else(unknown)?;
        let closing: Vec<Port> =
            entry.listeners.keys().copied().filter(|port| !wanted.contains(port)).collect();
        let closed = closing.into_iter().filter_map(|port| entry.listeners.remove(&port)).collect();
        let opening: Vec<Port> =
            wanted.iter().copied().filter(|port| !entry.listeners.contains_key(port)).collect();
        entry.place.listens = ports.to_vec();
        let mut addresses = entry.place.addresses.clone();
        if entry.place.host_network && addresses.is_empty() {
            addresses = self.node_addresses(&self.pods[pod].place.node);
        }
        self.close(closed);
        let opened = self.listen(&namespace, Endpoint::Pod(pod.clone()), &addresses, &opening)?;
        let entry = self.pods.get_mut(pod).ok_or_else(unknown)?;
        entry.listeners.extend(opening.into_iter().zip(opened));
        Ok(())
    }

    fn extend_node(&mut self, name: &str, admission: Admission) -> Result<(), PlaygroundError> {
        if admission == Admission::default() {
            return Ok(());
        }
        let Some((node, nets)) = self.nodes.get(name).zip(self.addressing.node(name).cloned()) else {
            return Ok(());
        };
        let (router, site) = (self.router.clone(), node.site.clone());
        let mut fresh: Vec<IpAddr> =
            admission.cidrs.iter().map(|cidr| super::addressing::gateway(*cidr)).collect();
        fresh.extend(&admission.host);
        self.worker.run(async move { town::extend_node(&router, &site, &nets, &admission).await })?;
        self.listen_on_node(name, &fresh)
    }

    fn attach(&mut self, place: &Place) -> Result<(), PlaygroundError> {
        let title =
            claim(&mut self.names, &format!("bw-{}-pod-{}-{}", self.id, place.pod.namespace, place.pod.name));
        let pod = self.worker.run(async move { Site::create(&title, &town::host_sysctls()) })?;
        let Some((node, nets)) =
            self.nodes.get_mut(&place.node).zip(self.addressing.node(&place.node).cloned())
        else {
            return pod.namespace.remove();
        };
        let link = node.next_link;
        node.next_link += 1;
        let site = node.site.clone();
        if let Some(entry) = self.pods.get_mut(&place.pod) {
            entry.own = Some(Attached { namespace: pod.namespace.clone(), link });
        }
        let place = place.clone();
        self.worker.run(async move { town::attach_pod(&site, &pod, &place, &nets, link).await })
    }

    fn listen_on_node(&mut self, name: &str, addresses: &[IpAddr]) -> Result<(), PlaygroundError> {
        let Some(node) = self.nodes.get(name) else { return Ok(()) };
        let opened = self.listen(&node.site.namespace, Endpoint::node(name), addresses, &node.listens)?;
        if let Some(node) = self.nodes.get_mut(name) {
            node.listeners.extend(opened);
        }
        Ok(())
    }

    /// Opens listeners, one for each port, in order.
    fn listen(
        &self,
        namespace: &Namespace,
        who: Endpoint,
        addresses: &[IpAddr],
        ports: &[Port],
    ) -> Result<Vec<Listener>, PlaygroundError> {
        let (namespace, addresses, ports) = (namespace.clone(), addresses.to_vec(), ports.to_vec());
        let ledger = self.ledger.clone();
        self.worker.run(async move {
            ports.into_iter().map(|port| listen(&namespace, &who, &addresses, port, &ledger)).collect()
        })
    }

    fn close(&self, listeners: Vec<Listener>) {
        self.worker.run(async move {
            for listener in listeners {
                listener.close().await;
            }
        });
    }

    fn tear_down(&mut self) -> Result<(), PlaygroundError> {
        self.worker.stop();
        let mut left = Vec::new();
        let pods =
            std::mem::take(&mut self.pods).into_values().filter_map(|pod| pod.own).map(|own| own.namespace);
        let nodes = std::mem::take(&mut self.nodes).into_values().map(|node| node.site.namespace);
        let rest = [&self.outside, &self.router].map(|site| site.namespace.clone());
        for namespace in pods.chain(nodes).chain(rest) {
            if self.names.remove(namespace.name())
                && let Err(error) = namespace.remove()
            {
                left.push(error.to_string());
            }
        }
        if left.is_empty() { Ok(()) } else { Err(PlaygroundError::Remains { left }) }
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            tracing::warn!(%error, "the playground is not wholly removed");
        }
    }
}

fn check_id(id: &str) -> Result<(), PlaygroundError> {
    let fits = (1..=12).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fits {
        return Ok(());
    }
    Err(PlaygroundError::Layout {
        object: format!("playground id {id:?}"),
        problem: "it would make ambiguous namespace names".to_owned(),
        cure: "Use 1 to 12 lower-case letters and digits",
    })
}

/// Chooses a file name that says `wanted`, and takes it. Where that is no file name, too long or taken, a
/// fingerprint makes the difference.
fn claim(names: &mut BTreeSet<String>, wanted: &str) -> String {
    let legal = |char: char| char.is_ascii_alphanumeric() || "-._".contains(char);
    let mut name: String =
        wanted.chars().map(|char| if legal(char) { char } else { '_' }).take(LONGEST_NAME).collect();
    let mut salt = 0;
    while name != wanted && salt == 0 || names.contains(&name) {
        let cut: String = name.chars().take(LONGEST_NAME).collect();
        name = format!("{cut}-{}", town::fingerprint(&format!("{salt} {wanted}")));
        salt += 1;
    }
    names.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_names_are_readable_where_they_can_be_and_never_shared() {
        let mut names = BTreeSet::new();
        assert_eq!(claim(&mut names, "bw-x-pod-shop-web"), "bw-x-pod-shop-web");
        let second = claim(&mut names, "bw-x-pod-shop-web");
        assert!(second.starts_with("bw-x-pod-shop-web-"));
        assert_ne!(claim(&mut names, "bw-x-pod-shop-web"), second);
        let long = claim(&mut names, &format!("bw-x-pod-shop-{}", "w".repeat(253)));
        assert!(long.len() <= LONGEST_NAME + 9);
        assert!(!claim(&mut names, "bw-x-node-../../etc").contains('/'));
    }

    #[test]
    fn ids_that_could_be_the_beginning_of_another_are_refused() {
        assert!(check_id("demo1").is_ok());
        for id in ["", "a-b", "A", "averylongname1", "ä"] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
