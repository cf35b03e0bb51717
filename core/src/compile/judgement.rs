//! The policies that evaluate a pod's traffic in one direction. Pods that the same policies isolate share them.

use super::Isolation;
use super::isolation::families;
use crate::model::{Direction, PolicyKey};
use crate::net::Family;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What evaluates a subject's traffic in one direction: tiers, in the order of evaluation. What no tier allows is
/// denied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Judgement {
    /// The tiers.
    pub tiers: Vec<Tier>,
}

/// Policies of equal rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// NetworkPolicies: what any of them allows is allowed. If there are none, nothing is allowed.
    Namespaced(BTreeSet<PolicyKey>),
}

impl Judgement {
    /// NetworkPolicies alone.
    pub fn of_policies(policies: BTreeSet<PolicyKey>) -> Judgement {
        Judgement { tiers: vec![Tier::Namespaced(policies)] }
    }

    /// Whether any of these policies is one of its policies.
    pub fn has_any(&self, policies: &BTreeSet<PolicyKey>) -> bool {
        self.tiers.iter().any(|Tier::Namespaced(own)| match own.len() < policies.len() {
            true => own.iter().any(|policy| policies.contains(policy)),
            false => policies.iter().any(|policy| own.contains(policy)),
        })
    }

    /// All its policies, in the order of evaluation.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyKey> {
        self.tiers.iter().flat_map(|Tier::Namespaced(policies)| policies)
    }
}

/// A judgement in one direction, shared by all subjects to which it applies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    /// The direction, seen from the subject.
    pub direction: Direction,
    /// The judgement.
    pub judgement: Arc<Judgement>,
}

impl Ord for Profile {
    /// By direction, then by the judgement; one that is shared is not compared with itself, as it may have thousands of policies.
    fn cmp(&self, other: &Profile) -> Ordering {
        let judgements = || match Arc::ptr_eq(&self.judgement, &other.judgement) {
            true => Ordering::Equal,
            false => self.judgement.cmp(&other.judgement),
        };
        self.direction.cmp(&other.direction).then_with(judgements)
    }
}

impl PartialOrd for Profile {
    fn partial_cmp(&self, other: &Profile) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How many subjects with an address of each family each profile has.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiles(BTreeMap<Profile, BTreeMap<Family, usize>>);

impl Profiles {
    /// Called when a subject's isolation changes. Makes the new one share its judgements with those in use. Returns the
    /// profiles that are now used, or no longer used, in any family.
    pub(super) fn change(&mut self, old: Option<&Isolation>, new: &mut Option<Isolation>) -> Vec<Profile> {
        let concerned = old.into_iter().chain(new.as_ref()).flat_map(Isolation::profiles);
        let before: BTreeMap<Profile, BTreeSet<Family>> =
            concerned.map(|profile| (profile.clone(), self.families(&profile))).collect();
        if let Some(new) = new {
            for profile in new.profiles().collect::<Vec<_>>() {
                let direction = profile.direction;
                let shared = self.add(profile, new);
                new.share(direction, shared);
            }
        }
        if let Some(old) = old {
            old.profiles().for_each(|profile| self.remove(&profile, old));
        }
        before.into_iter().filter(|(own, was)| self.families(own) != *was).map(|(own, _)| own).collect()
    }

    /// Counts a subject of a profile. Returns the judgement that all its subjects share.
    fn add(&mut self, profile: Profile, isolation: &Isolation) -> Arc<Judgement> {
        let shared = self.0.get_key_value(&profile).map(|(shared, _)| shared.judgement.clone());
        let shared = shared.unwrap_or_else(|| profile.judgement.clone());
        let subjects = self.0.entry(profile).or_default();
        for family in families(&isolation.addresses) {
            *subjects.entry(family).or_default() += 1;
        }
        shared
    }

    fn remove(&mut self, profile: &Profile, isolation: &Isolation) {
        let Some(subjects) = self.0.get_mut(profile) else { return };
        for family in families(&isolation.addresses) {
            if let Some(count) = subjects.get_mut(&family) {
                *count -= 1;
            }
        }
        subjects.retain(|_, count| *count > 0);
        if subjects.is_empty() {
            self.0.remove(profile);
        }
    }

    fn families(&self, profile: &Profile) -> BTreeSet<Family> {
        self.0.get(profile).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// Whether a subject of a profile has any address.
    pub(super) fn is_in_use(&self, profile: &Profile) -> bool {
        self.0.get(profile).is_some_and(|subjects| !subjects.is_empty())
    }

    /// Whether a subject of a profile has an address of a family.
    pub(super) fn has_family(&self, profile: &Profile, family: Family) -> bool {
        self.0.get(profile).is_some_and(|subjects| subjects.contains_key(&family))
    }

    /// The profiles that are in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.0.keys()
    }
}
