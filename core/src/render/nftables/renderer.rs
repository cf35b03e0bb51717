//! Renders a complete table from the plan, and an edit from its changes.

use super::audit::AuditRenderer;
use super::policy::{Counting, PolicyRules};
use super::{entry, policy, profile, set};
use crate::compile::{Delta, Plan, Profile, SetDelta};
use crate::model::{Cluster, Direction, PolicyKey};
use crate::net::{self, Family};
use crate::netfilter::nftables::{
    Chain, ElementEdit, Elements, Rule, Set, SetEdit, Table, TableEdit, TableFamily, Verdict,
};
use crate::ownership::INET_TABLE;
use crate::render::{Names, Options, PodToNode};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Renders for one node: the options, and the names in use.
#[derive(Clone, Debug, Default)]
pub struct TableRenderer {
    options: Options,
    names: Names,
    /// What was rendered of each policy and direction, by the name of its counter.
    policies: BTreeMap<Box<str>, RenderedPolicy>,
    /// Whether any address has had two isolated pods. The chains for this case stay, because deleting a base chain
    /// drops all packets that wait in any queue of the network namespace (nf_queue).
    has_second: bool,
    audits: AuditRenderer,
}

/// What was rendered of a policy in a direction.
#[derive(Clone, Debug, Default)]
struct RenderedPolicy {
    /// Its rules, if they are part of the chains of its profiles; `None` if it has its own chain.
    inlined: Option<Vec<Rule>>,
    /// Its sets of port ranges.
    port_sets: BTreeSet<Box<str>>,
}

impl TableRenderer {
    /// A renderer with these options.
    pub fn new(options: Options) -> TableRenderer {
        TableRenderer { options, ..TableRenderer::default() }
    }

    /// The options it renders with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Continues with a table in the kernel, whose base chains stay.
    pub fn continue_from(&mut self, table: &Table) {
        let map = entry::second_map(Direction::Egress, Family::V4);
        self.has_second |= table.sets.contains_key(map.as_str());
        self.audits.continue_from(table);
    }

    /// The policy and direction of each policy's counter.
    pub fn policy_counters(&self) -> BTreeMap<Box<str>, (PolicyKey, Direction)> {
        self.names.policies().map(|(name, policy)| (name.as_str().into(), policy.clone())).collect()
    }

    /// The complete table.
    pub fn table(&mut self, cluster: &Cluster, plan: &Plan) -> Table {
        let isolated: Vec<_> = Direction::BOTH
            .into_iter()
            .flat_map(|direction| plan.isolated(direction).map(move |(address, _)| (direction, address)))
            .collect();
        let verdicts: Vec<_> = isolated.iter().map(|own| (*own, self.verdicts(plan, own.0, own.1))).collect();
        self.has_second |= verdicts.iter().any(|(_, [_, second])| second.is_some());
        let mut table = Table::new(TableFamily::Inet, INET_TABLE);
        table.chains = entry::chains(&self.options, self.has_second);
        let kinds = entry::sets(&self.options, self.has_second).into_iter();
        table.sets = kinds.map(|(name, kind)| (name, Set { kind, elements: Elements::new() })).collect();
        for ((direction, address), verdicts) in verdicts {
            for (map, verdict) in self.map_elements(direction, address, verdicts) {
                if let (Some(map), Some(verdict)) = (table.sets.get_mut(map.as_str()), verdict) {
                    map.elements.insert(&net::octets(address), Some(verdict));
                }
            }
        }
        for address in plan.local() {
            for (name, key) in self.local_elements(address) {
                if let Some(set) = table.sets.get_mut(name.as_str()) {
                    set.elements.insert(&key, None);
                }
            }
        }
        self.policies.clear();
        for key in plan.policies().keys() {
            for direction in Direction::BOTH {
                if let Some((name, PolicyRules { rules, sets })) = self.policy(plan, key, direction) {
                    self.remember(&name, &rules, &sets);
                    table.sets.extend(sets);
                    table.counters.insert(name.clone());
                    if !profile::is_inlined(&rules) {
                        table.chains.insert(name, Chain { base: None, rules });
                    }
                }
            }
        }
        for profile in plan.profiles().filter(|profile| plan.profile_is_in_use(profile)) {
            let (name, chain) = self.profile(profile);
            table.chains.insert(name, chain);
        }
        self.audits.complete(&mut self.names, &self.options, plan, &mut table);
        for definition in plan.sets() {
            for family in Family::BOTH.into_iter().filter(|family| definition.has_family(*family)) {
                let name = self.names.set(definition, family).as_str().into();
                table.sets.insert(name, set::whole(cluster, plan, definition, family));
            }
        }
        table
    }

    /// The changes of the table that result from changes of the plan.
    pub fn edit(&mut self, cluster: &Cluster, plan: &Plan, delta: &Delta) -> TableEdit {
        let mut edit = TableEdit::default();
        for key in &delta.policies {
            for direction in Direction::BOTH {
                self.edit_policy(plan, key, direction, &mut edit);
            }
        }
        for profile in &delta.profiles {
            self.edit_profile(plan, profile, &mut edit);
        }
        if !delta.policies.is_empty() {
            let has_changed = |profile: &&Profile| profile.judgement.has_any(&delta.policies);
            for profile in plan.profiles().filter(has_changed) {
                self.edit_profile(plan, profile, &mut edit);
            }
        }
        self.edit_isolated(plan, delta, &mut edit);
        self.audits.edit(&mut self.names, &self.options, plan, delta, &mut edit);
        for (&address, &came) in &delta.local {
            for (name, key) in self.local_elements(address) {
                let change = if came { ElementEdit::There(None) } else { ElementEdit::Gone };
                edit_element(&mut edit, &name, key, change);
            }
        }
        for (definition, change) in &delta.sets {
            for family in Family::BOTH.into_iter().filter(|family| definition.has_family(*family)) {
                let name: Box<str> = self.names.set(definition, family).as_str().into();
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
                        for (member, came) in own {
                            let change = if *came { ElementEdit::There(None) } else { ElementEdit::Gone };
                            edit_element(&mut edit, &name, set::key(*member), change);
                        }
                    }
                }
            }
        }
        edit
    }

    /// Frees the names of removed objects. Used when no edit is rendered because everything is rendered again.
    pub fn forget(&mut self, plan: &Plan, delta: &Delta) {
        for direction in Direction::BOTH {
            for key in &delta.policies {
                if !has_chain(plan, key, direction)
                    && let Some(name) = self.names.forget_policy(key, direction)
                {
                    self.policies.remove(name.as_str());
                }
            }
        }
        self.audits.forget(&mut self.names, plan, delta);
        self.names.forget_unused(plan, delta);
    }

    /// A policy's rules, with the name of its counter and, if it has one, of its chain; `None` if no pod needs them.
    fn policy(
        &mut self,
        plan: &Plan,
        key: &PolicyKey,
        direction: Direction,
    ) -> Option<(Box<str>, PolicyRules)> {
        let block = plan.policies().get(key).filter(|_| has_chain(plan, key, direction))?;
        let name = self.names.policy(key, direction);
        let allows = block.allows(direction)?;
        let rules = policy::rules(&mut self.names, &name, key, direction, allows, Counting::On);
        Some((name.as_str().into(), rules))
    }

    /// The chain of a profile, with its name.
    fn profile(&mut self, profile: &Profile) -> (Box<str>, Chain) {
        let mut rules = profile::before_policies();
        for key in profile.judgement.policies() {
            let name = self.names.policy(key, profile.direction);
            match self.policies.get(name.as_str()) {
                Some(RenderedPolicy { inlined: Some(own), .. }) => rules.extend(own.iter().cloned()),
                Some(RenderedPolicy { inlined: None, .. }) => rules.push(profile::jump(key, &name)),
                None => {}
            }
        }
        rules.push(profile::after_policies(profile.direction));
        (self.names.profile(profile).as_str().into(), Chain { base: None, rules })
    }

    fn edit_policy(&mut self, plan: &Plan, key: &PolicyKey, direction: Direction, edit: &mut TableEdit) {
        let Some((name, PolicyRules { rules, sets })) = self.policy(plan, key, direction) else {
            let Some(name) = self.names.forget_policy(key, direction) else { return };
            let old = self.policies.remove(name.as_str()).unwrap_or_default().port_sets;
            edit_port_sets(edit, &old, BTreeMap::new());
            edit.counters.insert(name.as_str().into(), false);
            edit.chains.insert(name.as_str().into(), None);
            return;
        };
        let old = self.policies.remove(&name).unwrap_or_default().port_sets;
        self.remember(&name, &rules, &sets);
        edit_port_sets(edit, &old, sets);
        edit.counters.insert(name.clone(), true);
        let chain = (!profile::is_inlined(&rules)).then_some(Chain { base: None, rules });
        edit.chains.insert(name, chain);
    }

    fn remember(&mut self, name: &str, rules: &[Rule], sets: &BTreeMap<Box<str>, Set>) {
        let inlined = profile::is_inlined(rules).then(|| rules.to_vec());
        let port_sets = sets.keys().cloned().collect();
        self.policies.insert(name.into(), RenderedPolicy { inlined, port_sets });
    }

    fn edit_profile(&mut self, plan: &Plan, profile: &Profile, edit: &mut TableEdit) {
        if plan.profile_is_in_use(profile) {
            let (name, chain) = self.profile(profile);
            edit.chains.insert(name, Some(chain));
        } else if let Some(name) = self.names.forget_profile(profile) {
            edit.chains.insert(name.as_str().into(), None);
        }
    }

    fn edit_isolated(&mut self, plan: &Plan, delta: &Delta, edit: &mut TableEdit) {
        let mut judged = delta.judged.clone();
        let rejudged = delta.isolations.iter().filter_map(|subject| plan.isolations().get(subject));
        for address in rejudged.flat_map(|isolation| &isolation.addresses) {
            judged.extend(Direction::BOTH.map(|direction| (direction, *address)));
        }
        for (direction, address) in judged {
            let verdicts = self.verdicts(plan, direction, address);
            if verdicts[1].is_some() && !self.has_second {
                self.has_second = true;
                self.add_second(edit);
            }
            for (map, verdict) in self.map_elements(direction, address, verdicts) {
                let change = verdict.map_or(ElementEdit::Gone, |verdict| ElementEdit::There(Some(verdict)));
                edit_element(edit, &map, net::octets(address), change);
            }
        }
    }

    /// Adds the chains and maps for addresses that two isolated pods have.
    fn add_second(&self, edit: &mut TableEdit) {
        let without = entry::chains(&self.options, false);
        let chains = entry::chains(&self.options, true).into_iter();
        edit.chains.extend(
            chains.filter(|(name, _)| !without.contains_key(name)).map(|(name, chain)| (name, Some(chain))),
        );
        let without = entry::sets(&self.options, false);
        let sets = entry::sets(&self.options, true).into_iter();
        edit.sets.extend(
            sets.filter(|(name, _)| !without.contains_key(name))
                .map(|(name, kind)| (name, SetEdit::Whole(Set { kind, elements: Elements::new() }))),
        );
    }

    /// The verdicts of the two maps of a direction for an address. If two pods have it, both must allow a packet; if
    /// more than two have it, nothing is allowed.
    fn verdicts(&mut self, plan: &Plan, direction: Direction, address: IpAddr) -> [Option<Verdict>; 2] {
        let here = plan.isolated_at(direction, address);
        let profiles: BTreeSet<Profile> =
            here.filter_map(|subject| plan.isolations().get(subject)?.profile(direction)).collect();
        let mut chains = profiles.iter().map(|profile| {
            let chain = self.names.profile(profile);
            Verdict::Goto(chain.as_str().into())
        });
        match [chains.next(), chains.next(), chains.next()] {
            [first, second, None] => [first, second],
            [_, _, Some(_)] => [Some(Verdict::Goto(entry::denied_chain(direction).into())), None],
        }
    }

    /// The elements of maps for an address that is isolated, or no longer is.
    fn map_elements(
        &self,
        direction: Direction,
        address: IpAddr,
        [first, second]: [Option<Verdict>; 2],
    ) -> Vec<(String, Option<Verdict>)> {
        let family = Family::of(address);
        let is_isolated = first.is_some();
        let mut elements = vec![(entry::isolated_map(direction, family), first)];
        if self.has_second {
            elements.push((entry::second_map(direction, family), second));
        }
        if self.options.pod_to_node == PodToNode::Drop && direction == Direction::Egress {
            elements.push((entry::to_node_map(family), is_isolated.then(entry::to_node_verdict)));
        }
        elements
    }

    /// The elements of sets for the address of a local pod.
    fn local_elements(&self, address: IpAddr) -> Vec<(String, Box<[u8]>)> {
        let (family, octets) = (Family::of(address), net::octets(address));
        let mut elements = vec![(entry::itself_set(family), [&*octets, &*octets].concat().into())];
        if entry::knows_local(&self.options) {
            elements.push((entry::local_set(family), octets));
        }
        elements
    }
}

/// Whether a policy is enforced and isolates a pod that has an address, in a direction.
fn has_chain(plan: &Plan, key: &PolicyKey, direction: Direction) -> bool {
    let block = plan.policies().get(key).filter(|block| !block.families.is_empty() && !block.audited);
    block.is_some_and(|block| block.allows(direction).is_some())
}

/// Replaces a policy's sets of port ranges. A set with the same name has the same ranges.
pub(super) fn edit_port_sets(edit: &mut TableEdit, old: &BTreeSet<Box<str>>, new: BTreeMap<Box<str>, Set>) {
    let gone = old.iter().filter(|set| !new.contains_key(*set));
    edit.sets.extend(gone.map(|set| (set.clone(), SetEdit::Remove)));
    let come = new.into_iter().filter(|(set, _)| !old.contains(set));
    edit.sets.extend(come.map(|(name, set)| (name, SetEdit::Whole(set))));
}

pub(super) fn edit_element(edit: &mut TableEdit, set: &str, key: Box<[u8]>, change: ElementEdit) {
    match edit.sets.entry(set.into()).or_insert_with(|| SetEdit::Elements(BTreeMap::new())) {
        SetEdit::Elements(elements) => drop(elements.insert(key, change)),
        SetEdit::Whole(set) => match change {
            ElementEdit::There(verdict) => set.elements.insert(&key, verdict),
            ElementEdit::Gone => drop(set.elements.remove(&key)),
        },
        SetEdit::Remove => {}
    }
}
