//! Changes of links: ports of the bridge are added, removed and renamed, and CNI results name them.

use super::story::StoryGenerator;
use super::{Change, Random, Scene, cluster};
use crate::topology::{NODES, Node};
use bridgewarden::compile::BIND_ADDRESSES_LABEL;
use bridgewarden::model::{Bridge, BridgePort, Hardware, LinkChange, PodKey, Sandbox, SandboxKey};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How many device names CNI results use: few, so that two results name the same device.
const NAMES: usize = 10;
/// Few indices, so that they are reused.
const INDICES: u32 = 16;

fn device(number: usize) -> Box<str> {
    format!("veth{number}").into()
}

/// Puts most pods behind ports of their nodes' bridges, with CNI results that name these ports.
pub fn attach_pods(scene: &mut Scene, random: &mut Random) {
    for node in NODES {
        Change::Link(node.name, LinkChange::Bridge(bridge(node, true))).apply(scene);
    }
    for (number, pod) in scene.world.pods.clone().iter().enumerate() {
        let node = pod.spec.node_name.as_deref().and_then(Node::named);
        let addresses: Vec<IpAddr> = cluster::addresses(pod).collect();
        let (Some(node), true) = (node, cluster::is_live(pod) && !addresses.is_empty()) else { continue };
        let key = PodKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), &pod.metadata.name);
        let sandbox = Sandbox {
            key: SandboxKey::new(key, "sandbox-0"),
            uid: pod.metadata.uid.as_deref().map(Into::into),
            addresses,
            made: Duration::from_secs(1),
            devices: vec!["cni0".into(), device(number)],
            hardware: random.chance(70).then(|| hardware(node, number)),
        };
        if random.chance(90) {
            Change::Sandbox(node.name, sandbox).apply(scene);
        }
        if random.chance(90) {
            let port = BridgePort { index: 1 + number as u32, name: device(number), is_veth: true };
            Change::Link(node.name, LinkChange::Port(port)).apply(scene);
        }
    }
}

fn bridge(node: Node, has_link_local: bool) -> Bridge {
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe00 | u16::from(node.number));
    Bridge {
        hardware: Some([2, 0xfe, node.number, 0, 0, 0]),
        link_local: if has_link_local { vec![link_local] } else { Vec::new() },
        ..Bridge::default()
    }
}

fn hardware(node: Node, number: usize) -> Hardware {
    [2, 1, node.number, 0, (number >> 8) as u8, number as u8]
}

impl StoryGenerator {
    /// Changes a link at every other call.
    pub(super) fn link_event(&mut self) {
        let node = *self.links.pick(&NODES);
        match self.links.below(32) {
            0..=3 => self.plug_named(node.name),
            4 => self.plug(node.name, "spare"),
            5 => self.plug_network(node.name),
            6..=7 => drop(self.unplug(node.name)),
            8..=9 => self.use_index_again(node.name),
            10 => self.plug_and_rename(node.name),
            11 => self.move_sandbox(node.name),
            12..=13 => self.write_result_again(node.name),
            14 => self.exempt_namespace(),
            15 => {
                let has_link_local = self.links.chance(70);
                self.emit(Change::Link(node.name, LinkChange::Bridge(bridge(node, has_link_local))));
            }
            _ => {}
        }
    }

    /// Emits a sandbox whose result names a device, and perhaps, just before or after, a change of that device.
    pub(super) fn emit_sandbox_and_port(&mut self, node: &'static str, mut sandbox: Sandbox) {
        let old = self.world.sandboxes_of(node).find(|old| old.key == sandbox.key).cloned();
        let number = self.links.below(1 << 10);
        let hardware = hardware(Node::named(node).expect("a node"), number);
        sandbox.hardware = self.links.chance(70).then_some(hardware);
        sandbox.devices = match (old, self.links.below(10)) {
            (_, 0) => Vec::new(),
            (Some(old), 1..=6) => old.devices,
            (Some(_) | None, _) => vec!["cni0".into(), self.device_to_name(node)],
        };
        let port = sandbox.devices.last().cloned();
        let order = self.links.below(4);
        if let (Some(port), 0) = (&port, order) {
            self.plug(node, port);
        }
        self.emit(Change::Sandbox(node, sandbox));
        if let (Some(port), 1) = (&port, order) {
            self.plug(node, port);
        }
    }

    /// A device name for a result, mostly one that no other result has.
    fn device_to_name(&mut self, node: &'static str) -> Box<str> {
        let named = self.named(node);
        let free: Vec<_> = (0..NAMES).map(device).filter(|name| !named.contains(name)).collect();
        if free.is_empty() || self.links.chance(25) {
            device(self.links.below(NAMES))
        } else {
            self.links.pick(&free).clone()
        }
    }

    /// The devices that the results of a node name.
    fn named(&self, node: &'static str) -> BTreeSet<Box<str>> {
        self.world.sandboxes_of(node).flat_map(|sandbox| sandbox.devices.iter().skip(1)).cloned().collect()
    }

    fn ports(&self, node: &'static str) -> Vec<BridgePort> {
        self.world.ports_of(node).cloned().collect()
    }

    /// Makes a device of this name a port, unless there is one.
    fn plug(&mut self, node: &'static str, name: &str) {
        let taken: Vec<u32> = self.world.ports_of(node).map(|port| port.index).collect();
        let free: Vec<u32> = (1..=INDICES).filter(|index| !taken.contains(index)).collect();
        if !free.is_empty() {
            let index = *self.links.pick(&free);
            self.plug_at(node, index, name);
        }
    }

    fn plug_at(&mut self, node: &'static str, index: u32, name: &str) {
        if self.world.ports_of(node).all(|port| *port.name != *name) {
            let port = BridgePort { index, name: name.into(), is_veth: true };
            self.emit(Change::Link(node, LinkChange::Port(port)));
        }
    }

    /// A device name that a result has and no port has, or that of a device that no result will ever name.
    fn name_without_port(&mut self, node: &'static str) -> Box<str> {
        let mut waiting = self.named(node);
        waiting.retain(|name| self.world.ports_of(node).all(|port| port.name != *name));
        let waiting: Vec<_> = waiting.into_iter().collect();
        if waiting.is_empty() || self.links.chance(20) {
            format!("spare{}", self.links.below(3)).into()
        } else {
            self.links.pick(&waiting).clone()
        }
    }

    fn plug_named(&mut self, node: &'static str) {
        let name = self.name_without_port(node);
        self.plug(node, &name);
    }

    fn plug_network(&mut self, node: &'static str) {
        let index = INDICES + 1;
        let port = BridgePort { index, name: "eth1".into(), is_veth: false };
        let is_there = self.world.ports_of(node).any(|port| port.index == index);
        let change = if is_there { LinkChange::PortGone(index) } else { LinkChange::Port(port) };
        self.emit(Change::Link(node, change));
    }

    fn unplug(&mut self, node: &'static str) -> Option<u32> {
        let ports = self.ports(node);
        let index = (!ports.is_empty()).then(|| self.links.pick(&ports).index)?;
        self.emit(Change::Link(node, LinkChange::PortGone(index)));
        Some(index)
    }

    /// Removes a port, and gives its index to another device.
    fn use_index_again(&mut self, node: &'static str) {
        if let Some(index) = self.unplug(node) {
            let name = self.name_without_port(node);
            self.plug_at(node, index, &name);
        }
    }

    /// Adds a port whose device gets its name only afterwards.
    fn plug_and_rename(&mut self, node: &'static str) {
        self.plug(node, "tmp");
        let Some(port) = self.world.ports_of(node).find(|port| &*port.name == "tmp").cloned() else { return };
        let name = self.name_without_port(node);
        self.plug_at(node, port.index, &name);
    }

    /// Rewrites a result with another device.
    fn move_sandbox(&mut self, node: &'static str) {
        let Some(mut sandbox) = self.any_sandbox(node) else { return };
        let spare: Vec<BridgePort> = self.ports(node);
        let name = match spare.iter().find(|port| port.name.starts_with("veth")) {
            Some(port) if self.links.chance(50) => port.name.clone(),
            Some(_) | None => self.device_to_name(node),
        };
        sandbox.devices = vec!["cni0".into(), name];
        self.emit(Change::Sandbox(node, sandbox));
    }

    /// Rewrites a result with another address, Ethernet address or time.
    fn write_result_again(&mut self, node: &'static str) {
        let (Some(mut sandbox), Some(other)) = (self.any_sandbox(node), self.any_sandbox(node)) else {
            return;
        };
        match self.links.below(4) {
            0 => sandbox.hardware = other.hardware,
            1 => sandbox.addresses = other.addresses,
            2 => sandbox.made = other.made + Duration::from_secs(self.links.below(3) as u64),
            _ => {
                let host = 110 + self.links.below(20) as u8;
                let node = Node::named(node).expect("a node");
                sandbox.addresses = cluster::pod_ips(node, host, cluster::Stack::random(&mut self.links));
            }
        }
        self.emit(Change::Sandbox(node, sandbox));
    }

    fn any_sandbox(&mut self, node: &'static str) -> Option<Sandbox> {
        let all: Vec<Sandbox> = self.world.sandboxes_of(node).cloned().collect();
        (!all.is_empty()).then(|| self.links.pick(&all).clone())
    }

    /// Exempts a namespace's pods from binding.
    fn exempt_namespace(&mut self) {
        if self.world.namespaces.is_empty() {
            return;
        }
        let mut namespace = self.links.pick(&self.world.world.namespaces).clone();
        let labels = namespace.metadata.labels.get_or_insert_default();
        labels.insert(BIND_ADDRESSES_LABEL.to_owned(), "off".to_owned());
        self.emit(Change::Namespace(namespace));
    }
}
