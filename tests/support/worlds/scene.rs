//! A cluster together with what its nodes say of their own: the sandboxes of their pods.

use bridgewarden::explain::oracle::World;
use bridgewarden::model::{Sandbox, SandboxKey};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// A cluster, and the sandboxes on its nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// What the API shows.
    pub world: World,
    /// By node: its sandboxes.
    pub sandboxes: BTreeMap<&'static str, BTreeMap<SandboxKey, Sandbox>>,
}

impl Scene {
    /// The sandboxes of a node.
    pub fn sandboxes_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Sandbox> {
        self.sandboxes.get(node).into_iter().flat_map(BTreeMap::values)
    }
}

impl From<World> for Scene {
    fn from(world: World) -> Scene {
        Scene { world, sandboxes: BTreeMap::new() }
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
