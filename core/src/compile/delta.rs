//! What changed in the plan since it was last taken.

use super::{AuditDelta, Member, PortBinding, Profile, SetDefinition, Subject};
use crate::model::{Direction, PolicyKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What changed in the plan since it was last taken: the keys of what to look up, and members that were added or
/// removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Sets that are used now, changed, or are no longer used.
    pub sets: BTreeMap<Arc<SetDefinition>, SetDelta>,
    /// Policies whose block was added, changed or removed.
    pub policies: BTreeSet<PolicyKey>,
    /// Subjects whose isolation was added, changed or removed.
    pub isolations: BTreeSet<Subject>,
    /// Profiles that are used now or no longer, in any family.
    pub profiles: BTreeSet<Profile>,
    /// Addresses at which a pod became isolated, or no longer is.
    pub judged: BTreeSet<(Direction, IpAddr)>,
    /// Addresses that became isolated (`true`) or open (`false`).
    pub isolated: BTreeMap<(Direction, IpAddr), bool>,
    /// Addresses with connections that may no longer be allowed.
    pub revoked: BTreeSet<IpAddr>,
    /// Addresses that local pods now have (`true`) or no longer have (`false`).
    pub local: BTreeMap<IpAddr, bool>,
    /// Ports whose binding was added, changed or removed, with the previous binding.
    pub ports: BTreeMap<u32, Option<PortBinding>>,
    /// Addresses that ports, or local pods without a port, now have or no longer have, with their previous placement.
    pub places: BTreeMap<IpAddr, Placement>,
    /// Whether the node's own interface on the bridge changed.
    pub bridge: bool,
    /// What changed in what is only evaluated and reported.
    pub audit: AuditDelta,
}

/// Who has an address of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// A port has it.
    pub bound: bool,
    /// A local pod without a known port has it.
    pub unbound: bool,
}

impl Delta {
    /// The policies, with directions, whose part in audits may have changed: those that changed, and those that take part now or no
    /// longer.
    pub fn policies_of_audits(&self) -> BTreeSet<(PolicyKey, Direction)> {
        let both = |key: &PolicyKey| Direction::BOTH.map(|direction| (key.clone(), direction));
        self.policies.iter().flat_map(both).chain(self.audit.policies.iter().cloned()).collect()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    /// Whether something changed, and only members of sets.
    pub fn is_of_members(&self) -> bool {
        let of_members = |change: &SetDelta| matches!(change, SetDelta::Members(_));
        let rest = self.policies.is_empty() && self.isolations.is_empty() && self.profiles.is_empty();
        let isolated = self.judged.is_empty() && self.isolated.is_empty();
        let binding = self.ports.is_empty() && self.places.is_empty() && !self.bridge;
        let members = !self.sets.is_empty() || !self.local.is_empty();
        rest && isolated && binding && self.audit.is_empty() && members && self.sets.values().all(of_members)
    }
}

/// What changed in one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetDelta {
    /// It is used now; read all of it.
    Fresh,
    /// These members were added (`true`) or removed (`false`).
    Members(BTreeMap<Member, bool>),
    /// It is no longer used.
    Retired,
}
