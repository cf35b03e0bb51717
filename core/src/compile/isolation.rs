//! Which policies isolate a pod of this node, and how an unknown pod is treated.

use super::{Judgement, Profile};
use crate::model::{Cluster, Direction, Group, GroupId, PodKey, Policy, PolicyKey, SandboxKey};
use crate::net::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A pod of this node, known or not, that can be isolated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A pod of this node.
    Pod(PodKey),
    /// A sandbox of this node that belongs to no known pod.
    Unknown(SandboxKey),
}

impl Subject {
    /// The pod itself, or the pod for which its sandbox was made.
    pub fn pod(&self) -> &PodKey {
        match self {
            Subject::Pod(pod) => pod,
            Subject::Unknown(sandbox) => &sandbox.pod,
        }
    }
}

impl fmt::Display for Subject {
    /// `pod namespace/name`, or `unknown pod namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Pod(pod) => write!(f, "pod {pod}"),
            Subject::Unknown(sandbox) => write!(f, "unknown pod {}", sandbox.pod),
        }
    }
}

/// What happens to a pod of this node whose sandbox exists and whose object is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownPods {
    /// All its traffic is denied, in both directions, until its object is known.
    #[default]
    Reject,
    /// All its traffic is allowed until its object is known.
    Allow,
}

/// The isolation of a subject: its addresses, and the policies that evaluate its traffic in each direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What evaluates traffic to it; `None` if it is not isolated for ingress.
    pub ingress: Option<Arc<Judgement>>,
    /// What evaluates traffic from it; `None` if it is not isolated for egress.
    pub egress: Option<Arc<Judgement>>,
}

impl Isolation {
    /// What evaluates its traffic in a direction; `None` if it is not isolated in it.
    pub fn judgement(&self, direction: Direction) -> Option<&Arc<Judgement>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }

    /// Its judgements, each with its direction.
    pub fn profiles(&self) -> impl Iterator<Item = Profile> {
        Direction::BOTH.into_iter().filter_map(|direction| self.profile(direction))
    }

    /// What evaluates its traffic in a direction, with that direction; `None` if it is not isolated in it.
    pub fn profile(&self, direction: Direction) -> Option<Profile> {
        self.judgement(direction).map(|judgement| Profile { direction, judgement: judgement.clone() })
    }

    /// Replaces a judgement by an equal one that other subjects share.
    pub(super) fn share(&mut self, direction: Direction, judgement: Arc<Judgement>) {
        match direction {
            Direction::Ingress => self.ingress = Some(judgement),
            Direction::Egress => self.egress = Some(judgement),
        }
    }

    /// Whether it has an address of a family.
    pub fn has_family(&self, family: Family) -> bool {
        self.addresses.iter().any(|address| Family::of(*address) == family)
    }

    /// Whether it is isolated in a direction.
    pub fn is_isolated(&self, direction: Direction) -> bool {
        self.judgement(direction).is_some()
    }
}

/// The families of some addresses.
pub(super) fn families(addresses: &[IpAddr]) -> BTreeSet<Family> {
    addresses.iter().map(|address| Family::of(*address)).collect()
}

/// The judgements of the pods of a group, for ingress and for egress.
type BothWays = [Option<Arc<Judgement>>; 2];

/// The judgements of the pods of a group.
struct OfGroup {
    /// What is enforced.
    enforced: BothWays,
    /// What is evaluated and reported only.
    audited: BothWays,
}

/// Computes the isolation of subjects from one state of the cluster. The pods of a group share their judgements, so
/// each group is evaluated only once.
pub(super) struct Isolations<'c> {
    cluster: &'c Cluster,
    unknown_pods: UnknownPods,
    groups: BTreeMap<GroupId, OfGroup>,
}

impl Isolations<'_> {
    pub(super) fn new(cluster: &Cluster, unknown_pods: UnknownPods) -> Isolations<'_> {
        Isolations { cluster, unknown_pods, groups: BTreeMap::new() }
    }

    /// The isolation of a subject; `None` if it is not on this node, has no address, or nothing isolates it.
    pub(super) fn isolation(&mut self, subject: &Subject) -> Option<Isolation> {
        match (subject, self.unknown_pods) {
            (Subject::Pod(key), _) => self.isolation_of_pod(key),
            (Subject::Unknown(key), UnknownPods::Reject) => {
                let addresses = self.cluster.addresses_of_unknown(key).to_vec();
                let closed = Some(Arc::new(Judgement::of_policies(BTreeSet::new())));
                (!addresses.is_empty()).then(|| Isolation {
                    addresses,
                    ingress: closed.clone(),
                    egress: closed,
                })
            }
            (Subject::Unknown(_), UnknownPods::Allow) => None,
        }
    }

    fn isolation_of_pod(&mut self, key: &PodKey) -> Option<Isolation> {
        self.with_addresses(key, |own| &own.enforced)
    }

    /// How audited policies would isolate a subject together with the enforced ones, in the directions of audited policies; `None` if
    /// there are none. An unknown pod is isolated completely, whatever policies say.
    pub(super) fn audit(&mut self, subject: &Subject) -> Option<Isolation> {
        match subject {
            Subject::Pod(key) => self.with_addresses(key, |own| &own.audited),
            Subject::Unknown(_) => None,
        }
    }

    fn with_addresses(
        &mut self,
        key: &PodKey,
        judgements: impl Fn(&OfGroup) -> &BothWays,
    ) -> Option<Isolation> {
        let cluster = self.cluster;
        let (addresses, group) = cluster.pod(key).filter(|_| cluster.is_local(key))?;
        let of_group = self.groups.entry(cluster.group_id_of(key)?);
        let [ingress, egress] = judgements(of_group.or_insert_with(|| OfGroup::new(cluster, group))).clone();
        let is_isolated = ingress.is_some() || egress.is_some();
        is_isolated.then(|| Isolation { addresses: addresses.to_vec(), ingress, egress })
    }
}

impl OfGroup {
    fn new(cluster: &Cluster, group: &Group) -> OfGroup {
        let own = cluster.policies_in(&group.namespace);
        let (audited, enforced): (Vec<&Policy>, Vec<&Policy>) = own
            .filter(|policy| policy.subject.matches(&group.labels))
            .partition(|policy| cluster.is_audited(policy));
        let in_direction = |policies: &[&Policy], direction| -> BTreeSet<PolicyKey> {
            let isolating = policies.iter().filter(|policy| policy.rules(direction).is_some());
            isolating.map(|policy| policy.key.clone()).collect()
        };
        let judgement = |policies: BTreeSet<PolicyKey>| {
            (!policies.is_empty()).then(|| Arc::new(Judgement::of_policies(policies)))
        };
        let both = [Direction::Ingress, Direction::Egress];
        OfGroup {
            enforced: both.map(|direction| judgement(in_direction(&enforced, direction))),
            audited: both.map(|direction| {
                let mut policies = in_direction(&audited, direction);
                if !policies.is_empty() {
                    policies.extend(in_direction(&enforced, direction));
                }
                judgement(policies)
            }),
        }
    }
}
