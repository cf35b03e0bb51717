//! The interface between what a node must enforce and the packet filter that enforces it.
//!
//! A backend renders the plan for its packet filter, remembers what the kernel holds, and returns the steps that make
//! the kernel equal to the plan. To add one: write its renderer in `render` and its steps in `apply`, implement
//! [`Backend`] here, and name it in [`BackendName`](crate::netfilter::BackendName).

mod iptables;
mod nftables;
mod set_counts;

pub use crate::apply::iptables::ConcurrentEdits;

use crate::apply::{Actual, Step};
use crate::compile::{Delta, Plan};
use crate::model::{Cluster, Direction, PolicyKey};
use crate::net::Family;
use crate::netfilter::iptables::Variant;
use crate::netfilter::{BackendName, Ruleset};
use crate::render::Options;
use iptables::IptablesBackend;
use nftables::NftablesBackend;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

/// A read-only view of the cluster and the plan.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is known of the cluster.
    pub cluster: &'a Cluster,
    /// What this node must enforce.
    pub plan: &'a Plan,
}

impl View<'_> {
    /// Whether a pod at an address is isolated in any direction.
    pub fn is_isolated(&self, address: IpAddr) -> bool {
        Direction::BOTH.into_iter().any(|direction| self.plan.is_isolated(direction, address))
    }
}

/// A packet filter that enforces a plan.
pub trait Backend: Debug + Send + Sync {
    /// The complete desired state of the kernel.
    fn ruleset(&mut self, view: View<'_>) -> Ruleset;

    /// Compares the complete desired state with what was read from the kernel, and returns the steps that make them
    /// equal, including the removal of rules that other backends left. No steps mean that the kernel was correct.
    /// `delta` was just taken from the plan, and needs no steps of its own.
    fn adopt(&mut self, view: View<'_>, delta: &Delta, actual: &Actual) -> Vec<Step>;

    /// The steps that carry the changes of the plan to the kernel; none unless the kernel was adopted. If one of them
    /// fails, the kernel must be read and adopted again.
    fn update(&mut self, view: View<'_>, delta: &Delta) -> Update;

    /// The same while the steps of another update are carried out, if that update permits it and only members of sets
    /// changed.
    fn update_concurrently(
        &mut self,
        view: View<'_>,
        delta: &Delta,
        concurrent: &ConcurrentEdits,
    ) -> Option<Vec<Step>>;

    /// Forgets what the kernel holds, because a step failed or must not be carried out.
    fn forget(&mut self);

    /// Whether the content of the kernel is known: it was adopted, and not forgotten since.
    fn is_adopted(&self) -> bool;

    /// How much the kernel holds, by family; `None` if that is not known, because the kernel was not read or a step
    /// failed.
    fn held(&self) -> Option<[(Family, Held); 2]>;

    /// The policies by the chains or counters of the kernel that count what each allows.
    fn policy_counters(&self) -> BTreeMap<Box<str>, (PolicyKey, Direction)>;

    /// The options that it renders with.
    fn options(&self) -> &Options;

    /// A copy of this backend in its current state.
    fn boxed_clone(&self) -> Box<dyn Backend>;
}

/// The backend that the options name, before the kernel is read.
pub fn new(options: Options) -> Box<dyn Backend> {
    match options.backend {
        BackendName::IptablesNft => Box::new(IptablesBackend::new(Variant::Nft, options)),
        BackendName::IptablesLegacy => Box::new(IptablesBackend::new(Variant::Legacy, options)),
        BackendName::Nftables => Box::new(NftablesBackend::new(options)),
    }
}

impl Clone for Box<dyn Backend> {
    fn clone(&self) -> Box<dyn Backend> {
        self.boxed_clone()
    }
}

/// Steps for the kernel, in an order that is safe to stop after any of them.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The steps.
    pub steps: Vec<Step>,
    /// What may be written while they are carried out; `None` for nothing.
    pub concurrent: Option<ConcurrentEdits>,
}

/// How much the kernel holds in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The number of our chains.
    pub chains: usize,
    /// The number of rules in them.
    pub rules: usize,
    /// The number of our sets.
    pub sets: usize,
    /// The number of elements in them.
    pub elements: usize,
}
