//! Why a pair of classes has the connections that it has.

use super::Reach;
use super::class::{Class, ClassId};
use super::row::named;
use crate::model::{Direction, PolicyKey};
use crate::net::{Family, PortSet};

/// A rule that allows connections of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowingRule {
    /// Its policy.
    pub policy: PolicyKey,
    /// Its place in the policy's list, from 0.
    pub rule: usize,
    /// The connections that it allows.
    pub ports: PortSet,
}

/// What a direction says of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectionReason {
    /// The policies that isolate the pod in this direction. None if everything is allowed.
    pub isolating: Vec<PolicyKey>,
    /// Their rules that take the other end.
    pub allowing: Vec<AllowingRule>,
}

impl Reach {
    /// What a direction says of connections from one class to another: for egress the source's policies, for ingress the
    /// destination's.
    pub fn reason(
        &self,
        from: ClassId,
        to: ClassId,
        family: Family,
        direction: Direction,
    ) -> Option<DirectionReason> {
        let [from, to] = [self.classes.get(from as usize)?, self.classes.get(to as usize)?];
        let (own, peer): (&Class, &Class) = match direction {
            Direction::Egress => (from, to),
            Direction::Ingress => (to, from),
        };
        let places = own.isolation.by(direction);
        let policies = || places.into_iter().flatten().filter_map(|place| self.terms.get(*place));
        let terms = peer.terms(family)?;
        let mut allowing = Vec::new();
        for policy in policies() {
            for rule in policy.rules(direction).unwrap_or_default() {
                let takes =
                    rule.peers.as_ref().is_none_or(|peers| peers.iter().any(|peer| terms.contains(peer)));
                let ports = rule.ports.union(&named(rule, &to.ports));
                if takes && !ports.is_empty() {
                    allowing.push(AllowingRule { policy: policy.key.clone(), rule: rule.index, ports });
                }
            }
        }
        let isolating = policies().map(|policy| policy.key.clone()).collect();
        Some(DirectionReason { isolating, allowing })
    }
}
