//! The seam between what a node must enforce and the packet filter that enforces it.
//!
//! A backend renders the plan in the words of its packet filter, remembers what the kernel holds, and returns the steps that make
//! the kernel equal to the plan. To add one: write its renderer in `render`, its steps in `apply`, implement [`Backend`] here, and
//! name it in [`BackendName`](crate::netfilter::BackendName).

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

/// What is known and what must hold, to be read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is known.
    pub cluster: &'a Cluster,
    /// What must hold.
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
    /// Everything that must be in the kernel.
    fn ruleset(&mut self, view: View<'_>) -> Ruleset;

    /// Compares everything that must be in the kernel with what was read from it, and returns the steps that make them equal, rules
    /// that other backends left included. No steps: the kernel was right. `delta` was just taken from the plan, and has no
    /// steps of its own.
    fn adopt(&mut self, view: View<'_>, delta: &Delta, actual: &Actual) -> Vec<Step>;

    /// The steps that carry what changed in the plan to the kernel; none unless the kernel was adopted. If one of them fails, the
    /// kernel must be read and adopted again.
    fn update(&mut self, view: View<'_>, delta: &Delta) -> Update;

    /// The same while the steps of another update are being carried out, if that permits it and only members of sets changed.
    fn update_concurrently(
        &mut self,
        view: View<'_>,
        delta: &Delta,
        concurrent: &ConcurrentEdits,
    ) -> Option<Vec<Step>>;

    /// Forgets what the kernel holds, because a step failed or must not be carried out.
    fn forget(&mut self);

    /// Whether it is known what the kernel holds: it was adopted, and not forgotten since.
    fn is_adopted(&self) -> bool;

    /// How much the kernel holds, by family; `None` if it is not known, because it was not read or a step failed.
    fn held(&self) -> Option<[(Family, Held); 2]>;

    /// By which chain or counter of the kernel what a policy has allowed is counted.
    fn policy_counters(&self) -> BTreeMap<Box<str>, (PolicyKey, Direction)>;

    /// The options it renders with.
    fn options(&self) -> &Options;

    /// The same backend in the same state.
    fn boxed_clone(&self) -> Box<dyn Backend>;
}

/// The backend that the options name, before the kernel was read.
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
    /// What may be written while they are being carried out; `None` for nothing.
    pub concurrent: Option<ConcurrentEdits>,
}

/// How much the kernel holds in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Our chains.
    pub chains: usize,
    /// The rules in them.
    pub rules: usize,
    /// Our sets.
    pub sets: usize,
    /// The elements in them.
    pub elements: usize,
}
