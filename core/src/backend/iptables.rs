//! The backends `iptables-nft` and `iptables-legacy`: iptables with ipset.

use super::set_counts::SetCounts;
use super::{Backend, ConcurrentEdits, Held, Update, View};
use crate::apply::iptables::Applier;
use crate::apply::{Actual, Step};
use crate::compile::Delta;
use crate::model::{Direction, PolicyKey};
use crate::net::Family;
use crate::netfilter::Ruleset;
use crate::netfilter::iptables::Variant;
use crate::render::Options;
use crate::render::iptables::Renderer;
use std::collections::BTreeMap;

/// One variant of iptables, and ipset.
#[derive(Clone, Debug)]
pub(super) struct IptablesBackend {
    variant: Variant,
    renderer: Renderer,
    /// What the kernel holds; `None` until it was read, and again after a step failed.
    applier: Option<Applier>,
    sets: SetCounts,
}

impl IptablesBackend {
    pub(super) fn new(variant: Variant, options: Options) -> IptablesBackend {
        IptablesBackend {
            variant,
            renderer: Renderer::new(options),
            applier: None,
            sets: SetCounts::default(),
        }
    }
}

impl Backend for IptablesBackend {
    fn ruleset(&mut self, view: View<'_>) -> Ruleset {
        self.renderer.ruleset(view.cluster, view.plan)
    }

    fn adopt(&mut self, view: View<'_>, delta: &Delta, actual: &Actual) -> Vec<Step> {
        self.renderer.forget(view.plan, delta);
        let desired = self.ruleset(view);
        self.sets = SetCounts::of(&desired);
        let (applier, steps) = Applier::adopt(self.variant, desired, actual);
        self.applier = Some(applier);
        steps
    }

    fn update(&mut self, view: View<'_>, delta: &Delta) -> Update {
        let Some(applier) = &mut self.applier else { return Update::default() };
        let edit = self.renderer.edit(view.cluster, view.plan, delta);
        let (steps, concurrent) = applier.edit(edit, &|address| view.is_isolated(address));
        steps.iter().for_each(|step| self.sets.follow(step));
        Update { steps, concurrent }
    }

    fn update_concurrently(
        &mut self,
        view: View<'_>,
        delta: &Delta,
        concurrent: &ConcurrentEdits,
    ) -> Option<Vec<Step>> {
        let applier = self.applier.as_mut()?;
        let edit = self.renderer.edit(view.cluster, view.plan, delta);
        let steps = applier.edit_concurrently(concurrent, edit, &|address| view.is_isolated(address))?;
        steps.iter().for_each(|step| self.sets.follow(step));
        Some(steps)
    }

    fn forget(&mut self) {
        self.applier = None;
    }

    fn is_adopted(&self) -> bool {
        self.applier.is_some()
    }

    fn held(&self) -> Option<[(Family, Held); 2]> {
        let applier = self.applier.as_ref()?;
        Some(Family::BOTH.map(|family| {
            let chains = applier.chains(family);
            let (sets, elements) = self.sets.of_family(family);
            let rules = chains.map_or(0, |chains| chains.values().map(Vec::len).sum());
            (family, Held { chains: chains.map_or(0, BTreeMap::len), rules, sets, elements })
        }))
    }

    fn policy_counters(&self) -> BTreeMap<Box<str>, (PolicyKey, Direction)> {
        let chains = self.renderer.policy_chains().into_iter();
        chains.map(|(chain, policy)| (chain.as_str().into(), policy)).collect()
    }

    fn options(&self) -> &Options {
        self.renderer.options()
    }

    fn boxed_clone(&self) -> Box<dyn Backend> {
        Box::new(self.clone())
    }
}
