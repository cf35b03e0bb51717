//! One node that lives through a story on a kernel in memory.

use crate::packets::{enforcer, facts};
use crate::worlds::Change as Told;
use bridgewarden::apply::{Actual, Fake, Kernel, KernelError, Step};
use bridgewarden::controller::{Enforcer, Flush};
use bridgewarden::explain::oracle::World;
use bridgewarden::model::{Change, NamespaceName, PodKey, PolicyKey};
use bridgewarden::render::Options;
use bridgewarden::source::lower;

/// A told change as the model's fact.
pub fn fact(told: &Told) -> Change {
    match told {
        Told::Namespace(namespace) => Change::Namespace(lower::namespace(namespace)),
        Told::NamespaceGone(name) => Change::NamespaceGone(NamespaceName::new(name)),
        Told::Pod(pod) => Change::Pod(lower::pod(pod).0),
        Told::PodGone { namespace, name } => Change::PodGone(PodKey::new(namespace, name)),
        Told::Policy(policy) => Change::Policy(lower::policy(policy)),
        Told::PolicyGone { namespace, name } => Change::PolicyGone(PolicyKey::new(namespace, name)),
    }
}

/// The order in which a first list is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Namespaces, pods, policies.
    Usual,
    /// Policies before pods, pods before namespaces, each list from its end.
    Reversed,
}

/// A node with its kernel.
#[derive(Clone, Debug)]
pub struct StoryNode {
    name: String,
    /// What it believes.
    pub enforcer: Enforcer,
    /// What its kernel holds.
    pub kernel: Fake,
}

impl StoryNode {
    /// A node that has just enforced a world.
    pub fn start(name: &str, world: &World, order: Order) -> StoryNode {
        let mut enforcer = Enforcer::new(name, Options::default());
        let mut facts = facts(world);
        if order == Order::Reversed {
            facts.reverse();
        }
        for fact in facts {
            enforcer.apply(fact);
        }
        let mut node = StoryNode { name: name.into(), enforcer, kernel: Fake::default() };
        node.adopt().expect("a fresh kernel takes everything");
        node
    }

    /// Reads the kernel and makes it right.
    pub fn adopt(&mut self) -> Result<Flush, KernelError> {
        let actual = Actual::read(&mut self.kernel)?;
        let flush = self.enforcer.adopt(&actual);
        self.commit(&flush.steps)?;
        Ok(flush)
    }

    /// Forgets everything but the kernel and starts again with a world.
    pub fn restart(&mut self, world: &World) -> Flush {
        self.enforcer = enforcer(world, &self.name);
        self.adopt().expect("a kernel takes what it held")
    }

    /// Carries out steps until one fails.
    pub fn commit(&mut self, steps: &[Step]) -> Result<(), KernelError> {
        steps.iter().try_for_each(|step| {
            let done = self.kernel.commit(step);
            if done.is_err() {
                self.enforcer.distrust();
            }
            done
        })
    }
}
