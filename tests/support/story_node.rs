//! One node to which a story happens, with a kernel in memory.

use crate::backends::options;
use crate::packets::facts;
use crate::worlds::{Change as StoryChange, Scene};
use bridgewarden::apply::{Actual, Fake, KernelError, PacketFilter, Step};
use bridgewarden::compile::Limits;
use bridgewarden::controller::{Enforcer, Flush};
use bridgewarden::model::{Change, NamespaceName, PodKey, PolicyKey};
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::{Binding, Options};
use bridgewarden::source::convert;

/// A change of a story as the model's change, for a node; `None` if it is only reported to another node.
pub fn fact(change: &StoryChange, node: &str) -> Option<Change> {
    Some(match change {
        StoryChange::Namespace(namespace) => Change::Namespace(convert::namespace(namespace)),
        StoryChange::NamespaceGone(name) => Change::NamespaceGone(NamespaceName::new(name)),
        StoryChange::Pod(pod) => Change::Pod(convert::pod(pod).0),
        StoryChange::PodGone { namespace, name } => Change::PodGone(PodKey::new(namespace, name)),
        StoryChange::Policy(policy) => Change::Policy(convert::policy(policy)),
        StoryChange::PolicyGone { namespace, name } => Change::PolicyGone(PolicyKey::new(namespace, name)),
        StoryChange::Sandbox(of, _) | StoryChange::SandboxGone(of, _) | StoryChange::Link(of, _)
            if *of != node =>
        {
            return None;
        }
        StoryChange::Sandbox(_, sandbox) => Change::Sandbox(sandbox.clone()),
        StoryChange::SandboxGone(_, key) => Change::SandboxGone(key.clone()),
        StoryChange::Link(_, change) => Change::Link(change.clone()),
    })
}

/// What is reported to a node about a scene, in the usual order.
pub fn first_lists(name: &str, scene: &Scene) -> Vec<Change> {
    let sandboxes = scene.sandboxes_of(name).cloned().map(Change::Sandbox);
    let links = scene.links_of(name).map(Change::Link);
    facts(scene).into_iter().chain(sandboxes).chain(links).collect()
}

/// An enforcer of a node to which a whole scene was reported in this order.
fn enforcer(backend: BackendName, name: &str, scene: &Scene, order: Order, limits: Limits) -> Enforcer {
    let mut enforcer = Enforcer::new(name, options(backend)).with_limits(limits);
    let mut facts = first_lists(name, scene);
    if order == Order::Reversed {
        facts.reverse();
    }
    for fact in facts {
        enforcer.apply(fact);
    }
    enforcer
}

/// The kernel of a node that denies nothing.
///
/// # Panics
/// The kernel in memory rejects what is written to it.
pub fn open_kernel() -> Fake {
    let mut enforcer = Enforcer::new("node-b", Options { binding: Binding::Off, ..Options::default() });
    let mut kernel = Fake::default();
    let actual = Actual::read(&mut kernel).expect("it is read");
    for step in enforcer.adopt(&actual).steps {
        kernel.commit(&step).expect("it is written");
    }
    kernel
}

/// The order in which a first list is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Namespaces, pods, policies, sandboxes, links.
    Usual,
    /// Links, sandboxes, policies, pods, namespaces, each list from its end.
    Reversed,
}

/// A node with its kernel.
#[derive(Clone, Debug)]
pub struct StoryNode {
    name: String,
    /// The limits for one policy.
    pub limits: Limits,
    /// Its view of the cluster and the rules.
    pub enforcer: Enforcer,
    /// What its kernel holds.
    pub kernel: Fake,
}

impl StoryNode {
    /// A node that has just enforced a scene.
    pub fn start(backend: BackendName, name: &str, scene: &Scene, order: Order) -> StoryNode {
        StoryNode::within(backend, name, scene, order, Limits::default())
    }

    /// The same, with these limits for one policy.
    pub fn within(
        backend: BackendName,
        name: &str,
        scene: &Scene,
        order: Order,
        limits: Limits,
    ) -> StoryNode {
        let enforcer = enforcer(backend, name, scene, order, limits);
        let mut kernel = Fake::default();
        kernel.switch_backend(backend);
        let mut node = StoryNode { name: name.into(), limits, enforcer, kernel };
        node.adopt().expect("a fresh kernel takes everything");
        node
    }

    /// Applies a change, if it is reported to this node.
    pub fn apply(&mut self, change: &StoryChange) {
        if let Some(fact) = fact(change, &self.name) {
            self.enforcer.apply(fact);
        }
    }

    /// Reads the kernel and writes differences.
    pub fn adopt(&mut self) -> Result<Flush, KernelError> {
        let actual = Actual::read(&mut self.kernel)?;
        let flush = self.enforcer.adopt(&actual);
        self.commit(&flush.steps)?;
        Ok(flush)
    }

    /// Forgets everything except the kernel and starts again with a scene.
    pub fn restart(&mut self, scene: &Scene) -> Flush {
        self.enforcer = enforcer(self.kernel.backend(), &self.name, scene, Order::Usual, self.limits);
        self.adopt().expect("a kernel takes what it held")
    }

    /// Enforces the changes that were reported to the node.
    ///
    /// # Panics
    /// The kernel rejects a step.
    /// When the kernel rejects a step.
    #[track_caller]
    pub fn flush(&mut self) {
        let steps = self.enforcer.flush().steps;
        self.commit(&steps).unwrap_or_else(|error| panic!("{steps:?}: {error}"));
    }

    /// Carries out steps until one fails.
    pub fn commit(&mut self, steps: &[Step]) -> Result<(), KernelError> {
        steps.iter().try_for_each(|step| {
            let done = self.kernel.commit(step);
            if done.is_err() {
                self.enforcer.invalidate();
            }
            done
        })
    }
}
