//! The plan of one node, updated incrementally: the work is proportional to what changed in the cluster.

use super::by_address::SubjectsByAddress;
use super::isolation::{self, Isolations};
use super::judgement::Profiles;
use super::locals::Locals;
use super::membership::{MemberChange, Membership};
use super::rule_shares::RuleShares;
use super::share::NamespaceShares;
use super::staging::Staging;
use super::{
    Audits, Delta, Isolation, Limits, Member, Placement, PolicyBlock, PortBinding, Profile, SetDefinition,
    SetDelta, Subject, UnknownPods,
};
use crate::model::{Cluster, Direction, Moved, NamespaceName, PodKey, PolicyKey, Touched};
use crate::net::Family;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

mod policies;
mod ports;

/// The number of a shared set.
pub type SetId = u32;

/// What this node must enforce.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    membership: Membership,
    policies: BTreeMap<PolicyKey, PolicyBlock>,
    isolations: BTreeMap<Subject, Isolation>,
    profiles: Profiles,
    isolated: SubjectsByAddress,
    audits: Audits,
    locals: Locals,
    ports: BTreeMap<u32, PortBinding>,
    unknown_pods: UnknownPods,
    limits: Limits,
    staging: Staging,
    shares: NamespaceShares,
    rule_shares: RuleShares,
    unsettled: Unsettled,
    /// About how many members new sets may still have before the next [`Plan::take`]; `None` for any number.
    slice: Option<usize>,
    pending: Delta,
}

/// What must be looked at again.
#[derive(Clone, Debug, Default)]
struct Unsettled {
    /// Whose isolation may have changed.
    subjects: BTreeSet<Subject>,
    /// The ports whose pod, or whose pod's addresses, may have.
    ports: BTreeSet<u32>,
    /// The namespaces some of whose pods' ports may have.
    namespaces: BTreeSet<NamespaceName>,
}

impl Unsettled {
    fn is_empty(&self) -> bool {
        self.subjects.is_empty() && self.ports.is_empty() && self.namespaces.is_empty()
    }
}

impl Plan {
    /// The plan of an empty cluster.
    pub fn new(unknown_pods: UnknownPods) -> Plan {
        Plan { unknown_pods, ..Plan::default() }
    }

    /// The same, with these limits for one policy. Must be called before the first fact.
    pub fn with_limits(self, limits: Limits) -> Plan {
        Plan { limits, ..self }
    }

    /// The limits for one policy.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// From now on, new sets are created in slices ([`Limits::slice`]).
    pub fn slice(&mut self) {
        self.slice = Some(self.limits.slice);
    }

    /// Applies what a change of the cluster touched. `cluster` is the cluster after that change and before the next.
    pub fn update(&mut self, cluster: &Cluster, touched: &Touched) {
        self.update_unsettled(cluster, touched);
        self.settle(cluster);
    }

    /// The same, but whom policies isolate is worked out with the next [`Plan::settle`]: a thousand policies about the same pods are
    /// then evaluated once and not a thousand times. Nothing else may be asked of the plan before that, but for its policies.
    pub fn update_unsettled(&mut self, cluster: &Cluster, touched: &Touched) {
        let mut changes = Vec::new();
        for &group in &touched.groups_born {
            self.membership.group_born(cluster, group);
        }
        let mut moves: BTreeMap<IpAddr, Vec<Moved>> = BTreeMap::new();
        for moved in &touched.moved {
            moves.entry(moved.address).or_default().push(*moved);
        }
        for (address, moves) in moves {
            self.membership.moved(cluster, address, &moves, &mut changes);
        }
        for namespace in &touched.namespaces {
            self.membership.namespace_changed(cluster, namespace, &mut changes);
        }
        for &group in &touched.groups_gone {
            self.membership.group_gone(group);
        }
        for change in changes {
            self.membership.count(change);
            self.note(change);
        }
        let pods = self.reconcile_policies(cluster, touched);
        let unknown = || touched.sandboxes.iter().cloned().map(Subject::Unknown);
        for subject in touched.local_pods.iter().cloned().map(Subject::Pod).chain(unknown()) {
            self.reconcile_addresses(cluster, &subject);
        }
        self.unsettled.subjects.extend(pods.into_iter().map(Subject::Pod).chain(unknown()));
        self.unsettled.ports.extend(&touched.ports);
        self.unsettled.namespaces.extend(touched.namespaces.iter().cloned());
        self.pending.bridge |= touched.bridge;
    }

    /// Works out whom policies isolate, after what [`Plan::update_unsettled`] took in. `cluster` is the cluster after the last of it.
    pub fn settle(&mut self, cluster: &Cluster) {
        let Unsettled { subjects, mut ports, namespaces } = std::mem::take(&mut self.unsettled);
        let mut isolations = Isolations::new(cluster, self.unknown_pods);
        for subject in subjects {
            self.reconcile_isolation(&mut isolations, &subject);
            self.audits.set(&subject, isolations.audit(&subject), &mut self.pending.audit);
            ports.extend(cluster.ports_of(subject.pod()));
        }
        if !namespaces.is_empty() {
            ports.extend(self.ports_in(cluster, &namespaces));
        }
        for port in ports {
            self.reconcile_port(cluster, port);
        }
    }

    /// Takes what changed since the last time, and frees sets without references.
    pub fn take(&mut self, cluster: &Cluster) -> Delta {
        debug_assert!(self.unsettled.is_empty(), "it is settled before it is taken");
        for definition in self.membership.bury(cluster) {
            self.pending.sets.insert(definition, SetDelta::Retired);
        }
        self.slice = self.slice.map(|_| self.limits.slice);
        std::mem::take(&mut self.pending)
    }

    /// What changed since the last time, if only members of sets did.
    pub fn pending_members(&self) -> Option<&Delta> {
        Some(&self.pending).filter(|pending| pending.is_of_members())
    }

    /// Takes what [`Plan::pending_members`] returns. Sets without references stay until the next [`Plan::take`].
    pub fn take_members(&mut self) -> Option<Delta> {
        self.pending.is_of_members().then(|| std::mem::take(&mut self.pending))
    }

    /// Whether anything changed since it was last taken.
    pub fn has_changed(&self) -> bool {
        debug_assert!(self.unsettled.is_empty(), "it is settled before it is asked");
        !self.pending.is_empty()
    }

    /// The policies that have a subject here.
    pub fn policies(&self) -> &BTreeMap<PolicyKey, PolicyBlock> {
        &self.policies
    }

    /// The subjects of this node that are isolated.
    pub fn isolations(&self) -> &BTreeMap<Subject, Isolation> {
        debug_assert!(self.unsettled.is_empty(), "it is settled before it is asked");
        &self.isolations
    }

    /// Whom audited policies would isolate, and how.
    pub fn audits(&self) -> &Audits {
        debug_assert!(self.unsettled.is_empty(), "it is settled before it is asked");
        &self.audits
    }

    /// What evaluates the traffic of isolated subjects; each profile applies to one or more of them.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.iter()
    }

    /// Whether a subject of a profile has an address of a family.
    pub fn profile_has_family(&self, profile: &Profile, family: Family) -> bool {
        self.profiles.has_family(profile, family)
    }

    /// Whether a subject of a profile has any address.
    pub fn profile_is_in_use(&self, profile: &Profile) -> bool {
        self.profiles.is_in_use(profile)
    }

    /// The isolated addresses of a direction, each with the subject that has it, in order.
    pub fn isolated(&self, direction: Direction) -> impl Iterator<Item = (IpAddr, &Subject)> {
        self.isolated.in_direction(direction)
    }

    /// The ports of the bridge behind which pods are, or may be, with what may pass each.
    pub fn ports(&self) -> &BTreeMap<u32, PortBinding> {
        &self.ports
    }

    /// The addresses of this node's pods, isolated or not.
    pub fn local(&self) -> impl Iterator<Item = IpAddr> {
        self.locals.local()
    }

    /// Who has an address on this node.
    pub fn placement(&self, address: IpAddr) -> Placement {
        self.locals.placement(address)
    }

    /// Every address that a local pod or a port has.
    pub fn placed(&self) -> BTreeSet<IpAddr> {
        self.locals.local().chain(self.locals.bound()).collect()
    }

    /// How many pods of this node have an address without a known port.
    pub fn unbound_pods(&self) -> usize {
        self.locals.unbound_subjects()
    }

    /// How unknown pods of this node are treated.
    pub fn unknown_pods(&self) -> UnknownPods {
        self.unknown_pods
    }

    /// The sets in use.
    pub fn sets(&self) -> impl Iterator<Item = &Arc<SetDefinition>> {
        self.membership.definitions()
    }

    /// All members of a set of pods or named ports.
    pub fn members(&self, cluster: &Cluster, set: &SetDefinition) -> BTreeSet<Member> {
        self.membership.members(cluster, set)
    }

    /// Whether a set of pods or named ports contains a member.
    pub fn contains(&self, cluster: &Cluster, set: &SetDefinition, member: Member) -> bool {
        self.membership.id(set).is_some_and(|id| self.membership.contains(cluster, id, member))
    }

    fn note(&mut self, (set, member, came): MemberChange) {
        let Some(definition) = self.membership.definition(set) else { return };
        if !came {
            self.pending.revoked.insert(member.address());
        }
        match self.pending.sets.entry(definition.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(SetDelta::Members(BTreeMap::from([(member, came)])));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                SetDelta::Fresh | SetDelta::Retired => {}
                SetDelta::Members(members) => {
                    match members.get(&member) {
                        Some(before) if *before != came => members.remove(&member),
                        Some(_) | None => members.insert(member, came),
                    };
                    if members.is_empty() {
                        entry.remove();
                    }
                }
            },
        }
    }

    /// Recomputes every policy that a change may affect; returns the pods whose isolation may change as a result.
    fn reconcile_policies(&mut self, cluster: &Cluster, touched: &Touched) -> BTreeSet<PodKey> {
        let mut keys = touched.policies.clone();
        let mut pods = touched.local_pods.clone();
        for pod in &touched.local_pods {
            let here = cluster.pod(pod).filter(|_| cluster.is_local(pod));
            let labels = here.map(|(_, group)| &group.labels);
            let families = here.map(|(addresses, _)| isolation::families(addresses)).unwrap_or_default();
            let others = isolation::families(self.locals.of(&Subject::Pod(pod.clone()))) != families;
            for policy in cluster.policies_in(&pod.namespace) {
                let was = self.policies.get(&policy.key).is_some_and(|block| block.subjects.contains(pod));
                let is = labels.is_some_and(|labels| policy.subject.matches(labels));
                if was != is || others && is {
                    keys.insert(policy.key.clone());
                }
            }
        }
        for key in keys {
            let old = self.policies.get(&key).map(|block| block.subjects.clone()).unwrap_or_default();
            self.reconcile_policy(cluster, &key, touched.policies.contains(&key));
            let new = self.policies.get(&key).map(|block| block.subjects.clone()).unwrap_or_default();
            if touched.policies.contains(&key) {
                pods.extend(old.into_iter().chain(new));
            }
        }
        self.complete_short(cluster);
        pods
    }

    fn reconcile_isolation(&mut self, isolations: &mut Isolations<'_>, subject: &Subject) {
        let mut new = isolations.isolation(subject);
        let old = self.isolations.remove(subject);
        if old == new {
            new = old;
        } else {
            let profiles = self.profiles.change(old.as_ref(), &mut new);
            self.pending.profiles.extend(profiles);
            for direction in Direction::BOTH {
                self.reconcile_isolated_addresses(subject, direction, old.as_ref(), new.as_ref());
            }
            self.pending.isolations.insert(subject.clone());
            self.pending.revoked.extend(new.iter().flat_map(|isolation| &isolation.addresses));
        }
        if let Some(new) = new {
            self.isolations.insert(subject.clone(), new);
        }
    }

    fn reconcile_isolated_addresses(
        &mut self,
        subject: &Subject,
        direction: Direction,
        old: Option<&Isolation>,
        new: Option<&Isolation>,
    ) {
        let addresses = |isolation: Option<&Isolation>| -> BTreeSet<IpAddr> {
            let isolated = isolation.filter(|isolation| isolation.is_isolated(direction));
            isolated.into_iter().flat_map(|isolation| isolation.addresses.iter().copied()).collect()
        };
        let (old, new) = (addresses(old), addresses(new));
        for &address in old.symmetric_difference(&new) {
            let is_isolated = new.contains(&address);
            let was_open = !self.is_isolated(direction, address);
            if is_isolated {
                self.isolated.insert(direction, address, subject);
            } else {
                self.isolated.remove(direction, address, subject);
            }
            self.pending.judged.insert((direction, address));
            if was_open == self.is_isolated(direction, address) {
                self.note_isolation(direction, address, is_isolated);
            }
        }
    }

    fn note_isolation(&mut self, direction: Direction, address: IpAddr, isolated: bool) {
        match self.pending.isolated.get(&(direction, address)) {
            Some(before) if *before != isolated => {
                self.pending.isolated.remove(&(direction, address));
            }
            Some(_) | None => {
                self.pending.isolated.insert((direction, address), isolated);
            }
        }
    }

    /// Whether a pod at an address is isolated in a direction.
    pub fn is_isolated(&self, direction: Direction, address: IpAddr) -> bool {
        self.isolated_at(direction, address).next().is_some()
    }

    /// The subjects with an address that are isolated in a direction; more than one only for a moment.
    pub fn isolated_at(&self, direction: Direction, address: IpAddr) -> impl Iterator<Item = &Subject> {
        self.isolated.at(direction, address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Change, Demand, Labels, Namespace, NamespaceName, NamespaceScope, Peer, Peers, Pod, Policy, Ports,
        Requirement, Rule, Sandbox, SandboxKey, Selector,
    };
    use std::time::Duration;

    fn pod(name: &str, app: &str) -> Change {
        let labels = [("app", app), ("name", name)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        Change::Pod(Pod {
            node: Some("node-a".into()),
            labels: Labels::new(&labels.into()),
            ..Pod::new(PodKey::new("shop", name))
        })
    }

    fn sandbox(of: &str, made: u64, host: u8) -> Sandbox {
        let key = SandboxKey::new(PodKey::new("shop", of), "sandbox");
        let addresses = vec![IpAddr::from([10, 244, 1, host])];
        Sandbox {
            key,
            uid: None,
            addresses,
            made: Duration::from_secs(made),
            devices: Vec::new(),
            hardware: None,
        }
    }

    fn selector(app: &str) -> Selector {
        let demand = Demand::In(BTreeSet::from([app.into()]));
        Selector::new([Requirement { key: "app".into(), demand }])
    }

    fn web_allows_clients() -> Change {
        let peer = Peer::Pods { namespaces: NamespaceScope::Own, pods: selector("client") };
        let rule = Rule { index: 0, peers: Peers::Listed(vec![peer]), ports: Ports::All };
        Change::Policy(Policy {
            key: PolicyKey::new("shop", "web"),
            uid: None,
            version: Default::default(),
            subject: selector("web"),
            ingress: Some(vec![rule]),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        })
    }

    #[test]
    fn changes_that_are_settled_together_end_as_if_each_had_been_settled() {
        let Change::Policy(second) = web_allows_clients() else { panic!("it is a policy") };
        let second = Policy { key: PolicyKey::new("shop", "second"), egress: Some(Vec::new()), ..second };
        let with_both = |app: &str| [pod("web", app), Change::Sandbox(sandbox("web", 1, 10))];
        let changes = [web_allows_clients(), Change::Policy(second)].into_iter().chain(with_both("web"));
        let changes = changes.chain(with_both("none")).chain(with_both("web"));
        let (mut cluster, mut each) = (Cluster::new("node-a"), Plan::default());
        let mut together = Plan::default();
        for change in changes.chain([Change::Sandbox(sandbox("web", 2, 11))]) {
            let touched = cluster.apply(change);
            each.update(&cluster, &touched);
            together.update_unsettled(&cluster, &touched);
        }
        together.settle(&cluster);
        assert_eq!(together.isolations().len(), 1);
        assert_eq!((together.isolations(), together.policies()), (each.isolations(), each.policies()));
        assert!(together.profiles().eq(each.profiles()));
        let isolated = |plan: &Plan| plan.isolated(Direction::Egress).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(isolated(&together), isolated(&each));
        assert_eq!(together.take(&cluster).local, each.take(&cluster).local);
    }

    #[test]
    fn namespace_that_is_labelled_to_and_fro_changes_nothing_for_two_alike_at_one_address() {
        let alike = |name: &str| {
            let Change::Pod(pod) = pod("", "client") else { panic!("it is a pod") };
            let (key, node) = (PodKey::new("other", name), Some("node-b".into()));
            Change::Pod(Pod { key, node, addresses: vec![IpAddr::from([10, 244, 2, 20])], ..pod })
        };
        let namespace = |app: &str| {
            let labels = Labels::new(&[("app".to_owned(), app.to_owned())].into());
            Change::Namespace(Namespace { name: NamespaceName::new("other"), labels, terminating: false })
        };
        let from_others = || {
            let Change::Policy(policy) = web_allows_clients() else { panic!("it is a policy") };
            let namespaces = NamespaceScope::Matching(selector("other"));
            let peer = Peer::Pods { namespaces, pods: Selector::everything() };
            let rule = Rule { index: 0, peers: Peers::Listed(vec![peer]), ports: Ports::All };
            Change::Policy(Policy { ingress: Some(vec![rule]), ..policy })
        };
        let mut cluster = Cluster::new("node-a");
        let mut plan = Plan::default();
        let mut apply = |plan: &mut Plan, change: Change| {
            let touched = cluster.apply(change);
            plan.update(&cluster, &touched);
            cluster.clone()
        };
        let web = Change::Sandbox(sandbox("web", 1, 10));
        for change in [pod("web", "web"), web, from_others(), namespace("other")] {
            apply(&mut plan, change);
        }
        apply(&mut plan, alike("one"));
        let now = apply(&mut plan, alike("two"));
        plan.take(&now);
        apply(&mut plan, namespace("none"));
        let now = apply(&mut plan, namespace("other"));
        assert_eq!(plan.take(&now).sets, BTreeMap::new());
    }

    #[test]
    fn namespace_whose_labels_come_to_match_lets_nobody_in_at_an_address_that_another_pod_claims() {
        let Change::Pod(client) = pod("", "client") else { panic!("it is a pod") };
        let of = |namespace: &str| {
            let (key, node) = (PodKey::new(namespace, "client"), Some("node-b".into()));
            Change::Pod(Pod { key, node, addresses: vec![IpAddr::from([10, 244, 2, 20])], ..client.clone() })
        };
        let labelled = |name: &str, app: &str| {
            let labels = Labels::new(&[("app".to_owned(), app.to_owned())].into());
            Change::Namespace(Namespace { name: NamespaceName::new(name), labels, terminating: false })
        };
        let Change::Policy(policy) = web_allows_clients() else { panic!("it is a policy") };
        let namespaces = NamespaceScope::Matching(selector("other"));
        let peer = Peer::Pods { namespaces, pods: Selector::everything() };
        let rule = Rule { index: 0, peers: Peers::Listed(vec![peer]), ports: Ports::All };
        let (mut cluster, mut plan) = (Cluster::new("node-a"), Plan::default());
        let mut members = |changes: Vec<Change>| {
            for change in changes {
                let touched = cluster.apply(change);
                plan.update(&cluster, &touched);
            }
            let taken = plan.take(&cluster).sets.into_values();
            taken
                .filter_map(
                    |change| if let SetDelta::Members(members) = change { Some(members.len()) } else { None },
                )
                .sum::<usize>()
        };
        let web = Change::Sandbox(sandbox("web", 1, 10));
        let Change::Pod(subject) = pod("web", "web") else { panic!("it is a pod") };
        members(vec![
            Change::Pod(subject),
            web,
            Change::Policy(Policy { ingress: Some(vec![rule]), ..policy }),
        ]);
        members(vec![labelled("one", "none"), labelled("two", "none"), of("one"), of("two")]);
        assert_eq!(members(vec![labelled("one", "other")]), 0, "it may be the pod of the other one");
        assert_eq!(members(vec![labelled("two", "other")]), 1, "whichever it is");
        assert_eq!(members(vec![labelled("one", "none")]), 1, "it is let in no longer");
    }

    /// Each delta must lead from the plan as it was taken before to the current plan.
    #[test]
    fn address_that_passes_from_peer_to_peer_and_goes_before_the_flush_is_taken_out() {
        let mut cluster = Cluster::new("node-a");
        let mut plan = Plan::default();
        let mut apply = |plan: &mut Plan, change: Change| {
            let touched = cluster.apply(change);
            plan.update(&cluster, &touched);
            plan.clone().take(&cluster)
        };
        let (old, new) = (sandbox("one", 1, 20), sandbox("two", 2, 20));
        for change in [pod("web", "web"), pod("one", "client"), pod("two", "client"), web_allows_clients()] {
            apply(&mut plan, change);
        }
        apply(&mut plan, Change::Sandbox(sandbox("web", 1, 10)));
        let first = apply(&mut plan, Change::Sandbox(old.clone()));
        assert_eq!(first.sets.values().collect::<Vec<_>>(), [&SetDelta::Fresh]);
        plan.pending = Delta::default();
        let passed = apply(&mut plan, Change::Sandbox(new.clone()));
        assert_eq!(passed.sets, BTreeMap::new(), "it stays in the set");
        apply(&mut plan, Change::SandboxGone(old.key));
        let gone = apply(&mut plan, Change::SandboxGone(new.key));
        let out = BTreeMap::from([(Member::Address(IpAddr::from([10, 244, 1, 20])), false)]);
        assert_eq!(gone.sets.values().collect::<Vec<_>>(), [&SetDelta::Members(out)]);
    }
}
