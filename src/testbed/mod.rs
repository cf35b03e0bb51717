//! A small real network in network namespaces, in which agents run and traffic is measured.
//!
//! Comes in: a `Layout` of nodes and pods. Goes out: namespaces to start processes in, and the outcomes of real
//! packets: probes, streams, spoofed datagrams. It knows neither policies nor rules, and never touches the network of
//! the host: links are created inside its own namespaces, from a thread that never opens a socket outside them. Its
//! `Prober` also measures in namespaces of other origin.
//!
//! ```text
//!    outside 203.0.113.10 .77, 2001:db8:ffff::10 ::77
//!       │
//!    router ── 172.31.1.0/24, fd00:172:31:1::/64 ── eth0 node a
//!       │                                             cni0 (first address of the pod CIDRs)
//!       │                                               ├ veth… ── eth0 pod
//!       │                                               └ veth… ── eth0 pod
//!       └──── 172.31.2.0/24, fd00:172:31:2::/64 ── eth0 node b …
//! ```
//!
//! Every call that waits for the network blocks its thread: call from `spawn_blocking` in async code.

mod addressing;
mod build;
mod cni;
pub(crate) mod demo;
mod error;
mod layout;
mod links;
mod listen;
mod listeners;
mod names;
mod netns;
mod pods;
mod probe;
mod prober;
mod received;
mod spoof;
mod stream;
mod topology;
mod worker;

pub use error::TestbedError;
pub use layout::{Endpoint, Layout, OUTSIDE, PodPlacement, Port};
pub use listen::has_sctp;
pub use netns::Netns;
pub use probe::{Probe, ProbeOutcome, ProbeTimeouts, ResolvedProbe};
pub use prober::Prober;
pub use stream::{Push, Stream};

use crate::model::PodKey;
use addressing::Addressing;
use cni::CniResultFiles;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use topology::NetnsHandle;

/// A network in namespaces. Dropping it removes it, as `remove` does, but ignores errors.
#[derive(Debug)]
pub struct Testbed {
    id: String,
    prober: Prober,
    names: BTreeSet<String>,
    addressing: Addressing,
    router: NetnsHandle,
    outside: NetnsHandle,
    nodes: BTreeMap<String, TestNode>,
    pods: BTreeMap<PodKey, TestPod>,
    results: CniResultFiles,
}

#[derive(Debug)]
struct TestNode {
    handle: NetnsHandle,
    next_link: u32,
}

#[derive(Debug)]
struct TestPod {
    place: PodPlacement,
    own: Option<PodNetns>,
}

/// A pod's own namespace, and the index of its link in the node.
#[derive(Debug)]
struct PodNetns {
    namespace: Netns,
    link: u32,
}

impl Testbed {
    /// The namespace of a node, where its agent runs.
    pub fn node_namespace(&self, node: &str) -> Option<&Netns> {
        self.nodes.get(node).map(|node| &node.handle.namespace)
    }

    /// The namespace of the router, which forwards packets between nodes and to the outside.
    pub fn router_namespace(&self) -> &Netns {
        &self.router.namespace
    }

    /// The namespace of a pod; its node's for a host-network pod.
    pub fn pod_namespace(&self, pod: &PodKey) -> Option<&Netns> {
        let pod = self.pods.get(pod)?;
        match &pod.own {
            Some(own) => Some(&own.namespace),
            None => self.node_namespace(&pod.place.node),
        }
    }

    /// The namespace that an endpoint sends from.
    pub fn namespace(&self, endpoint: &Endpoint) -> Option<&Netns> {
        match endpoint {
            Endpoint::Pod(pod) => self.pod_namespace(pod),
            Endpoint::Node(node) => self.node_namespace(node),
            Endpoint::Outside => Some(&self.outside.namespace),
        }
    }

    /// The addresses of a node, its own before its bridge's; empty for an unknown node.
    pub fn node_addresses(&self, node: &str) -> Vec<IpAddr> {
        self.addressing.node(node).map(addressing::NodeNets::addresses).unwrap_or_default()
    }

    /// The directory of the CNI results of a node's pods, for `--cni-results-dir`.
    pub fn cni_results_dir(&self, node: &str) -> PathBuf {
        self.results.of_node(node)
    }

    /// The pods, as they are.
    pub fn pods(&self) -> impl Iterator<Item = &PodPlacement> {
        self.pods.values().map(|pod| &pod.place)
    }

    /// Changes how long probes and streams wait for an answer.
    pub fn set_timeouts(&mut self, timeouts: ProbeTimeouts) {
        self.prober.set_timeouts(timeouts);
    }

    /// Tries connections, many at a time. The outcomes are in the order of the probes.
    pub fn probe_all(&self, probes: &[Probe]) -> Vec<ProbeOutcome> {
        let probes = probes.iter().map(|probe| {
            self.resolve(probe)
                .ok_or_else(|| ProbeOutcome::Failed(TestbedError::Unknown(probe.from.clone()).to_string()))
        });
        self.prober.try_all(probes.collect())
    }

    /// Tries one connection.
    pub fn probe(&self, probe: &Probe) -> ProbeOutcome {
        self.probe_all(std::slice::from_ref(probe)).pop().expect("one probe has one outcome")
    }

    /// Opens a long-lived connection along a probe, over which one side sends a message every 5 ms.
    ///
    /// Over TCP the connection must be established; over UDP the first datagram may be lost unnoticed.
    pub fn stream(&self, along: &Probe, push: Push) -> Result<Stream, TestbedError> {
        let probe = self.resolve(along).ok_or_else(|| TestbedError::Unknown(along.from.clone()))?;
        self.prober.stream(&along.from, probe, push)
    }

    /// Sends one UDP packet with any source address from an endpoint.
    ///
    /// Fails if the packet could not be passed to the kernel, not if it is dropped on the way.
    pub fn spoof(
        &self,
        from: &Endpoint,
        source: IpAddr,
        to: SocketAddr,
        payload: &[u8],
    ) -> Result<(), TestbedError> {
        let namespace = self.namespace(from).ok_or_else(|| TestbedError::Unknown(from.clone()))?;
        let sent = namespace
            .enter(|| spoof::packet(source, to, payload).and_then(|packet| spoof::send(&packet, to.ip())))?;
        sent.map_err(|error| TestbedError::Send {
            act: "send a spoofed packet",
            from: from.clone(),
            to,
            reason: error.to_string(),
        })
    }

    /// How many datagrams the listeners of an endpoint have received from an address, including probes.
    ///
    /// Packets arrive in order: once a later probe of the same sender was answered, an earlier spoofed packet has
    /// arrived or was dropped.
    pub fn received_from(&self, listener: &Endpoint, source: IpAddr) -> u64 {
        self.prober.received_from(listener, source)
    }

    fn resolve(&self, probe: &Probe) -> Option<ResolvedProbe> {
        Some(ResolvedProbe {
            namespace: self.namespace(&probe.from)?.clone(),
            source: probe.source,
            to: SocketAddr::new(probe.to, probe.port),
            protocol: probe.protocol,
            owners: self.addressing.answerers(probe.to),
        })
    }
}
