//! What is connected to each port of a bridge.

use crate::frame::Mac;
use crate::topology::outside;
use crate::worlds::{Scene, without_rules};
use bridgewarden::api::{Namespace, Pod};
use bridgewarden::compile::BIND_ADDRESSES_LABEL;
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, Ruling, World, decide};
use bridgewarden::model::{Bridge, Direction, Sandbox};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::source::convert;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is connected to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// A network: the port is no veth.
    Network,
    /// A pod that its namespace exempts from binding.
    Exempt,
    /// A veth that no CNI result names, so its pod is not known.
    NoPod,
    /// This pod, whether or not its object is known.
    Pod(Protected),
}

/// A pod at its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// Its own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Its own Ethernet address, if it is known.
    pub hardware: Option<Mac>,
    /// Whether it is isolated for egress.
    pub egress: bool,
    /// Whether it is isolated for ingress.
    pub ingress: bool,
}

/// The ports of a node's bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// By index.
    pub behind: BTreeMap<u32, Behind>,
    /// The addresses of pods whose port is known.
    pub(super) taken: BTreeSet<IpAddr>,
    /// The addresses of this node's pods whose port is not known.
    pub(super) portless: BTreeSet<IpAddr>,
    /// The node itself on the bridge.
    pub(super) bridge: Bridge,
}

impl Ports {
    /// The ports of a node to which a whole scene was reported, including the name of every port.
    pub fn of(scene: &Scene, node: &str) -> Ports {
        let mut behind: BTreeMap<u32, (Behind, Option<&Sandbox>)> = BTreeMap::new();
        for port in scene.ports_of(node) {
            let names = |sandbox: &&Sandbox| sandbox.devices.contains(&port.name);
            // "If two results name one port, the later result wins."
            let sandbox =
                scene.sandboxes_of(node).filter(names).max_by_key(|sandbox| (sandbox.made, &sandbox.key));
            behind.insert(port.index, (Behind::NoPod, sandbox));
            if !port.is_veth {
                behind.insert(port.index, (Behind::Network, None));
            }
        }
        let attached: Vec<&Sandbox> = behind.values().filter_map(|(_, sandbox)| *sandbox).collect();
        for (behind, sandbox) in behind.values_mut() {
            let Some(sandbox) = sandbox else { continue };
            *behind = if is_exempt(scene, sandbox) {
                Behind::Exempt
            } else {
                Behind::Pod(protected(scene, node, sandbox, &attached))
            };
        }
        let behind: BTreeMap<u32, Behind> =
            behind.into_iter().map(|(index, (behind, _))| (index, behind)).collect();
        let taken: BTreeSet<IpAddr> = behind
            .values()
            .flat_map(|behind| match behind {
                Behind::Pod(pod) => pod.addresses.clone(),
                Behind::Network | Behind::Exempt | Behind::NoPod => BTreeSet::new(),
            })
            .collect();
        let portless = addresses_of_pods(scene, node).difference(&taken).copied().collect();
        let bridge = scene.bridges.get(node).cloned().unwrap_or_default();
        Ports { behind, taken, portless, bridge }
    }
}

/// "A namespace's label `bridgewarden.io/bind-addresses: off` exempts its pods."
fn is_exempt(scene: &Scene, sandbox: &Sandbox) -> bool {
    let says_off = |namespace: &&Namespace| {
        let label = namespace.metadata.labels.iter().flatten().find(|(key, _)| *key == BIND_ADDRESSES_LABEL);
        label.is_some_and(|(_, value)| value == "off")
    };
    let name = sandbox.key.pod.namespace.to_string();
    let mut own = scene.namespaces.iter().filter(|namespace| namespace.metadata.name == name);
    own.any(|namespace| says_off(&namespace))
}

/// "Namespace, name and uid must be those of a pod that the API places on this node."
fn pod_of<'a>(scene: &'a Scene, node: &str, sandbox: &Sandbox) -> Option<&'a Pod> {
    scene.pods.iter().find(|pod| {
        let uid = pod.metadata.uid.as_deref();
        convert::pod(pod).0.key == sandbox.key.pod
            && pod.spec.node_name.as_deref() == Some(node)
            && pod.spec.host_network != Some(true)
            && (uid.is_none() || sandbox.uid.is_none() || uid == sandbox.uid.as_deref())
    })
}

fn protected(scene: &Scene, node: &str, sandbox: &Sandbox, attached: &[&Sandbox]) -> Protected {
    let is_later = |other: &&&Sandbox| (other.made, &other.key) > (sandbox.made, &sandbox.key);
    let later: BTreeSet<IpAddr> =
        attached.iter().filter(is_later).flat_map(|other| other.addresses.iter().copied()).collect();
    let own: BTreeSet<IpAddr> = sandbox.addresses.iter().copied().collect();
    let pod = pod_of(scene, node, sandbox);
    let isolated = |direction| {
        pod.is_none_or(|pod| !has_address(scene, node, pod) || is_isolated(scene, pod, direction))
    };
    Protected {
        addresses: own.difference(&later).copied().collect(),
        hardware: sandbox.hardware,
        egress: isolated(Direction::Egress),
        ingress: isolated(Direction::Ingress),
    }
}

/// Whether a pod has an address that does not belong to another one: "if the sandboxes of two known pods claim one
/// address, the later sandbox has it", and "no other pod is at the address of a known pod's sandbox, whatever its
/// object says".
fn has_address(scene: &Scene, node: &str, pod: &Pod) -> bool {
    let key = convert::pod(pod).0.key;
    let known: Vec<&Sandbox> =
        scene.sandboxes_of(node).filter(|sandbox| pod_of(scene, node, sandbox).is_some()).collect();
    let latest = |address: &IpAddr| {
        let claims = known.iter().filter(|sandbox| sandbox.addresses.contains(address));
        claims.max_by_key(|sandbox| (sandbox.made, &sandbox.key))
    };
    let pod = convert::pod(pod).0;
    let stated = pod.addresses.iter().filter(|_| !pod.finished);
    let by_sandbox = known.iter().filter(|sandbox| sandbox.key.pod == key).flat_map(|own| &own.addresses);
    stated.chain(by_sandbox).any(|address| latest(address).is_none_or(|sandbox| sandbox.key.pod == key))
}

/// Whether a policy isolates a pod. That is so if it can exchange no traffic once rules select no peers.
fn is_isolated(scene: &Scene, pod: &Pod, direction: Direction) -> bool {
    let mut alone = World { pods: vec![pod.clone()], ..without_rules(&scene.world) };
    let own: IpAddr = [10, 244, 1, 250].into();
    alone.pods[0].status.phase = None;
    alone.pods[0].status.pod_ip = Some(own.to_string());
    alone.pods[0].status.pod_ips = vec![bridgewarden::api::PodIp { ip: own.to_string() }];
    let other = QueryEnd::Address(outside(Family::V4));
    let (source, destination) = match direction {
        Direction::Egress => (QueryEnd::Pod(0), other),
        Direction::Ingress => (other, QueryEnd::Pod(0)),
    };
    let flow = FlowQuery { source, destination, protocol: Protocol::Tcp, port: 80, family: Family::V4 };
    decide(&alone, &flow).expect("the flow can exist") != Ruling::Allowed
}

/// "The agent places a pod of this node at the addresses that its object gives and at those of its sandboxes"; a
/// sandbox that matches no pod belongs to an unknown pod.
fn addresses_of_pods(scene: &Scene, node: &str) -> BTreeSet<IpAddr> {
    let here = |pod: &&Pod| pod.spec.node_name.as_deref() == Some(node);
    let stated = scene.pods.iter().filter(here).map(|pod| convert::pod(pod).0);
    let stated = stated.filter(|pod| pod.networked && !pod.finished).flat_map(|pod| pod.addresses);
    let by_sandbox = scene.sandboxes_of(node).flat_map(|sandbox| sandbox.addresses.iter().copied());
    stated.chain(by_sandbox).collect()
}
