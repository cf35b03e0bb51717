//! The whole pure way, from one fact to the steps that the kernel needs for it.

use super::coexistence::{Coexistence, Standing, Takeover};
use super::inventory::Elements;
use crate::apply::{Actual, Applier, ConcurrentEdits, Step};
use crate::compile::{Decision, Limits, Plan, UnknownPods};
use crate::model::{Change, Cluster, Direction, InvalidPart, PolicyKey};
use crate::net::Flow;
use crate::netfilter::{ChainName, Ruleset};
use crate::render::{Options, Renderer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is known, what must be enforced, and what the kernel holds.
#[derive(Clone, Debug)]
pub struct Enforcer {
    cluster: Cluster,
    plan: Plan,
    renderer: Renderer,
    /// What the kernel holds; nothing until it was read, and again after a step failed.
    applier: Option<Applier>,
    /// Whether it is to be read to see that it does.
    audits: bool,
    elements: Elements,
    coexistence: Coexistence,
}

/// Steps for the kernel, and whose connections to look at once they are done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// The steps, in order. None means that the kernel is right.
    pub steps: Vec<Step>,
    /// Addresses some of whose connections may have lost what allowed them.
    pub revoked: BTreeSet<IpAddr>,
    /// What may be carried out while these steps are; `None` for nothing.
    pub concurrent: Option<ConcurrentEdits>,
}

impl Enforcer {
    /// Starts with an empty cluster, for the node of this name.
    pub fn new(node: &str, options: Options) -> Enforcer {
        Enforcer {
            cluster: Cluster::new(node),
            plan: Plan::default(),
            renderer: Renderer::new(options),
            applier: None,
            audits: false,
            elements: Elements::default(),
            coexistence: Coexistence::default(),
        }
    }

    /// The same, with this choice about pods that the API has not reported. To be made before the first change.
    pub fn with_unknown_pods(self, unknown_pods: UnknownPods) -> Enforcer {
        let plan = Plan::new(unknown_pods).with_limits(*self.plan.limits());
        let refuse_unassigned = unknown_pods == UnknownPods::Reject;
        let options = Options { refuse_unassigned, ..self.options().clone() };
        Enforcer { plan, renderer: Renderer::new(options), ..self }
    }

    /// The same, with these limits of what one policy may cost. To be chosen before the first fact.
    pub fn with_limits(self, limits: Limits) -> Enforcer {
        Enforcer { plan: self.plan.with_limits(limits), ..self }
    }

    /// The same, with this choice about what other controllers have left.
    pub fn with_takeover(self, takeover: Takeover) -> Enforcer {
        Enforcer { coexistence: Coexistence::new(takeover), ..self }
    }

    /// An enforcer like this one that knows only the node's sandboxes: it isolates each, and leaves alone what other
    /// controllers have left. `None` if unknown pods are open.
    pub fn of_sandboxes_alone(&self) -> Option<Enforcer> {
        match self.plan.unknown_pods() {
            UnknownPods::Reject => Some(Enforcer::new(self.cluster.node(), self.options().clone())),
            UnknownPods::Allow => None,
        }
    }

    /// How it stood to other controllers when the kernel was read last.
    pub fn standing(&self) -> &Standing {
        self.coexistence.standing()
    }

    /// Whether the steps given out last remove what another controller has left.
    pub fn removes(&self) -> bool {
        matches!(self.standing(), Standing::Removes(_))
    }

    /// Takes in one fact.
    pub fn apply(&mut self, change: Change) {
        let touched = self.cluster.apply(change);
        if !touched.is_empty() {
            self.plan.update(&self.cluster, &touched);
        }
    }

    /// Whether the kernel needs something: because facts changed, or because it must be read first.
    pub fn is_behind(&self) -> bool {
        self.must_read() || self.plan.has_changed() || self.plan.is_staging()
    }

    /// Whether the kernel must be read before rules can be written.
    pub fn must_read(&self) -> bool {
        self.audits || self.applier.is_none()
    }

    /// Forgets what the kernel holds, because a step failed.
    pub fn invalidate(&mut self) {
        self.applier = None;
    }

    /// Asks for the kernel to be read, because another program may have changed it.
    pub fn audit(&mut self) {
        self.audits = true;
    }

    /// Compares all that must hold with what the kernel was read to hold. Beside another controller nothing is begun: then there
    /// are no steps, and the kernel must be read again.
    pub fn adopt(&mut self, actual: &Actual) -> Flush {
        let removal = match self.coexistence.look(actual) {
            Standing::Waits(_) => {
                self.applier = None;
                return Flush::default();
            }
            Standing::Removes(_) => actual.controllers.removal().collect(),
            Standing::Alone | Standing::Keeps(_) | Standing::WrittenAgain(_) => Vec::new(),
        };
        self.plan.hold_members(&self.cluster);
        let delta = self.plan.take(&self.cluster);
        self.renderer.forget(&self.plan, &delta);
        let desired = self.ruleset();
        self.elements = Elements::of(&desired);
        let (applier, mut steps) = Applier::adopt(desired, actual);
        // After all our steps. Whether it stays removed is checked at once.
        self.audits = !removal.is_empty();
        steps.extend(removal);
        self.applier = Some(applier);
        // The first time everything is made at once: what a program before this one allowed must not be refused in between.
        self.plan.slice();
        let revoked = if steps.is_empty() { delta.revoked } else { self.every_isolated_address() };
        Flush { steps, revoked, concurrent: None }
    }

    /// Carries what changed since the last time to the kernel. Nothing unless the kernel was adopted.
    pub fn flush(&mut self) -> Flush {
        let Some(applier) = &mut self.applier else { return Flush::default() };
        self.plan.advance(&self.cluster);
        let delta = self.plan.take(&self.cluster);
        let edit = self.renderer.edit(&self.cluster, &self.plan, &delta);
        let (steps, concurrent) = applier.edit(edit, &|address| is_isolated(&self.plan, address));
        steps.iter().for_each(|step| self.elements.follow(step));
        Flush { steps, revoked: delta.revoked, concurrent }
    }

    /// The same while another flush is in flight, if only members of sets changed and that flush permits it. Otherwise `None`, and
    /// what changed waits for the next flush.
    pub fn flush_concurrently(&mut self, concurrent: &ConcurrentEdits) -> Option<Flush> {
        let applier = self.applier.as_mut()?;
        let edit = self.renderer.edit(&self.cluster, &self.plan, self.plan.pending_members()?);
        let steps =
            applier.edit_concurrently(concurrent, edit, &|address| is_isolated(&self.plan, address))?;
        let delta = self.plan.take_members()?;
        steps.iter().for_each(|step| self.elements.follow(step));
        Some(Flush { steps, revoked: delta.revoked, concurrent: None })
    }

    /// All that must be in the kernel, from nothing.
    pub fn ruleset(&mut self) -> Ruleset {
        self.renderer.ruleset(&self.cluster, &self.plan)
    }

    /// Whose each policy's chain is.
    pub fn policy_chains(&self) -> BTreeMap<ChainName, (PolicyKey, Direction)> {
        self.renderer.policy_chains()
    }

    /// What this node's policies decide about a connection, and why.
    pub fn decide(&self, flow: &Flow) -> Decision<'_> {
        self.plan.decide(&self.cluster, flow)
    }

    /// Whether it is not known yet what an address is allowed, as sets are still being made for a policy about it.
    pub fn is_undecided(&self, address: IpAddr) -> bool {
        self.plan.is_undecided(&self.cluster, address)
    }

    /// What is true.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What must hold.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the kernel holds, if it was read.
    pub fn applier(&self) -> Option<&Applier> {
        self.applier.as_ref()
    }

    /// How many elements each set holds.
    pub(super) fn elements(&self) -> &Elements {
        &self.elements
    }

    /// The options it renders with.
    pub fn options(&self) -> &Options {
        self.renderer.options()
    }

    /// The parts of policies that could not be understood.
    pub fn refusals(&self) -> impl Iterator<Item = &InvalidPart> {
        self.cluster.policies().flat_map(|policy| &policy.invalid_parts)
    }

    fn every_isolated_address(&self) -> BTreeSet<IpAddr> {
        self.plan.isolations().values().flat_map(|guard| guard.addresses.iter().copied()).collect()
    }
}

/// Whether a pod at an address is isolated in any direction.
fn is_isolated(plan: &Plan, address: IpAddr) -> bool {
    Direction::BOTH.into_iter().any(|direction| plan.is_isolated(direction, address))
}
