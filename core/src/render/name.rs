//! Names in the kernel. They depend only on identities, never on time or content, and collisions are detected.

use crate::collections::HashIndex;
use crate::compile::{Delta, Plan, Profile, Scope, SetDefinition, SetDelta, Subject, Tier};
use crate::model::{Demand, Direction, PolicyKey, Selector};
use crate::net::{Family, PortRange};
use crate::netfilter::{CHAIN_NAME_MAX, ChainName, SET_NAME_MAX, SetName};
use crate::ownership::{HASH_ALPHABET, HASH_MARK, POD_PREFIX, POLICY_PREFIX};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

/// Hashes identities. Each part is preceded by its length, so that different lists of parts never have the same bytes.
#[derive(Default)]
struct Identity(Sha256);

impl Identity {
    fn part(mut self, part: &str) -> Identity {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn number(mut self, number: u64) -> Identity {
        self.0.update(number.to_be_bytes());
        self
    }

    /// What a chain of this kind is for: a policy, in a direction.
    fn of_policy(kind: &str, policy: &PolicyKey, direction: Direction) -> Identity {
        let identity = Identity::default().part(kind).part(direction_word(direction));
        identity.part(policy.namespace.as_str()).part(&policy.name)
    }

    fn selector(self, selector: &Selector) -> Identity {
        let requirements: Vec<_> = selector.requirements().collect();
        let mut identity = self.number(requirements.len() as u64);
        for requirement in requirements {
            let nothing = Default::default();
            let (word, values) = match &requirement.demand {
                Demand::In(values) => ("in", values),
                Demand::NotIn(values) => ("not-in", values),
                Demand::Exists => ("exists", &nothing),
                Demand::DoesNotExist => ("does-not-exist", &nothing),
            };
            identity = identity.part(&requirement.key).part(word).number(values.len() as u64);
            identity = values.iter().fold(identity, |identity, value| identity.part(value));
        }
        identity
    }

    fn subject(self, subject: &Subject, direction: Direction) -> Identity {
        let (word, pod) = match subject {
            Subject::Pod(pod) => ("pod", pod),
            Subject::Unknown(sandbox) => ("unknown", &sandbox.pod),
        };
        let identity = self.part(word).part(direction_word(direction));
        let identity = identity.part(pod.namespace.as_str()).part(&pod.name);
        match subject {
            Subject::Pod(_) => identity,
            Subject::Unknown(sandbox) => identity.part(&sandbox.name),
        }
    }

    fn profile(self, profile: &Profile) -> Identity {
        let identity = self.part("profile").part(direction_word(profile.direction));
        profile.judgement.tiers.iter().fold(identity, |identity, Tier::Namespaced(policies)| {
            let identity = identity.part("namespaced").number(policies.len() as u64);
            policies.iter().fold(identity, |identity, policy| {
                identity.part(policy.namespace.as_str()).part(&policy.name)
            })
        })
    }

    fn definition(self, definition: &SetDefinition) -> Identity {
        match definition {
            SetDefinition::Pods { namespaces: Scope::One(name), pods } => {
                self.part("one").part(name.as_str()).selector(pods)
            }
            SetDefinition::Pods { namespaces: Scope::Matching(namespaces), pods } => {
                self.part("matching").selector(namespaces).selector(pods)
            }
            SetDefinition::AnyOf(union) => {
                let peers = union.peers();
                let identity = self.part("any-of").number(peers.len() as u64);
                peers.iter().fold(identity, |identity, peer| match &peer.namespaces {
                    Scope::One(name) => identity.part("one").part(name.as_str()).selector(&peer.pods),
                    Scope::Matching(namespaces) => {
                        identity.part("matching").selector(namespaces).selector(&peer.pods)
                    }
                })
            }
            SetDefinition::NamedPort { name, protocol } => {
                self.part("port").part(name).part(protocol.lowercase())
            }
            SetDefinition::Blocks(blocks) => {
                blocks.iter().fold(self.part("blocks").number(blocks.len() as u64), |identity, block| {
                    let identity = identity.part(&block.cidr.to_string()).number(block.except.len() as u64);
                    block.except.iter().fold(identity, |identity, except| identity.part(&except.to_string()))
                })
            }
        }
    }

    /// The hash with its mark, in this many characters.
    fn text(self, length: usize) -> String {
        let digest = self.0.finalize();
        let bits = |at: usize| usize::from(digest[at / 8]) << 8 | usize::from(digest[at / 8 + 1]);
        let character = |at: usize| HASH_ALPHABET[bits(at) >> (11 - at % 8) & 31] as char;
        let rest = (0..length - HASH_MARK.len()).map(|at| character(at * 5));
        HASH_MARK.chars().chain(rest).collect()
    }
}

/// The length of the hash of a set of port ranges: 130 bits and the mark.
const PORT_SET_HASH: usize = 27;

/// Assigns names, each to one identity at a time.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pods: Register<(Subject, Direction), ChainName>,
    policies: Register<(PolicyKey, Direction), ChainName>,
    profiles: Register<Profile, ChainName>,
    audit_pods: Register<(Subject, Direction), ChainName>,
    audit_policies: Register<(PolicyKey, Direction), ChainName>,
    audit_profiles: Register<Profile, ChainName>,
    sets: Register<(Arc<SetDefinition>, Family), SetName>,
}

#[derive(Clone, Debug)]
struct Register<I, N> {
    names: HashIndex<(I, N)>,
    owners: BTreeMap<N, I>,
}

impl<I, N> Default for Register<I, N> {
    fn default() -> Register<I, N> {
        Register { names: HashIndex::default(), owners: BTreeMap::new() }
    }
}

impl<I: Clone + Eq + Hash, N: Clone + Ord> Register<I, N> {
    /// The name of an identity: `make(0)`, or the result for the next number if another identity has that name.
    fn name(&mut self, identity: I, make: impl Fn(u64) -> N) -> N {
        if let Some((_, name)) = self.names.get(&identity, |(own, _)| *own == identity) {
            return name.clone();
        }
        let name = (0..).map(make).find(|name| !self.owners.contains_key(name));
        let name = name.expect("names do not run out");
        self.names.insert(&identity, (identity.clone(), name.clone()));
        self.owners.insert(name.clone(), identity);
        name
    }

    fn forget(&mut self, identity: &I) -> Option<N> {
        let (_, name) = self.names.remove(identity, |(own, _)| own == identity)?;
        self.owners.remove(&name);
        Some(name)
    }
}

fn chain(name: &str) -> ChainName {
    ChainName::new(name).expect("a prefix and a hash make a chain name")
}

/// The name with a prefix and as much of an identity's hash as fits.
fn hashed(prefix: &str, identity: Identity) -> ChainName {
    chain(&format!("{prefix}{}", identity.text(CHAIN_NAME_MAX - prefix.len())))
}

fn set(name: &str) -> SetName {
    SetName::new(name).expect("a prefix and a hash make a set name")
}

impl Names {
    /// The chain that evaluates a pod's traffic in a direction.
    pub fn pod(&mut self, subject: &Subject, direction: Direction) -> ChainName {
        self.pods.name((subject.clone(), direction), |salt| {
            let identity = Identity::default().subject(subject, direction).number(salt);
            hashed(POD_PREFIX, identity)
        })
    }

    /// The chain with what a policy allows in a direction.
    pub fn policy(&mut self, policy: &PolicyKey, direction: Direction) -> ChainName {
        self.policies.name((policy.clone(), direction), |salt| {
            hashed(POLICY_PREFIX, Identity::of_policy("policy", policy, direction).number(salt))
        })
    }

    /// The chain that evaluates the traffic of all pods of a profile.
    pub fn profile(&mut self, profile: &Profile) -> ChainName {
        self.profiles.name(profile.clone(), |salt| {
            let identity = Identity::default().profile(profile).number(salt);
            hashed(POLICY_PREFIX, identity)
        })
    }

    /// The chain that evaluates a pod's allowed traffic in a direction by its audited policies.
    pub fn audit_pod(&mut self, subject: &Subject, direction: Direction) -> ChainName {
        self.audit_pods.name((subject.clone(), direction), |salt| {
            let identity = Identity::default().part("audit").subject(subject, direction).number(salt);
            hashed(POLICY_PREFIX, identity)
        })
    }

    /// The chain with what a policy would allow in a direction, for audits. It is never the chain that is enforced, which counts what
    /// the policy allows.
    pub fn audit_policy(&mut self, policy: &PolicyKey, direction: Direction) -> ChainName {
        self.audit_policies.name((policy.clone(), direction), |salt| {
            hashed(POLICY_PREFIX, Identity::of_policy("audit-policy", policy, direction).number(salt))
        })
    }

    /// The chain that evaluates the allowed traffic of all pods with an audit's profile.
    pub fn audit_profile(&mut self, profile: &Profile) -> ChainName {
        self.audit_profiles.name(profile.clone(), |salt| {
            let identity = Identity::default().part("audit").profile(profile).number(salt);
            hashed(POLICY_PREFIX, identity)
        })
    }

    /// A set of port ranges that only one policy's chain refers to. Changed ranges are another set with another name,
    /// because a rule and its set must change in one instant. The hash is long enough that different lists of ranges
    /// never have the same name.
    pub fn port_set(chain: &ChainName, ranges: &[PortRange]) -> String {
        let identity = Identity::default().part("port-set").number(ranges.len() as u64);
        let identity = ranges.iter().fold(identity, |identity, range| {
            identity.number(range.first().into()).number(range.last().into())
        });
        format!("{chain}-{}", identity.text(PORT_SET_HASH))
    }

    /// The policies whose chains have names, with their directions.
    pub fn policies(&self) -> impl Iterator<Item = (&ChainName, &(PolicyKey, Direction))> {
        self.policies.owners.iter()
    }

    /// A shared set, in one family.
    pub fn set(&mut self, definition: &Arc<SetDefinition>, family: Family) -> SetName {
        let letter = match **definition {
            SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) => 'P',
            SetDefinition::NamedPort { .. } => 'N',
            SetDefinition::Blocks(_) => 'B',
        };
        self.sets.name((definition.clone(), family), |salt| {
            let prefix = format!("{POLICY_PREFIX}{letter}{}-", family.digit());
            let identity = Identity::default().part("set").definition(definition).number(salt);
            set(&format!("{prefix}{}", identity.text(SET_NAME_MAX - prefix.len())))
        })
    }

    /// Frees a pod's chain name, and returns it if there was one.
    pub fn forget_pod(&mut self, subject: &Subject, direction: Direction) -> Option<ChainName> {
        self.pods.forget(&(subject.clone(), direction))
    }

    /// Frees a policy's chain name, and returns it if there was one.
    pub fn forget_policy(&mut self, policy: &PolicyKey, direction: Direction) -> Option<ChainName> {
        self.policies.forget(&(policy.clone(), direction))
    }

    /// Frees a profile's chain name, and returns it if there was one.
    pub fn forget_profile(&mut self, profile: &Profile) -> Option<ChainName> {
        self.profiles.forget(profile)
    }

    /// Frees the name of a pod's chain for audits, and returns it if there was one.
    pub fn forget_audit_pod(&mut self, subject: &Subject, direction: Direction) -> Option<ChainName> {
        self.audit_pods.forget(&(subject.clone(), direction))
    }

    /// Frees the name of a policy's chain for audits, and returns it if there was one.
    pub fn forget_audit_policy(&mut self, policy: &PolicyKey, direction: Direction) -> Option<ChainName> {
        self.audit_policies.forget(&(policy.clone(), direction))
    }

    /// Frees the name of an audit's profile's chain, and returns it if there was one.
    pub fn forget_audit_profile(&mut self, profile: &Profile) -> Option<ChainName> {
        self.audit_profiles.forget(profile)
    }

    /// Frees a set's name, and returns it if there was one.
    pub fn forget_set(&mut self, definition: &Arc<SetDefinition>, family: Family) -> Option<SetName> {
        self.sets.forget(&(definition.clone(), family))
    }

    /// Frees the names of profiles, sets and audits' chains that are no longer used, but for those of audited pods.
    pub fn forget_unused(&mut self, plan: &Plan, delta: &Delta) {
        for profile in delta.audit.profiles.iter().filter(|profile| !plan.audits().is_in_use(profile)) {
            self.forget_audit_profile(profile);
        }
        for (policy, direction) in &delta.audit.policies {
            if !plan.audits().has_policy(policy, *direction) {
                self.forget_audit_policy(policy, *direction);
            }
        }
        for profile in delta.profiles.iter().filter(|profile| !plan.profile_is_in_use(profile)) {
            self.forget_profile(profile);
        }
        for (definition, _) in delta.sets.iter().filter(|(_, change)| **change == SetDelta::Retired) {
            for family in Family::BOTH {
                self.forget_set(definition, family);
            }
        }
    }
}

fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// The fixed chain that evaluates forwarded packets.
pub fn forward_chain() -> ChainName {
    chain(&format!("{POLICY_PREFIX}FORWARD"))
}

/// The fixed chain for packets that leave the node with an address that is not its own.
pub fn output_chain() -> ChainName {
    chain(&format!("{POLICY_PREFIX}OUTPUT"))
}

/// The fixed chain for packets from pods to their node.
pub fn input_chain() -> ChainName {
    chain(&format!("{POLICY_PREFIX}INPUT"))
}

/// The fixed chain for packets of connections that were cut.
pub fn revoked_chain() -> ChainName {
    chain(&format!("{POLICY_PREFIX}REVOKED"))
}

/// The fixed chain that accepts packets that were evaluated and allowed.
pub fn accept_chain() -> ChainName {
    chain(&format!("{POLICY_PREFIX}ACCEPT"))
}

/// The fixed chain that finds the chains of audited addresses.
pub fn audit_chain() -> ChainName {
    chain(&format!("{POLICY_PREFIX}AUDIT"))
}

/// The fixed chain that denies packets to an address that no pod has.
pub fn unassigned_chain() -> ChainName {
    chain(&format!("{POLICY_PREFIX}UNASSIGNED"))
}

/// The fixed chain that finds the bucket of an isolated address.
pub fn dispatch_chain(direction: Direction) -> ChainName {
    chain(&format!("{POLICY_PREFIX}{}", direction_word(direction).to_uppercase()))
}

/// The chain of a bucket: it finds the pod chains of its isolated addresses.
pub fn bucket_chain(direction: Direction, bucket: u8) -> ChainName {
    chain(&format!("{}-{bucket:02X}", dispatch_chain(direction)))
}

/// The set of all addresses of this node's pods.
pub fn local_set(family: Family) -> SetName {
    set(&format!("{POLICY_PREFIX}LOCAL-{}", family.digit()))
}

/// The set of isolated addresses.
pub fn isolated_set(direction: Direction, family: Family) -> SetName {
    set(&format!("{POLICY_PREFIX}ISOLATED-{}-{}", direction_word(direction).to_uppercase(), family.digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PodKey, SandboxKey};
    use std::collections::BTreeSet;

    #[test]
    fn names_fill_what_the_kernel_allows_and_no_more() {
        let mut names = Names::default();
        let pod = names.pod(&Subject::Pod(PodKey::new("shop", "web")), Direction::Ingress);
        assert_eq!((pod.as_str().len(), &pod.as_str()[..21]), (28, "KUBE-POD-SPECIFIC-FW-"));
        let policy = names.policy(&PolicyKey::new("shop", "web"), Direction::Egress);
        assert_eq!((policy.as_str().len(), &policy.as_str()[..12]), (28, "KUBE-NWPLCY-"));
        let everyone = Arc::new(SetDefinition::Pods {
            namespaces: Scope::Matching(Selector::everything()),
            pods: Selector::everything(),
        });
        assert_eq!(names.set(&everyone, Family::V6).as_str().len(), 31);
        assert!(isolated_set(Direction::Ingress, Family::V4).as_str().len() <= 31);
    }

    #[test]
    fn tenants_whose_names_run_together_alike_have_names_of_their_own() {
        let mut names = Names::default();
        let one = names.policy(&PolicyKey::new("team", "a-allow-db"), Direction::Ingress);
        let other = names.policy(&PolicyKey::new("tea", "ma-allow-db"), Direction::Ingress);
        assert_ne!(one, other);
    }

    #[test]
    fn directions_of_one_pod_and_families_of_one_set_differ() {
        let mut names = Names::default();
        let pod = Subject::Pod(PodKey::new("shop", "web"));
        assert_ne!(names.pod(&pod, Direction::Ingress), names.pod(&pod, Direction::Egress));
        let port =
            Arc::new(SetDefinition::NamedPort { name: "http".into(), protocol: crate::net::Protocol::Tcp });
        assert_ne!(names.set(&port, Family::V4), names.set(&port, Family::V6));
    }

    #[test]
    fn unknown_sandboxes_have_names_apart_from_their_pods_and_each_others() {
        let mut names = Names::default();
        let pod = PodKey::new("shop", "web");
        let unknown = |name: &str| Subject::Unknown(SandboxKey::new(pod.clone(), name));
        let subjects = [Subject::Pod(pod.clone()), unknown("a"), unknown("b")];
        let names: BTreeSet<_> =
            subjects.iter().map(|subject| names.pod(subject, Direction::Ingress)).collect();
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn colliding_identities_get_different_names_and_keep_them() {
        let mut register = Register::default();
        let make = |salt: u64| format!("same-{}", salt);
        let first = register.name("first", make);
        let second = register.name("second", make);
        assert_ne!(first, second);
        assert_eq!(register.name("first", make), first);
        assert_eq!(register.forget(&"first"), Some(first));
        assert_eq!(register.name("second", make), second);
    }

    #[test]
    fn names_do_not_depend_on_what_was_named_before() {
        let key = PolicyKey::new("a", "b");
        let mut used = Names::default();
        used.policy(&PolicyKey::new("x", "y"), Direction::Ingress);
        assert_eq!(used.policy(&key, Direction::Ingress), Names::default().policy(&key, Direction::Ingress));
    }
}
