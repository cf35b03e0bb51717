//! The chains that evaluate allowed packets by audited policies. They copy to NFLOG what these policies would have denied, and deny
//! nothing: each of their verdicts is `accept`, which ends one base chain.
//!
//! Their base chains follow all that enforce, so only packets that were allowed arrive. They are created when they are first needed,
//! and stay, as deleting a base chain drops all packets that wait in any queue of the network namespace (nf_queue).

use super::entry::{self, NEIGHBOUR_DISCOVERY, word};
use super::fields::{address_part, established, icmpv6, invalid, of_family, subject, to_service};
use super::policy::{self, Counting, PolicyRules};
use super::renderer::{edit_element, edit_port_sets};
use crate::compile::{AuditDelta, Delta, Plan, Profile};
use crate::model::{Direction, PolicyKey};
use crate::net::{Family, octets};
use crate::netfilter::nftables::{
    Chain, ElementEdit, Elements, Hook, HookPoint, Rule, Set, SetEdit, SetKind, SetPurpose, Table, TableEdit,
    Verdict,
};
use crate::ownership::{AUDITED_EGRESS, AUDITED_INGRESS};
use crate::render::{Names, Options, PodToNode};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const EGRESS_PRIORITY: i32 = -6;
const INGRESS_PRIORITY: i32 = -5;

/// Renders audits.
#[derive(Clone, Debug, Default)]
pub(super) struct AuditRenderer {
    /// The sets of port ranges of each policy's chain that has any.
    port_sets: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    /// Whether anything has been audited.
    has_chains: bool,
}

/// The map from an audited address to the chain of its profile.
fn audit_map(direction: Direction, family: Family) -> String {
    format!("AUDIT-{}-{}", word(direction), family.digit())
}

/// The chain that copies what audited policies would deny.
fn audited_chain(direction: Direction) -> String {
    format!("AUDITED-{}", word(direction))
}

fn reported_set(direction: Direction, family: Family) -> String {
    format!("AUDITED-{}-{}", word(direction), family.digit())
}

impl AuditRenderer {
    /// Continues with a table in the kernel, whose base chains stay.
    pub(super) fn continue_from(&mut self, table: &Table) {
        self.has_chains |= table.sets.contains_key(audit_map(Direction::Egress, Family::V4).as_str());
    }

    /// Adds everything to a new table.
    pub(super) fn complete(&mut self, names: &mut Names, options: &Options, plan: &Plan, table: &mut Table) {
        self.port_sets.clear();
        let mut edit = TableEdit::default();
        self.has_chains |= !plan.audits().is_empty();
        if self.has_chains {
            add_fixed(options, &mut edit);
        }
        let audits = plan.audits();
        let whole = AuditDelta {
            profiles: audits.profiles().cloned().collect(),
            addresses: audits.subjects().values().flat_map(|audit| audit.addresses.iter().copied()).collect(),
            policies: audits.policies().cloned().collect(),
            ..AuditDelta::default()
        };
        self.edit_audits(names, plan, &Delta { audit: whole, ..Delta::default() }, &mut edit);
        for (name, set) in edit.sets {
            if let SetEdit::Whole(set) = set {
                table.sets.insert(name, set);
            }
        }
        table.chains.extend(edit.chains.into_iter().filter_map(|(name, chain)| Some((name, chain?))));
    }

    /// The changes that result from changes of the plan.
    pub(super) fn edit(
        &mut self,
        names: &mut Names,
        options: &Options,
        plan: &Plan,
        delta: &Delta,
        edit: &mut TableEdit,
    ) {
        if !plan.audits().are_touched_by(delta) {
            return;
        }
        if !plan.audits().is_empty() && !self.has_chains {
            self.has_chains = true;
            add_fixed(options, edit);
        }
        self.edit_audits(names, plan, delta, edit);
    }

    /// Frees what belongs to the chain of a policy whose name is freed.
    pub(super) fn forget(&mut self, names: &mut Names, plan: &Plan, delta: &Delta) {
        for (key, direction) in &delta.audit.policies {
            if !plan.audits().has_policy(key, *direction)
                && let Some(name) = names.forget_audit_policy(key, *direction)
            {
                self.port_sets.remove(name.as_str());
            }
        }
    }

    fn edit_audits(&mut self, names: &mut Names, plan: &Plan, delta: &Delta, edit: &mut TableEdit) {
        for (key, direction) in delta.policies_of_audits() {
            self.edit_policy(names, plan, &key, direction, edit);
        }
        for profile in &delta.audit.profiles {
            if plan.audits().is_in_use(profile) {
                let name = names.audit_profile(profile).as_str().into();
                edit.chains.insert(name, Some(chain(profile_rules(names, profile))));
            } else if let Some(name) = names.forget_audit_profile(profile) {
                edit.chains.insert(name.as_str().into(), None);
            }
        }
        if !self.has_chains {
            return;
        }
        for (direction, address) in delta
            .audit
            .addresses
            .iter()
            .flat_map(|address| Direction::BOTH.map(|direction| (direction, *address)))
        {
            let verdict = verdict(names, plan, direction, address);
            let change = verdict.map_or(ElementEdit::Gone, |verdict| ElementEdit::There(Some(verdict)));
            edit_element(edit, &audit_map(direction, Family::of(address)), octets(address), change);
        }
    }

    fn edit_policy(
        &mut self,
        names: &mut Names,
        plan: &Plan,
        key: &PolicyKey,
        direction: Direction,
        edit: &mut TableEdit,
    ) {
        let block = plan.policies().get(key).filter(|_| plan.audits().has_policy(key, direction));
        let Some(allows) = block.and_then(|block| block.allows(direction)) else {
            let Some(name) = names.forget_audit_policy(key, direction) else { return };
            let old = self.port_sets.remove(name.as_str()).unwrap_or_default();
            edit_port_sets(edit, &old, BTreeMap::new());
            edit.chains.insert(name.as_str().into(), None);
            return;
        };
        let name = names.audit_policy(key, direction);
        let PolicyRules { rules, sets } = policy::rules(names, &name, key, direction, allows, Counting::Off);
        let old = self.port_sets.remove(name.as_str()).unwrap_or_default();
        if !sets.is_empty() {
            self.port_sets.insert(name.as_str().into(), sets.keys().cloned().collect());
        }
        edit_port_sets(edit, &old, sets);
        edit.chains.insert(name.as_str().into(), Some(chain(rules)));
    }
}

/// The verdict of the map for an address. If two audited pods have it, which is only for a moment, one of them is asked.
fn verdict(names: &mut Names, plan: &Plan, direction: Direction, address: IpAddr) -> Option<Verdict> {
    let subject = plan.audits().at(direction, address).next()?;
    let profile = plan.audits().subjects().get(subject)?.profile(direction)?;
    Some(Verdict::Goto(names.audit_profile(&profile).as_str().into()))
}

fn chain(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}

/// The chain of a profile: the first policy that allows a packet accepts it.
fn profile_rules(names: &mut Names, profile: &Profile) -> Vec<Rule> {
    let jumps = profile.judgement.policies().map(|policy| {
        let chain = names.audit_policy(policy, profile.direction);
        Rule::when().jump(chain.as_str()).comment(&format!("audit of policy {policy}"))
    });
    jumps.chain([Rule::verdict(Verdict::Goto(audited_chain(profile.direction).into()))]).collect()
}

/// Adds the base chains, the maps, and the chains that copy packets.
fn add_fixed(options: &Options, edit: &mut TableEdit) {
    let mut base = |name: String, point, priority, rules| {
        let chain = Chain { base: Some(Hook { point, priority }), rules };
        edit.chains.insert(name.into(), Some(chain));
    };
    for (direction, priority) in
        [(Direction::Egress, EGRESS_PRIORITY), (Direction::Ingress, INGRESS_PRIORITY)]
    {
        let look_up = || entry::look_up(|family| audit_map(direction, family), direction);
        let forward = [established().accept()].into_iter().chain(look_up());
        base(format!("FORWARD-AUDIT-{}", word(direction)), HookPoint::Forward, priority, forward.collect());
        let output = [established().accept(), entry::from_this_node().accept()].into_iter().chain(look_up());
        base(format!("OUTPUT-AUDIT-{}", word(direction)), HookPoint::Output, priority, output.collect());
        if options.pod_to_node == PodToNode::Policy && direction == Direction::Egress {
            let input = entry::open_to_node().into_iter().chain(look_up());
            base("INPUT-AUDIT".to_owned(), HookPoint::Input, priority, input.collect());
        }
    }
    for direction in Direction::BOTH {
        edit.chains.insert(audited_chain(direction).into(), Some(chain(audited(options, direction))));
        for family in Family::BOTH {
            let mut set = |name: String, purpose, size| {
                let kind = SetKind { key: vec![address_part(family)], purpose, size };
                edit.sets.insert(name.into(), SetEdit::Whole(Set { kind, elements: Elements::new() }));
            };
            set(audit_map(direction, family), SetPurpose::VerdictMap, 0);
            let reported = SetPurpose::Dynamic { timeout_ms: entry::LOGGED_TIMEOUT_MS };
            set(reported_set(direction, family), reported, entry::LOGGED_MOST);
        }
    }
}

/// Copies a packet that no policy allows, but for those that are not denied because of policies.
fn audited(options: &Options, direction: Direction) -> Vec<Rule> {
    let prefix = match direction {
        Direction::Ingress => AUDITED_INGRESS,
        Direction::Egress => AUDITED_EGRESS,
    };
    let mut rules = vec![invalid().accept()];
    rules.extend(NEIGHBOUR_DISCOVERY.map(|number| icmpv6(number).accept()));
    rules.push(to_service(Rule::when()).jump(entry::TO_ITSELF));
    rules.extend(Family::BOTH.map(|family| {
        let field = subject(direction, family);
        entry::report(of_family(family), vec![field], &reported_set(direction, family), options, prefix)
    }));
    rules
}
