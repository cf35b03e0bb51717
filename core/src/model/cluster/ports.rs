//! The bridge's ports joined with this node's sandboxes: which pod a frame came from.

use super::Cluster;
use crate::model::{Bridge, BridgePort, LinkChange, PodKey, Sandbox, SandboxKey, Touched};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is known of the bridge and its ports.
#[derive(Clone, Debug, Default)]
pub(super) struct BridgePorts {
    bridge: Bridge,
    ports: BTreeMap<u32, BridgePort>,
    by_name: BTreeMap<Box<str>, u32>,
    /// The sandboxes whose CNI results name a device, by device name.
    claims: BTreeMap<Box<str>, BTreeSet<SandboxKey>>,
    /// The sandbox of each port, and the port of each sandbox. A port that is renamed keeps its sandbox.
    sandboxes: BTreeMap<u32, SandboxKey>,
    of_sandboxes: BTreeMap<SandboxKey, u32>,
}

impl BridgePorts {
    /// The port of a sandbox.
    pub(super) fn of(&self, sandbox: &SandboxKey) -> Option<u32> {
        self.of_sandboxes.get(sandbox).copied()
    }

    fn give(&mut self, index: u32, sandbox: Option<SandboxKey>) {
        if let Some(old) = self.sandboxes.remove(&index) {
            self.of_sandboxes.remove(&old);
        }
        if let Some(sandbox) = sandbox {
            self.of_sandboxes.insert(sandbox.clone(), index);
            self.sandboxes.insert(index, sandbox);
        }
    }
}

impl Cluster {
    /// The node's own interface on the bridge.
    pub fn bridge(&self) -> &Bridge {
        &self.ports.bridge
    }

    /// A port of the bridge.
    pub fn port(&self, index: u32) -> Option<&BridgePort> {
        self.ports.ports.get(&index)
    }

    /// Every port of the bridge.
    pub fn ports(&self) -> impl Iterator<Item = &BridgePort> {
        self.ports.ports.values()
    }

    /// The sandbox behind a port.
    pub fn sandbox_at(&self, port: u32) -> Option<&Sandbox> {
        self.residents.sandbox(self.ports.sandboxes.get(&port)?)
    }

    /// The ports of a pod's sandboxes, by the pod that their CNI results name.
    pub fn ports_of(&self, pod: &PodKey) -> impl Iterator<Item = u32> {
        self.residents.of_pod(pod).filter_map(|sandbox| self.ports.of(&sandbox.key))
    }

    /// The addresses that a pod may use as a source at a port: those of its sandbox, without those that a later sandbox
    /// with a port of its own claims.
    pub fn addresses_at(&self, port: u32) -> Vec<IpAddr> {
        let Some(own) = self.sandbox_at(port) else { return Vec::new() };
        let is_later = |other: &Sandbox| {
            (other.made, &other.key) > (own.made, &own.key) && self.ports.of(&other.key).is_some()
        };
        let free = |address: &&IpAddr| !self.residents.at(**address).any(is_later);
        own.addresses.iter().filter(free).copied().collect()
    }

    pub(super) fn set_link(&mut self, change: LinkChange, touched: &mut Touched) {
        match change {
            LinkChange::Bridge(bridge) => self.set_bridge(bridge, touched),
            LinkChange::Port(port) => self.set_port(port, touched),
            LinkChange::PortGone(index) => self.remove_port(index, touched),
        }
    }

    fn set_bridge(&mut self, bridge: Bridge, touched: &mut Touched) {
        if self.ports.bridge != bridge {
            self.ports.bridge = bridge;
            touched.bridge = true;
        }
    }

    fn set_port(&mut self, port: BridgePort, touched: &mut Touched) {
        let index = port.index;
        let old = self.ports.ports.insert(index, port.clone());
        if old.as_ref() == Some(&port) {
            return;
        }
        if let Some(old) = old.filter(|old| self.ports.by_name.get(&old.name) == Some(&index)) {
            self.ports.by_name.remove(&old.name);
        }
        self.ports.by_name.insert(port.name, index);
        self.join_port(index, touched);
    }

    fn remove_port(&mut self, index: u32, touched: &mut Touched) {
        let Some(old) = self.ports.ports.remove(&index) else { return };
        if self.ports.by_name.get(&old.name) == Some(&index) {
            self.ports.by_name.remove(&old.name);
        }
        self.touch_port(index, touched);
        let left = self.ports.sandboxes.get(&index).cloned();
        self.ports.give(index, None);
        self.join_ports_named_by(left.as_ref(), touched);
    }

    /// Called before a sandbox changes or is removed: the ports that may send from its addresses may change.
    pub(super) fn sandbox_changes(&self, key: &SandboxKey, touched: &mut Touched) {
        if let Some(port) = self.ports.of(key) {
            self.touch_port(port, touched);
        }
    }

    /// Called after a sandbox was added, changed or removed. `old` and `new` are the devices that its result named
    /// before and names now.
    pub(super) fn sandbox_devices(
        &mut self,
        key: &SandboxKey,
        old: &[Box<str>],
        new: &[Box<str>],
        touched: &mut Touched,
    ) {
        for device in old {
            if let Some(claims) = self.ports.claims.get_mut(device) {
                claims.remove(key);
                if claims.is_empty() {
                    self.ports.claims.remove(device);
                }
            }
        }
        for device in new {
            self.ports.claims.entry(device.clone()).or_default().insert(key.clone());
        }
        let mut ports: BTreeSet<u32> = self.ports.of(key).into_iter().collect();
        if old.iter().any(|device| !new.contains(device)) {
            // Its result may no longer name the device of the port that it had.
            ports.iter().for_each(|port| self.ports.give(*port, None));
        }
        ports.extend(old.iter().chain(new).filter_map(|device| self.ports.by_name.get(device)));
        ports.into_iter().for_each(|port| self.join_port(port, touched));
    }

    /// Finds the sandbox of a port: the latest sandbox whose result names the port, or the one that the port had before
    /// it was renamed.
    fn join_port(&mut self, index: u32, touched: &mut Touched) {
        let Some(port) = self.ports.ports.get(&index) else { return };
        let before = self.ports.sandboxes.get(&index);
        // A sandbox that has another port keeps it: that port was renamed, and this device only took over its name.
        let is_free = |key: &&SandboxKey| self.ports.of(key).is_none_or(|other| other == index);
        let claims = self.ports.claims.get(&port.name).into_iter().flatten().filter(is_free).chain(before);
        let sandboxes = claims.filter_map(|key| self.residents.sandbox(key));
        let now =
            sandboxes.max_by_key(|sandbox| (sandbox.made, &sandbox.key)).map(|sandbox| sandbox.key.clone());
        let left = before.filter(|before| now.as_ref() != Some(before)).cloned();
        if before != now.as_ref() {
            self.touch_port(index, touched);
            self.ports.give(index, now);
        }
        self.touch_port(index, touched);
        self.join_ports_named_by(left.as_ref(), touched);
    }

    /// Called when a sandbox lost its port: another device may have the name that its result states.
    fn join_ports_named_by(&mut self, sandbox: Option<&SandboxKey>, touched: &mut Touched) {
        let sandbox = sandbox.and_then(|key| self.residents.sandbox(key));
        let devices = sandbox.into_iter().flat_map(|sandbox| &sandbox.devices);
        let ports: Vec<u32> = devices.filter_map(|device| self.ports.by_name.get(device).copied()).collect();
        ports.into_iter().for_each(|port| self.join_port(port, touched));
    }

    /// Marks a port as changed, and also the ports of sandboxes that claim an address of the sandbox behind it: which
    /// addresses may be sent from them may change.
    fn touch_port(&self, index: u32, touched: &mut Touched) {
        touched.ports.insert(index);
        let Some(sandbox) = self.sandbox_at(index) else { return };
        let claimants = sandbox.addresses.iter().flat_map(|address| self.residents.at(*address));
        touched.ports.extend(claimants.filter_map(|other| self.ports.of(&other.key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Change;
    use std::time::Duration;

    fn sandbox(of: &str, made: u64, device: &str, host: u8) -> Sandbox {
        Sandbox {
            key: SandboxKey::new(PodKey::new("shop", of), of),
            uid: None,
            addresses: vec![IpAddr::from([10, 244, 1, host])],
            made: Duration::from_secs(made),
            devices: vec!["cni0".into(), device.into()],
            hardware: None,
        }
    }

    fn port(index: u32, name: &str) -> Change {
        Change::Link(LinkChange::Port(BridgePort { index, name: name.into(), is_veth: true }))
    }

    fn at(cluster: &Cluster, index: u32) -> Option<&str> {
        cluster.sandbox_at(index).map(|sandbox| &*sandbox.key.name)
    }

    #[test]
    fn port_is_its_sandboxes_whichever_is_reported_first() {
        let facts = [port(7, "veth1"), Change::Sandbox(sandbox("web", 1, "veth1", 10))];
        for order in [[0, 1], [1, 0]] {
            let mut cluster = Cluster::new("node-a");
            let touched: Vec<_> = order.map(|at| cluster.apply(facts[at].clone())).into();
            assert_eq!(at(&cluster, 7), Some("web"));
            assert!(touched[1].ports.contains(&7), "the second fact binds the port");
            assert_eq!(cluster.ports_of(&PodKey::new("shop", "web")).collect::<Vec<_>>(), [7]);
        }
    }

    #[test]
    fn renamed_port_keeps_its_sandbox_and_a_new_device_of_the_old_name_does_not_get_it() {
        let mut cluster = Cluster::new("node-a");
        cluster.apply(Change::Sandbox(sandbox("web", 1, "veth1", 10)));
        cluster.apply(port(7, "veth1"));
        cluster.apply(port(7, "other"));
        assert_eq!(at(&cluster, 7), Some("web"));
        cluster.apply(port(8, "veth1"));
        assert_eq!([at(&cluster, 7), at(&cluster, 8)], [Some("web"), None]);
    }

    #[test]
    fn vanished_port_is_nobodys_and_its_index_may_come_back_as_another_port() {
        let mut cluster = Cluster::new("node-a");
        cluster.apply(Change::Sandbox(sandbox("web", 1, "veth1", 10)));
        cluster.apply(port(7, "veth1"));
        assert!(cluster.apply(Change::Link(LinkChange::PortGone(7))).ports.contains(&7));
        assert_eq!((at(&cluster, 7), cluster.port(7)), (None, None));
        cluster.apply(port(7, "veth2"));
        assert_eq!(at(&cluster, 7), None);
        cluster.apply(port(9, "veth1"));
        assert_eq!(at(&cluster, 9), Some("web"));
    }

    #[test]
    fn of_two_results_that_name_one_port_the_later_has_it() {
        for order in [[1, 2], [2, 1]] {
            let mut cluster = Cluster::new("node-a");
            cluster.apply(port(7, "veth1"));
            for made in order {
                let name = if made == 1 { "stale" } else { "web" };
                cluster.apply(Change::Sandbox(sandbox(name, made, "veth1", 10 + made as u8)));
            }
            assert_eq!(at(&cluster, 7), Some("web"));
            cluster.apply(Change::SandboxGone(SandboxKey::new(PodKey::new("shop", "web"), "web")));
            assert_eq!(at(&cluster, 7), Some("stale"));
        }
    }

    #[test]
    fn device_that_got_the_name_of_a_renamed_port_gets_its_sandbox_when_that_port_is_gone() {
        let mut cluster = Cluster::new("node-a");
        let facts = [port(7, "veth1"), port(7, "other"), port(8, "veth1")];
        cluster.apply(Change::Sandbox(sandbox("web", 1, "veth1", 10)));
        facts.into_iter().for_each(|fact| drop(cluster.apply(fact)));
        let touched = cluster.apply(Change::Link(LinkChange::PortGone(7)));
        assert!(touched.ports.contains(&8));
        assert_eq!(at(&cluster, 8), Some("web"));
    }

    #[test]
    fn result_that_names_another_device_moves_its_sandbox_to_that_port() {
        let mut cluster = Cluster::new("node-a");
        let facts = [port(7, "veth1"), port(8, "veth2"), Change::Sandbox(sandbox("web", 1, "veth1", 10))];
        facts.into_iter().for_each(|fact| drop(cluster.apply(fact)));
        let touched = cluster.apply(Change::Sandbox(sandbox("web", 1, "veth2", 10)));
        assert!(touched.ports.contains(&7) && touched.ports.contains(&8));
        assert_eq!([at(&cluster, 7), at(&cluster, 8)], [None, Some("web")]);
    }

    #[test]
    fn address_that_a_later_sandbox_gives_up_is_the_earlier_ones_port_again() {
        let gives_up = [
            Change::SandboxGone(SandboxKey::new(PodKey::new("shop", "new"), "new")),
            Change::Sandbox(sandbox("new", 2, "veth2", 11)),
        ];
        for change in gives_up {
            let mut cluster = Cluster::new("node-a");
            let sandboxes = [sandbox("old", 1, "veth1", 10), sandbox("new", 2, "veth2", 10)];
            let facts = [port(1, "veth1"), port(2, "veth2")].into_iter();
            let facts = facts.chain(sandboxes.map(Change::Sandbox));
            facts.for_each(|fact| drop(cluster.apply(fact)));
            assert!(cluster.addresses_at(1).is_empty());
            assert!(cluster.apply(change).ports.contains(&1), "what it may send changes");
            assert_eq!(cluster.addresses_at(1).len(), 1);
        }
    }

    #[test]
    fn address_of_two_ports_is_the_later_ones_alone() {
        for order in [[1, 2], [2, 1]] {
            let mut cluster = Cluster::new("node-a");
            cluster.apply(port(1, "veth1"));
            cluster.apply(port(2, "veth2"));
            let mut last = Touched::default();
            for made in order {
                let (name, device) = if made == 1 { ("old", "veth1") } else { ("new", "veth2") };
                last = cluster.apply(Change::Sandbox(sandbox(name, made, device, 10)));
            }
            assert!(last.ports.contains(&1), "what the old one may send changes");
            assert_eq!((cluster.addresses_at(1).len(), cluster.addresses_at(2).len()), (0, 1));
            let touched = cluster.apply(Change::Link(LinkChange::PortGone(2)));
            assert!(touched.ports.contains(&1));
            assert_eq!(cluster.addresses_at(1).len(), 1);
        }
    }
}
