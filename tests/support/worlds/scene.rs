//! A cluster together with what each node knows locally: the sandboxes of its pods, and the ports of its bridge.

use bridgewarden::explain::oracle::World;
use bridgewarden::model::{Bridge, BridgePort, LinkChange, Sandbox, SandboxKey};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// A cluster, and the sandboxes and bridges of its nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// The objects in the API.
    pub world: World,
    /// By node: its sandboxes.
    pub sandboxes: BTreeMap<&'static str, BTreeMap<SandboxKey, Sandbox>>,
    /// By node: its own interface on its bridge.
    pub bridges: BTreeMap<&'static str, Bridge>,
    /// By node: the ports of its bridge, by index.
    pub ports: BTreeMap<&'static str, BTreeMap<u32, BridgePort>>,
}

impl Scene {
    /// The sandboxes of a node.
    pub fn sandboxes_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Sandbox> {
        self.sandboxes.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// The ports of a node's bridge.
    pub fn ports_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a BridgePort> {
        self.ports.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// A node's bridge and its ports, as its kernel would list them.
    pub fn links_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = LinkChange> {
        let bridge = self.bridges.get(node).cloned().map(LinkChange::Bridge);
        bridge.into_iter().chain(self.ports_of(node).cloned().map(LinkChange::Port))
    }
}

impl From<World> for Scene {
    fn from(world: World) -> Scene {
        Scene { world, ..Scene::default() }
    }
}

impl Deref for Scene {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}
