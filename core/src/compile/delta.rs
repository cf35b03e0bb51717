//! What changed in the plan since it was last taken.

use super::{Member, PortBinding, Profile, SetDefinition, Subject};
use crate::model::{Direction, PolicyKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What changed in the plan since it was last taken: names of what to look up, and members that came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Sets that came into use, changed or went out of use.
    pub sets: BTreeMap<Arc<SetDefinition>, SetDelta>,
    /// Policies whose block came, changed or went.
    pub policies: BTreeSet<PolicyKey>,
    /// Subjects whose isolation came, changed or went.
    pub isolations: BTreeSet<Subject>,
    /// Profiles that came into use or went out of use, in any family.
    pub profiles: BTreeSet<Profile>,
    /// Addresses at which a pod became isolated, or is no longer.
    pub judged: BTreeSet<(Direction, IpAddr)>,
    /// Addresses that became isolated (`true`) or open (`false`).
    pub isolated: BTreeMap<(Direction, IpAddr), bool>,
    /// Addresses some of whose connections may have lost what allowed them.
    pub revoked: BTreeSet<IpAddr>,
    /// Addresses that local pods came to have (`true`) or have no longer (`false`).
    pub local: BTreeMap<IpAddr, bool>,
    /// Ports whose binding came, changed or went, with the binding as it was.
    pub ports: BTreeMap<u32, Option<PortBinding>>,
    /// Addresses that ports came to have, or local pods without a port, or have no longer, with what was true of them.
    pub places: BTreeMap<IpAddr, Placement>,
    /// Whether the node itself changed on the bridge.
    pub bridge: bool,
}

/// How an address of this node is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// A port has it.
    pub bound: bool,
    /// A local pod has it, and no port.
    pub unbound: bool,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    /// Whether something changed, and nothing but who is in sets.
    pub fn is_of_members(&self) -> bool {
        let of_members = |change: &SetDelta| matches!(change, SetDelta::Members(_));
        let rest = self.policies.is_empty() && self.isolations.is_empty() && self.profiles.is_empty();
        let isolated = self.judged.is_empty() && self.isolated.is_empty();
        let binding = self.ports.is_empty() && self.places.is_empty() && !self.bridge;
        let members = !self.sets.is_empty() || !self.local.is_empty();
        rest && isolated && binding && members && self.sets.values().all(of_members)
    }
}

/// What changed in one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetDelta {
    /// It came into use; read it whole.
    Fresh,
    /// These came in (`true`) or went out (`false`).
    Members(BTreeMap<Member, bool>),
    /// It went out of use.
    Retired,
}
