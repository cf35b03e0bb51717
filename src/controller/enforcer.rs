//! The complete path without I/O, from one fact to the steps that the kernel needs for it.

use super::coexistence::{Coexistence, Standing, Takeover};
use super::rollout::{self, Rollout};
use crate::apply::{Actual, Step};
use crate::backend::{self, Backend, ConcurrentEdits, Update, View};
use crate::compile::{Decision, Delta, Limits, Plan, SetDelta, UnknownPods};
use crate::model::{Change, Cluster, Direction, InvalidPart, PolicyKey};
use crate::net::Flow;
use crate::netfilter::Ruleset;
use crate::render::Options;
use crate::verify::Expectation;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is known, what must be enforced, and what the kernel holds.
#[derive(Clone, Debug)]
pub struct Enforcer {
    pub(super) cluster: Cluster,
    pub(super) plan: Plan,
    pub(super) rollout: Rollout,
    backend: Box<dyn Backend>,
    /// Whether the kernel must be read to check that it holds what it should.
    audits: bool,
    /// Whether the kernel was ever adopted.
    was_adopted: bool,
    coexistence: Coexistence,
}

/// Steps for the kernel, and the addresses whose connections must be checked afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// The steps, in order. No steps mean that the kernel is correct.
    pub steps: Vec<Step>,
    /// Addresses with connections that may no longer be allowed.
    pub revoked: BTreeSet<IpAddr>,
    /// Addresses for which more may be allowed after the steps.
    pub granted: BTreeSet<IpAddr>,
    /// What may be carried out concurrently with the steps; `None` for nothing.
    pub concurrent: Option<ConcurrentEdits>,
}

impl Enforcer {
    /// Starts with an empty cluster, for the node of this name.
    pub fn new(node: &str, options: Options) -> Enforcer {
        Enforcer {
            cluster: Cluster::new(node),
            plan: Plan::default(),
            rollout: Rollout::default(),
            backend: backend::new(options),
            audits: false,
            was_adopted: false,
            coexistence: Coexistence::default(),
        }
    }

    /// Sets how pods are treated that the API server has not reported. Must be called before the first change.
    pub fn with_unknown_pods(self, unknown_pods: UnknownPods) -> Enforcer {
        let plan = Plan::new(unknown_pods).with_limits(*self.plan.limits());
        let refuse_unassigned = unknown_pods == UnknownPods::Reject;
        let options = Options { refuse_unassigned, ..self.options().clone() };
        Enforcer { plan, backend: backend::new(options), ..self }
    }

    /// Sets the limits for one policy. Must be called before the first fact.
    pub fn with_limits(self, limits: Limits) -> Enforcer {
        Enforcer { plan: self.plan.with_limits(limits), ..self }
    }

    /// Sets what to do with the rules that other controllers have left.
    pub fn with_takeover(self, takeover: Takeover) -> Enforcer {
        Enforcer { coexistence: Coexistence::new(takeover), ..self }
    }

    /// An enforcer with the same options that knows only the node's sandboxes: it isolates all of them, and does not
    /// touch what other controllers have left. `None` if unknown pods are allowed.
    pub fn of_sandboxes_alone(&self) -> Option<Enforcer> {
        match self.plan.unknown_pods() {
            UnknownPods::Reject => Some(Enforcer::new(self.cluster.node(), self.options().clone())),
            UnknownPods::Allow => None,
        }
    }

    /// How other controllers were treated when the kernel was last read.
    pub fn standing(&self) -> &Standing {
        self.coexistence.standing()
    }

    /// Whether the steps that were last returned remove what another controller has left.
    pub fn removes(&self) -> bool {
        matches!(self.standing(), Standing::Removes(_))
    }

    /// Applies one fact.
    pub fn apply(&mut self, change: Change) {
        self.apply_unsettled(change);
        self.settle();
    }

    /// Applies one fact of several. [`Enforcer::settle`] must be called after the last, before the plan is used.
    pub(super) fn apply_unsettled(&mut self, change: Change) {
        let before = rollout::version_before(&self.cluster, &change);
        let touched = self.cluster.apply(change);
        self.policies_changed(&touched.policies, before);
        if !touched.is_empty() {
            self.plan.update_unsettled(&self.cluster, &touched);
        }
    }

    /// Updates the plan for all facts that were applied since the last time.
    pub fn settle(&mut self) {
        self.plan.settle(&self.cluster);
    }

    /// Whether there is something to write, because facts changed, or the kernel must be read first.
    pub fn is_behind(&self) -> bool {
        self.must_read() || self.plan.has_changed() || self.plan.is_staging()
    }

    /// Whether the kernel must be read before rules can be written.
    pub fn must_read(&self) -> bool {
        self.audits || self.is_unread()
    }

    /// Whether the content of the kernel is unknown, because it was not read yet or a step failed.
    pub fn is_unread(&self) -> bool {
        !self.backend.is_adopted()
    }

    /// Forgets what the kernel holds, because a step failed.
    pub fn invalidate(&mut self) {
        self.backend.forget();
    }

    /// Requests a read of the kernel, because another program may have changed it.
    pub fn audit(&mut self) {
        self.audits = true;
    }

    /// Compares everything that must hold with what was read from the kernel. If another controller prevents writing,
    /// there are no steps, and the kernel must be read again.
    pub fn adopt(&mut self, actual: &Actual) -> Flush {
        let removal = match self.coexistence.look(actual) {
            Standing::Waits(_) => {
                self.backend.forget();
                return Flush::default();
            }
            Standing::Removes(_) => actual.controllers.removal().collect(),
            Standing::Alone | Standing::Keeps(_) | Standing::WrittenAgain(_) => Vec::new(),
        };
        self.plan.hold_members(&self.cluster);
        let delta = self.plan.take(&self.cluster);
        let view = View { cluster: &self.cluster, plan: &self.plan };
        let mut steps = self.backend.adopt(view, &delta, actual);
        // This runs after all other steps. The next read checks at once whether it stays removed.
        self.audits = !removal.is_empty();
        steps.extend(removal);
        // The first time, everything is made at once, not in slices: what the previous program allowed must not be
        // denied in between.
        self.plan.slice();
        let granted = granted(&delta);
        let mut revoked = if steps.is_empty() { delta.revoked } else { self.every_isolated_address() };
        if !std::mem::replace(&mut self.was_adopted, true) {
            // The previous program may have cut a connection whose pod is not isolated any more.
            revoked.extend(self.plan.local());
        }
        Flush { steps, revoked, granted, concurrent: None }
    }

    /// Returns the steps for what changed since the last flush. None unless the kernel was adopted.
    pub fn flush(&mut self) -> Flush {
        if self.is_unread() {
            return Flush::default();
        }
        self.plan.advance(&self.cluster);
        let delta = self.plan.take(&self.cluster);
        let view = View { cluster: &self.cluster, plan: &self.plan };
        let Update { steps, concurrent } = self.backend.update(view, &delta);
        let granted = granted(&delta);
        Flush { steps, revoked: delta.revoked, granted, concurrent }
    }

    /// The same while another flush is in progress, if only members of sets changed and that flush permits it.
    /// Otherwise `None`, and the changes wait for the next flush.
    pub fn flush_concurrently(&mut self, concurrent: &ConcurrentEdits) -> Option<Flush> {
        let view = View { cluster: &self.cluster, plan: &self.plan };
        let steps = self.backend.update_concurrently(view, self.plan.pending_members()?, concurrent)?;
        let delta = self.plan.take_members()?;
        let granted = granted(&delta);
        Some(Flush { steps, revoked: delta.revoked, granted, concurrent: None })
    }

    /// The complete desired state of the kernel.
    pub fn ruleset(&mut self) -> Ruleset {
        self.backend.ruleset(View { cluster: &self.cluster, plan: &self.plan })
    }

    /// The policies by the chains or counters of the kernel that count what each allows.
    pub fn policy_counters(&self) -> BTreeMap<Box<str>, (PolicyKey, Direction)> {
        self.backend.policy_counters()
    }

    /// What this node's policies decide about a connection, and why.
    pub fn decide(&self, flow: &Flow) -> Decision<'_> {
        self.plan.decide(&self.cluster, flow)
    }

    /// Whether it is not known yet what an address is allowed, because the sets of a policy for it are still being
    /// made.
    pub fn is_undecided(&self, address: IpAddr) -> bool {
        self.plan.is_undecided(&self.cluster, address)
    }

    /// What must hold on this node, to be compared with a kernel.
    pub fn expectation(&self) -> Expectation {
        Expectation::of(&self.cluster, &self.plan)
    }

    /// What is known of the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What this node must enforce.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The packet filter.
    pub fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    /// The options it renders with.
    pub fn options(&self) -> &Options {
        self.backend.options()
    }

    /// The parts of policies that could not be understood.
    pub fn refusals(&self) -> impl Iterator<Item = &InvalidPart> {
        self.cluster.policies().flat_map(|policy| &policy.invalid_parts)
    }

    fn every_isolated_address(&self) -> BTreeSet<IpAddr> {
        self.plan.isolations().values().flat_map(|guard| guard.addresses.iter().copied()).collect()
    }
}

/// Addresses that joined sets that allow, or that are no longer isolated.
fn granted(delta: &Delta) -> BTreeSet<IpAddr> {
    let members = delta.sets.values().filter_map(|change| match change {
        SetDelta::Members(members) => Some(members),
        SetDelta::Fresh | SetDelta::Retired => None,
    });
    let came = members.flatten().filter(|(_, came)| **came).map(|(member, _)| member.address());
    let local = delta.local.iter().filter(|(_, came)| **came).map(|(address, _)| *address);
    let freed = delta.isolated.iter().filter(|(_, isolated)| !**isolated).map(|((_, address), _)| *address);
    came.chain(local).chain(freed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Member, Scope, SetDefinition};
    use crate::model::Selector;
    use std::sync::Arc;

    #[test]
    fn addresses_that_join_sets_or_are_isolated_no_longer_are_granted_more() {
        let address = |host: u8| IpAddr::from([10, 0, 0, host]);
        let everyone = Arc::new(SetDefinition::Pods {
            namespaces: Scope::Matching(Selector::everything()),
            pods: Selector::everything(),
        });
        let members = [(Member::Address(address(1)), true), (Member::Address(address(2)), false)];
        let delta = Delta {
            sets: [(everyone, SetDelta::Members(members.into()))].into(),
            local: [(address(3), true), (address(4), false)].into(),
            isolated: [((Direction::Egress, address(5)), false), ((Direction::Egress, address(6)), true)]
                .into(),
            ..Delta::default()
        };
        assert_eq!(granted(&delta), BTreeSet::from([1, 3, 5].map(address)));
    }
}
