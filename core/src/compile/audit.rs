//! Whom audited policies would isolate. This is kept apart from who is isolated, so that an audited policy changes nothing that is
//! enforced.

use super::by_address::SubjectsByAddress;
use super::judgement::Profiles;
use super::{Delta, Isolation, Profile, Subject};
use crate::model::{Direction, PolicyKey};
use crate::net::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The subjects of this node that audited policies would isolate. Empty if there are none.
///
/// The judgement of a subject in a direction has its audited policies and its enforced ones. A direction without an audited policy
/// has none here.
#[derive(Clone, Debug, Default)]
pub struct Audits {
    subjects: BTreeMap<Subject, Isolation>,
    profiles: Profiles,
    addresses: SubjectsByAddress,
    /// How many profiles a policy takes part in.
    policies: BTreeMap<(PolicyKey, Direction), usize>,
}

/// What changed in the audits since the plan's changes were last taken: the keys of what to look up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditDelta {
    /// Subjects whose judgements, or whose addresses, changed.
    pub subjects: BTreeSet<Subject>,
    /// Profiles that are used now or no longer, in any family.
    pub profiles: BTreeSet<Profile>,
    /// Addresses of subjects that changed, in any direction.
    pub addresses: BTreeSet<IpAddr>,
    /// Policies that take part in a profile now, or in none any longer.
    pub policies: BTreeSet<(PolicyKey, Direction)>,
}

impl AuditDelta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        let Self { subjects, profiles, addresses, policies } = self;
        subjects.is_empty() && profiles.is_empty() && addresses.is_empty() && policies.is_empty()
    }
}

impl Audits {
    /// Whether no audited policy has a subject on this node.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// The subjects, with their addresses and judgements.
    pub fn subjects(&self) -> &BTreeMap<Subject, Isolation> {
        &self.subjects
    }

    /// The judgements, each shared by all subjects that have it.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.iter()
    }

    /// Whether a subject of a profile has an address of a family.
    pub fn profile_has_family(&self, profile: &Profile, family: Family) -> bool {
        self.profiles.has_family(profile, family)
    }

    /// Whether any subject has a profile.
    pub fn is_in_use(&self, profile: &Profile) -> bool {
        self.profiles.is_in_use(profile)
    }

    /// Whether a policy takes part in a profile of a direction.
    pub fn has_policy(&self, policy: &PolicyKey, direction: Direction) -> bool {
        self.policies.contains_key(&(policy.clone(), direction))
    }

    /// Whether they changed, or one of the policies that changed takes part in a profile.
    pub fn are_touched_by(&self, delta: &Delta) -> bool {
        let has = |policy: &PolicyKey| {
            Direction::BOTH.into_iter().any(|direction| self.has_policy(policy, direction))
        };
        !delta.audit.is_empty() || !self.policies.is_empty() && delta.policies.iter().any(has)
    }

    /// The policies that take part in profiles, audited or not, with the directions.
    pub fn policies(&self) -> impl Iterator<Item = &(PolicyKey, Direction)> {
        self.policies.keys()
    }

    /// The addresses of a direction, each with the subject that has it, in order.
    pub fn addresses(&self, direction: Direction) -> impl Iterator<Item = (IpAddr, &Subject)> {
        self.addresses.in_direction(direction)
    }

    /// The subjects with an address, in a direction; more than one only for a moment.
    pub fn at(&self, direction: Direction, address: IpAddr) -> impl Iterator<Item = &Subject> {
        self.addresses.at(direction, address)
    }

    /// Replaces what is known of a subject; `None` if no audited policy would isolate it.
    pub(super) fn set(&mut self, subject: &Subject, mut new: Option<Isolation>, delta: &mut AuditDelta) {
        let old = self.subjects.remove(subject);
        if old == new {
            self.subjects.extend(old.map(|old| (subject.clone(), old)));
            return;
        }
        let concerned: BTreeSet<Profile> = old.iter().chain(&new).flat_map(Isolation::profiles).collect();
        let were_used: Vec<bool> = concerned.iter().map(|profile| self.is_in_use(profile)).collect();
        delta.profiles.extend(self.profiles.change(old.as_ref(), &mut new));
        for (profile, was_used) in concerned.iter().zip(were_used) {
            match (was_used, self.is_in_use(profile)) {
                (false, true) => self.count(profile, delta),
                (true, false) => self.discount(profile, delta),
                (false, false) | (true, true) => {}
            }
        }
        for isolation in old.iter().chain(&new) {
            delta.addresses.extend(&isolation.addresses);
        }
        for (direction, address) in old.iter().flat_map(isolated_addresses) {
            self.addresses.remove(direction, address, subject);
        }
        for (direction, address) in new.iter().flat_map(isolated_addresses) {
            self.addresses.insert(direction, address, subject);
        }
        delta.subjects.insert(subject.clone());
        self.subjects.extend(new.map(|new| (subject.clone(), new)));
    }

    fn count(&mut self, profile: &Profile, delta: &mut AuditDelta) {
        for policy in profile.judgement.policies() {
            let key = (policy.clone(), profile.direction);
            let profiles = self.policies.entry(key.clone()).or_default();
            *profiles += 1;
            if *profiles == 1 {
                delta.policies.insert(key);
            }
        }
    }

    fn discount(&mut self, profile: &Profile, delta: &mut AuditDelta) {
        for policy in profile.judgement.policies() {
            let key = (policy.clone(), profile.direction);
            let Some(profiles) = self.policies.get_mut(&key) else { continue };
            *profiles -= 1;
            if *profiles == 0 {
                self.policies.remove(&key);
                delta.policies.insert(key);
            }
        }
    }
}

fn isolated_addresses(isolation: &Isolation) -> impl Iterator<Item = (Direction, IpAddr)> {
    let directions = Direction::BOTH.into_iter().filter(|direction| isolation.is_isolated(*direction));
    directions.flat_map(|direction| isolation.addresses.iter().map(move |address| (direction, *address)))
}
