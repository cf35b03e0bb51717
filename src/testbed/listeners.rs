//! Opens and closes the listeners of endpoints.

use super::listen::{Listener, listen};
use super::{Endpoint, Netns, OUTSIDE, Port, Prober, Testbed, TestbedError};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The listeners of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    ports: Vec<Port>,
    open: BTreeMap<(IpAddr, Port), Listener>,
}

impl Prober {
    /// Makes an endpoint listen on these ports of these addresses of a namespace, and no others. Listeners that stay are
    /// not interrupted.
    pub fn serve(
        &mut self,
        who: &Endpoint,
        namespace: &Netns,
        addresses: &[IpAddr],
        ports: &[Port],
    ) -> Result<(), TestbedError> {
        let wanted: BTreeSet<(IpAddr, Port)> =
            addresses.iter().flat_map(|address| ports.iter().map(move |port| (*address, *port))).collect();
        let endpoint = self.listeners.entry(who.clone()).or_default();
        endpoint.ports = ports.to_vec();
        let (kept, closing) =
            std::mem::take(&mut endpoint.open).into_iter().partition(|(at, _)| wanted.contains(at));
        endpoint.open = kept;
        let opening: Vec<_> = wanted.into_iter().filter(|at| !endpoint.open.contains_key(at)).collect();
        let (listener, namespace, received) = (who.clone(), namespace.clone(), self.received.clone());
        let opened: Result<Vec<_>, _> = self.worker.run(async move {
            close(closing).await;
            let open = |at: (IpAddr, Port)| Ok((at, listen(&namespace, &listener, at.0, at.1, &received)?));
            opening.into_iter().map(open).collect()
        });
        self.listeners.entry(who.clone()).or_default().open.extend(opened?);
        Ok(())
    }

    /// Makes an endpoint listen on nothing.
    pub fn stop_listening(&mut self, who: &Endpoint) {
        if let Some(endpoint) = self.listeners.remove(who) {
            self.worker.run(close(endpoint.open));
        }
    }
}

impl Testbed {
    /// Makes an endpoint listen on these ports of all its addresses, and no others.
    pub(super) fn serve(&mut self, who: &Endpoint, ports: &[Port]) -> Result<(), TestbedError> {
        let namespace = self.namespace(who).ok_or_else(|| TestbedError::Unknown(who.clone()))?.clone();
        let addresses = self.addresses(who);
        self.prober.serve(who, &namespace, &addresses, ports)
    }

    /// Makes an endpoint listen on the same ports as before, of the addresses that it has.
    pub(super) fn reopen_listeners(&mut self, who: &Endpoint) -> Result<(), TestbedError> {
        let ports = self.prober.listeners.get(who).map(|endpoint| endpoint.ports.clone()).unwrap_or_default();
        self.serve(who, &ports)
    }

    fn addresses(&self, who: &Endpoint) -> Vec<IpAddr> {
        match who {
            Endpoint::Outside => OUTSIDE.to_vec(),
            Endpoint::Node(node) => self.node_addresses(node),
            Endpoint::Pod(pod) => match self.pods.get(pod) {
                Some(pod) if pod.place.host_network => self.node_addresses(&pod.place.node),
                Some(pod) => pod.place.addresses.clone(),
                None => Vec::new(),
            },
        }
    }
}

/// Waits until the ports are free again.
async fn close(listeners: BTreeMap<(IpAddr, Port), Listener>) {
    for listener in listeners.into_values() {
        listener.close().await;
    }
}
