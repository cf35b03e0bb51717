//! What evaluates a pod's traffic in one direction. Pods that the same policies isolate share it.

use super::Guard;
use crate::model::{Direction, PolicyKey};
use crate::net::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What evaluates a subject's traffic in one direction: tiers, in the order in which a packet meets them. What no tier allows is
/// denied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Judgement {
    /// The tiers.
    pub tiers: Vec<Tier>,
}

/// Policies of equal rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// NetworkPolicies: what any of them allows is allowed. Without any, nothing is.
    Namespaced(BTreeSet<PolicyKey>),
}

impl Judgement {
    /// NetworkPolicies alone.
    pub fn of_policies(policies: BTreeSet<PolicyKey>) -> Judgement {
        Judgement { tiers: vec![Tier::Namespaced(policies)] }
    }

    /// Every policy that takes part, in the order in which a packet meets them.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyKey> {
        self.tiers.iter().flat_map(|Tier::Namespaced(policies)| policies)
    }
}

/// A judgement in one direction, which all subjects share that it applies to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// The direction, seen from the subject.
    pub direction: Direction,
    /// The judgement.
    pub judgement: Arc<Judgement>,
}

/// How many subjects each profile has.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiles(BTreeMap<Profile, Users>);

/// The number of subjects, and of those with an address of each family.
#[derive(Clone, Copy, Debug, Default)]
struct Users {
    all: usize,
    v4: usize,
    v6: usize,
}

impl Users {
    fn families(self) -> [bool; 2] {
        [self.v4 > 0, self.v6 > 0]
    }
}

impl Profiles {
    /// A subject's guard changes. Makes the new one share its judgements with those in use. Returns the profiles that came into
    /// use or went out of use in any family.
    pub(super) fn change(&mut self, old: Option<&Guard>, new: &mut Option<Guard>) -> Vec<Profile> {
        let mut before = BTreeMap::new();
        let mut note = |profiles: &Profiles, profile: &Profile| {
            before.entry(profile.clone()).or_insert_with(|| profiles.families(profile));
        };
        if let Some(new) = new {
            for direction in Direction::BOTH {
                let Some(judgement) = new.judgement(direction) else { continue };
                let profile = Profile { direction, judgement: judgement.clone() };
                note(self, &profile);
                let shared = self.add(profile, new);
                new.share(direction, shared);
            }
        }
        if let Some(old) = old {
            for direction in Direction::BOTH {
                let Some(judgement) = old.judgement(direction) else { continue };
                let profile = Profile { direction, judgement: judgement.clone() };
                note(self, &profile);
                self.remove(&profile, old);
            }
        }
        before.into_iter().filter(|(own, was)| self.families(own) != *was).map(|(own, _)| own).collect()
    }

    /// Counts a subject of a profile. Returns the judgement that all its subjects share.
    fn add(&mut self, profile: Profile, guard: &Guard) -> Arc<Judgement> {
        let shared = self.0.get_key_value(&profile).map(|(shared, _)| shared.judgement.clone());
        let shared = shared.unwrap_or_else(|| profile.judgement.clone());
        let users = self.0.entry(profile).or_default();
        users.all += 1;
        users.v4 += usize::from(guard.has_family(Family::V4));
        users.v6 += usize::from(guard.has_family(Family::V6));
        shared
    }

    fn remove(&mut self, profile: &Profile, guard: &Guard) {
        let Some(users) = self.0.get_mut(profile) else { return };
        users.all -= 1;
        users.v4 -= usize::from(guard.has_family(Family::V4));
        users.v6 -= usize::from(guard.has_family(Family::V6));
        if users.all == 0 {
            self.0.remove(profile);
        }
    }

    fn families(&self, profile: &Profile) -> [bool; 2] {
        self.0.get(profile).map_or([false; 2], |users| users.families())
    }

    /// Whether a subject of a profile has an address of a family.
    pub(super) fn has_family(&self, profile: &Profile, family: Family) -> bool {
        let [v4, v6] = self.families(profile);
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// The profiles that are in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.0.keys()
    }
}
