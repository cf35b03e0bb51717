//! Renders a complete ruleset from the plan, and an edit from its changes.

use super::{audit, dispatch, hook, pod, policy, set};
use crate::compile::{Delta, Plan, Profile, SetDelta, Subject};
use crate::model::{Cluster, Direction, PolicyKey};
use crate::net::Family;
use crate::netfilter::iptables::{Chains, Rule};
use crate::netfilter::{ChainName, Edit, Role, Ruleset, SetEdit, Table};
use crate::render::{
    Binding, Names, Options, audit_chain, bridge_batches, bridge_table, isolated_set, local_set,
    reserved_table,
};
use std::collections::BTreeMap;

type NamedChain = (ChainName, Vec<Rule>);

/// Renders for one node: the options, and the names in use.
#[derive(Clone, Debug, Default)]
pub struct Renderer {
    options: Options,
    names: Names,
}

impl Renderer {
    /// A renderer with these options.
    pub fn new(options: Options) -> Renderer {
        Renderer { options, names: Names::default() }
    }

    /// The options it renders with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The policy and direction of each policy's chain.
    pub fn policy_chains(&self) -> BTreeMap<ChainName, (PolicyKey, Direction)> {
        self.names.policies().map(|(name, policy)| (name.clone(), policy.clone())).collect()
    }

    /// The complete desired state of the kernel.
    pub fn ruleset(&mut self, cluster: &Cluster, plan: &Plan) -> Ruleset {
        let tables = Family::BOTH.map(|family| (family, self.table(plan, family)));
        let mut sets = BTreeMap::new();
        for definition in plan.sets() {
            for family in Family::BOTH.into_iter().filter(|family| definition.has_family(*family)) {
                let whole = set::whole(cluster, plan, definition, family);
                sets.insert(self.names.set(definition, family), whole);
            }
        }
        for direction in Direction::BOTH {
            sets.extend(Family::BOTH.map(|family| set::isolated(plan, direction, family)));
        }
        let binds = self.options.binding == Binding::Ports;
        let bridge = binds.then(|| bridge_table(&self.options, cluster, plan));
        let reserved = binds.then(|| reserved_table(&self.options));
        if self.options.binding != Binding::Off {
            sets.extend(Family::BOTH.map(|family| set::local(plan, family)));
        }
        Ruleset { tables: tables.into(), sets, bridge, reserved, inet: None }
    }

    /// The changes of the desired state that result from changes of the plan.
    pub fn edit(&mut self, cluster: &Cluster, plan: &Plan, delta: &Delta) -> Edit {
        let mut edit = Edit::default();
        for key in &delta.policies {
            for direction in Direction::BOTH {
                self.edit_policy(plan, key, direction, &mut edit);
            }
        }
        for profile in delta.profiles.iter().filter(|profile| pod::has_chain(profile)) {
            self.edit_profile(plan, profile, &mut edit);
        }
        for subject in &delta.isolations {
            for direction in Direction::BOTH {
                self.edit_pod(plan, subject, direction, &mut edit);
            }
        }
        if plan.audits().are_touched_by(delta) {
            self.edit_audits(plan, delta, &mut edit);
        }
        for direction in Direction::BOTH {
            for family in Family::BOTH {
                let changes = dispatch::changes(&mut self.names, plan, direction, family, &delta.judged);
                edit.chains.extend(changes.into_iter().map(|(name, rules)| ((family, name), rules)));
            }
        }
        for (definition, change) in &delta.sets {
            for family in Family::BOTH.into_iter().filter(|family| definition.has_family(*family)) {
                let name = self.names.set(definition, family);
                match change {
                    SetDelta::Fresh => {
                        let whole = set::whole(cluster, plan, definition, family);
                        edit.sets.insert(name, SetEdit::Whole(whole));
                    }
                    SetDelta::Retired => {
                        self.names.forget_set(definition, family);
                        edit.sets.insert(name, SetEdit::Remove);
                    }
                    SetDelta::Members(members) => {
                        let own = members.iter().filter(|(member, _)| Family::of(member.address()) == family);
                        let elements: BTreeMap<_, _> =
                            own.map(|(member, came)| (set::element(*member), *came)).collect();
                        if !elements.is_empty() {
                            let kind = set::kind(definition, family);
                            edit.sets.insert(name, SetEdit::Elements { kind, role: Role::Allows, elements });
                        }
                    }
                }
            }
        }
        self.edit_isolated(delta, &mut edit);
        if self.options.binding != Binding::Off {
            edit_local(delta, &mut edit);
        }
        if self.options.binding == Binding::Ports {
            edit.bridge = bridge_batches(cluster, plan, delta);
        }
        edit
    }

    /// Frees the names of removed objects. Used when no edit is rendered because everything is rendered again.
    pub fn forget(&mut self, plan: &Plan, delta: &Delta) {
        for direction in Direction::BOTH {
            for key in &delta.policies {
                if plan
                    .policies()
                    .get(key)
                    .is_none_or(|block| block.audited || block.allows(direction).is_none())
                {
                    self.names.forget_policy(key, direction);
                }
            }
            for subject in &delta.isolations {
                if plan.isolations().get(subject).is_none_or(|guard| !guard.is_isolated(direction)) {
                    self.names.forget_pod(subject, direction);
                }
            }
            for subject in &delta.audit.subjects {
                if plan.audits().subjects().get(subject).is_none_or(|audit| !audit.is_isolated(direction)) {
                    self.names.forget_audit_pod(subject, direction);
                }
            }
        }
        self.names.forget_unused(plan, delta);
    }

    fn table(&mut self, plan: &Plan, family: Family) -> Table {
        let mut chains: Chains = hook::fixed_chains(&self.options, plan.audits(), family);
        for direction in Direction::BOTH {
            chains.extend(dispatch::chains(&mut self.names, plan, direction, family));
            let guarded = plan.isolations().keys();
            chains.extend(guarded.filter_map(|subject| self.pod_chain(plan, subject, direction, family)));
            chains.extend(
                plan.policies().keys().filter_map(|key| self.policy_chain(plan, key, direction, family)),
            );
        }
        for profile in plan.profiles() {
            chains.extend(self.profile_chain(plan, profile, family));
        }
        let audits = plan.audits();
        if audit::has_chains(audits, family) {
            chains.insert(audit_chain(), audit::dispatch(&mut self.names, audits, family));
        }
        for direction in Direction::BOTH {
            let subjects = audits.subjects().keys();
            chains.extend(
                subjects.filter_map(|subject| self.audit_pod_chain(plan, subject, direction, family)),
            );
        }
        for (key, direction) in audits.policies() {
            chains.extend(self.audit_policy_chain(plan, key, *direction, family));
        }
        for profile in audits.profiles() {
            chains.extend(self.audit_profile_chain(plan, profile, family));
        }
        Table { chains, hooks: hook::hooks(&self.options) }
    }

    fn pod_chain(
        &mut self,
        plan: &Plan,
        subject: &Subject,
        direction: Direction,
        family: Family,
    ) -> Option<NamedChain> {
        let guard = plan.isolations().get(subject).filter(|guard| guard.is_isolated(direction))?;
        if !guard.has_family(family) {
            return None;
        }
        let rules = pod::chain(&mut self.names, &self.options, family, subject, direction, guard);
        Some((self.names.pod(subject, direction), rules))
    }

    fn policy_chain(
        &mut self,
        plan: &Plan,
        key: &PolicyKey,
        direction: Direction,
        family: Family,
    ) -> Option<NamedChain> {
        let block =
            plan.policies().get(key).filter(|block| block.families.contains(&family) && !block.audited)?;
        let allows = block.allows(direction)?;
        let rules = policy::chain(&mut self.names, &self.options, family, key, direction, allows);
        Some((self.names.policy(key, direction), rules))
    }

    fn audit_pod_chain(
        &mut self,
        plan: &Plan,
        subject: &Subject,
        direction: Direction,
        family: Family,
    ) -> Option<NamedChain> {
        let audit = plan.audits().subjects().get(subject).filter(|audit| audit.has_family(family))?;
        let profile = audit.profile(direction)?;
        let rules = audit::pod_chain(&mut self.names, &self.options, family, subject, &profile, audit);
        Some((self.names.audit_pod(subject, direction), rules))
    }

    fn audit_policy_chain(
        &mut self,
        plan: &Plan,
        key: &PolicyKey,
        direction: Direction,
        family: Family,
    ) -> Option<NamedChain> {
        let block = plan.policies().get(key).filter(|block| block.families.contains(&family))?;
        let allows = block.allows(direction).filter(|_| plan.audits().has_policy(key, direction))?;
        let rules = policy::chain(&mut self.names, &self.options, family, key, direction, allows);
        Some((self.names.audit_policy(key, direction), rules))
    }

    fn audit_profile_chain(&mut self, plan: &Plan, profile: &Profile, family: Family) -> Option<NamedChain> {
        if !plan.audits().profile_has_family(profile, family) {
            return None;
        }
        let rules = audit::profile_chain(&mut self.names, &self.options, profile);
        Some((self.names.audit_profile(profile), rules))
    }

    /// The changes of audits: of their entrances, and of the chains of pods, policies and profiles.
    fn edit_audits(&mut self, plan: &Plan, delta: &Delta, edit: &mut Edit) {
        for family in Family::BOTH {
            if delta.audit.addresses.iter().any(|address| Family::of(*address) == family) {
                let has_chains = audit::has_chains(plan.audits(), family);
                let rules = has_chains.then(|| audit::dispatch(&mut self.names, plan.audits(), family));
                edit.chains.insert((family, audit_chain()), rules);
                let entrances = hook::fixed_chains(&self.options, plan.audits(), family).into_iter();
                edit.chains.extend(entrances.map(|(name, rules)| ((family, name), Some(rules))));
            }
        }
        for direction in Direction::BOTH {
            for subject in &delta.audit.subjects {
                self.edit_chain(
                    edit,
                    |own, family| own.audit_pod_chain(plan, subject, direction, family),
                    |names| names.forget_audit_pod(subject, direction),
                );
            }
        }
        for (key, direction) in delta.policies_of_audits() {
            self.edit_chain(
                edit,
                |own, family| own.audit_policy_chain(plan, &key, direction, family),
                |names| names.forget_audit_policy(&key, direction),
            );
        }
        for profile in &delta.audit.profiles {
            self.edit_chain(
                edit,
                |own, family| own.audit_profile_chain(plan, profile, family),
                |names| names.forget_audit_profile(profile),
            );
        }
    }

    fn profile_chain(&mut self, plan: &Plan, profile: &Profile, family: Family) -> Option<NamedChain> {
        if !pod::has_chain(profile) || !plan.profile_has_family(profile, family) {
            return None;
        }
        let rules = pod::evaluation(&mut self.names, &self.options, profile);
        Some((self.names.profile(profile), rules))
    }

    fn edit_profile(&mut self, plan: &Plan, profile: &Profile, edit: &mut Edit) {
        self.edit_chain(
            edit,
            |own, family| own.profile_chain(plan, profile, family),
            |names| names.forget_profile(profile),
        );
    }

    fn edit_policy(&mut self, plan: &Plan, key: &PolicyKey, direction: Direction, edit: &mut Edit) {
        self.edit_chain(
            edit,
            |own, family| own.policy_chain(plan, key, direction, family),
            |names| names.forget_policy(key, direction),
        );
    }

    fn edit_pod(&mut self, plan: &Plan, subject: &Subject, direction: Direction, edit: &mut Edit) {
        self.edit_chain(
            edit,
            |own, family| own.pod_chain(plan, subject, direction, family),
            |names| names.forget_pod(subject, direction),
        );
    }

    /// Writes a chain in each family that has it, and removes it from the others. If no family has it, its name is freed.
    fn edit_chain(
        &mut self,
        edit: &mut Edit,
        chain: impl Fn(&mut Renderer, Family) -> Option<NamedChain>,
        forget: impl FnOnce(&mut Names) -> Option<ChainName>,
    ) {
        let chains = Family::BOTH.map(|family| (family, chain(self, family)));
        let name = chains.iter().find_map(|(_, chain)| chain.as_ref()).map(|(name, _)| name.clone());
        let Some(name) = name.or_else(|| forget(&mut self.names)) else { return };
        for (family, chain) in chains {
            edit.chains.insert((family, name.clone()), chain.map(|(_, rules)| rules));
        }
    }

    fn edit_isolated(&self, delta: &Delta, edit: &mut Edit) {
        for (&(direction, address), &came) in &delta.isolated {
            let family = Family::of(address);
            let change =
                edit.sets.entry(isolated_set(direction, family)).or_insert_with(|| SetEdit::Elements {
                    kind: set::isolated_kind(family),
                    role: Role::Isolates,
                    elements: BTreeMap::new(),
                });
            if let SetEdit::Elements { elements, .. } = change {
                elements.insert(set::element(crate::compile::Member::Address(address)), came);
            }
        }
    }
}

fn edit_local(delta: &Delta, edit: &mut Edit) {
    for (&address, &came) in &delta.local {
        let family = Family::of(address);
        let change = edit.sets.entry(local_set(family)).or_insert_with(|| SetEdit::Elements {
            kind: set::isolated_kind(family),
            role: Role::Opens,
            elements: BTreeMap::new(),
        });
        if let SetEdit::Elements { elements, .. } = change {
            elements.insert(set::element(crate::compile::Member::Address(address)), came);
        }
    }
}
