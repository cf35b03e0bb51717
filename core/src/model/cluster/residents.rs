//! The pods of this node joined with their sandboxes: which pod has which address, even before the API server reports
//! it or if it reports something else.

mod unreadable;

use super::{Cluster, NOBODY};
use crate::model::{Labels, Moved, NamespaceName, Pod, PodKey, Sandbox, SandboxKey, Touched};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use unreadable::BY_ITS_OBJECT;

/// What is known of this node's pods and sandboxes, and of pods of other nodes with the same addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Residents {
    /// This node's pods according to their objects, with or without addresses.
    pods: BTreeMap<PodKey, Pod>,
    /// Pods of other nodes whose objects give an address that a sandbox of this node claims.
    rivals: BTreeMap<PodKey, Pod>,
    /// By address: the pods of this node and of other nodes whose objects state it.
    stated: BTreeMap<IpAddr, BTreeSet<PodKey>>,
    sandboxes: BTreeMap<SandboxKey, Sandbox>,
    /// By address: the sandboxes that claim it.
    claims: BTreeMap<IpAddr, BTreeSet<SandboxKey>>,
    /// Pods whose objects cannot be understood, and which are therefore given a sandbox with the addresses that the
    /// objects state.
    unreadable: BTreeSet<PodKey>,
    unknown: BTreeMap<SandboxKey, Unknown>,
    /// Pods of this node, each with an address of a sandbox of it that was removed: it has the address no more, whatever its
    /// object says.
    ended: BTreeSet<(PodKey, IpAddr)>,
    /// By address: how many unknown sandboxes may have it.
    claimed_by_unknown: BTreeMap<IpAddr, usize>,
}

/// A sandbox that belongs to no known pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unknown {
    /// Those of its addresses that it may have: no known pod has a sandbox with the address that is at least as recent.
    may_be_at: Box<[IpAddr]>,
    /// Those of them that it must be assumed to have.
    is_at: Box<[IpAddr]>,
}

impl Residents {
    /// Whether a pod of this namespace has a sandbox, or may have one soon.
    pub(super) fn expects_one_in(&self, namespace: &NamespaceName) -> bool {
        let least = PodKey { namespace: namespace.clone(), name: "".into() };
        let mut here = self.pods.range(least..).take_while(|(key, _)| key.namespace == *namespace);
        here.any(|(_, pod)| pod.networked && !pod.finished)
    }

    /// Whether an unknown sandbox may have an address.
    pub(super) fn is_claimed_by_unknown(&self, address: IpAddr) -> bool {
        self.claimed_by_unknown.contains_key(&address)
    }

    /// The pod of this node for which a sandbox was made, if it is known. A pod that shares its node's network has
    /// none.
    fn owner(&self, sandbox: &Sandbox) -> Option<&Pod> {
        let told_apart = |pod: &&Pod| match (&pod.uid, &sandbox.uid) {
            (Some(of_pod), Some(of_sandbox)) => of_pod == of_sandbox,
            (None, _) | (_, None) => true,
        };
        self.pods.get(&sandbox.key.pod).filter(told_apart).filter(|pod| pod.networked)
    }

    /// A sandbox.
    pub(super) fn sandbox(&self, key: &SandboxKey) -> Option<&Sandbox> {
        self.sandboxes.get(key)
    }

    pub(super) fn of_pod(&self, pod: &PodKey) -> impl Iterator<Item = &Sandbox> {
        let least = SandboxKey::new(pod.clone(), "");
        self.sandboxes.range(least..).take_while(move |(key, _)| key.pod == *pod).map(|(_, sandbox)| sandbox)
    }

    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = &Sandbox> {
        self.claims.get(&address).into_iter().flatten().filter_map(|key| self.sandboxes.get(key))
    }

    /// The sandboxes of known pods that claim an address.
    fn known_at(&self, address: IpAddr) -> impl Iterator<Item = &Sandbox> {
        self.at(address).filter(|sandbox| self.owner(sandbox).is_some())
    }

    fn get(&self, key: &PodKey) -> Option<&Pod> {
        self.pods.get(key).or_else(|| self.rivals.get(key))
    }

    /// A pod with all addresses that it has: those that its object states and those of its sandboxes, without those for
    /// which another known pod has a later sandbox. `None` for a pod that has none.
    fn joined(&self, key: &PodKey) -> Option<Pod> {
        let mut pod = self.get(key)?.clone();
        let sandboxes = self.of_pod(key).filter(|sandbox| self.owner(sandbox).is_some());
        let own: Vec<&Sandbox> = sandboxes.collect();
        pod.addresses = stated(&pod).to_vec();
        pod.addresses.extend(own.iter().flat_map(|sandbox| &sandbox.addresses));
        let rank = |sandbox: &Sandbox| (sandbox.made, sandbox.key.clone());
        pod.addresses.retain(|address| {
            let others = self.known_at(*address).filter(|other| other.key.pod != *key).map(rank).max();
            let own = own.iter().filter(|own| own.addresses.contains(address)).map(|own| rank(own)).max();
            others.is_none() || own > others
        });
        (!pod.addresses.is_empty()).then_some(pod)
    }

    /// Whether a pod of this node has an address according to its object only: no known pod has a sandbox with it. A pod
    /// whose sandbox was removed does not have the address any more.
    fn is_stated_alone(&self, address: IpAddr) -> bool {
        let mut stated = self.stated.get(&address).into_iter().flatten();
        let may_run =
            |key: &PodKey| self.pods.contains_key(key) && !self.ended.contains(&(key.clone(), address));
        self.known_at(address).next().is_none() && stated.any(may_run)
    }

    /// The addresses of an unknown sandbox; `None` for one that is known or was removed.
    ///
    /// A file that was never removed must not deny traffic forever: a pod of this node that has an address according to
    /// its object only is still evaluated by its own policies. But whether it still has the address is not known, so it
    /// is no peer there.
    fn look_for(&self, key: &SandboxKey) -> Option<Unknown> {
        let sandbox = self.sandboxes.get(key).filter(|sandbox| self.owner(sandbox).is_none())?;
        let may_be_at = |address: &&IpAddr| self.known_at(**address).all(|other| other.made < sandbox.made);
        let may_be_at: Box<[IpAddr]> = sandbox.addresses.iter().filter(may_be_at).copied().collect();
        let is_at = may_be_at.iter().filter(|address| !self.is_stated_alone(**address)).copied().collect();
        Some(Unknown { may_be_at, is_at })
    }

    fn insert(&mut self, sandbox: Sandbox) {
        for &address in &sandbox.addresses {
            self.claims.entry(address).or_default().insert(sandbox.key.clone());
        }
        self.sandboxes.insert(sandbox.key.clone(), sandbox);
    }

    fn remove(&mut self, key: &SandboxKey) -> Option<Sandbox> {
        let sandbox = self.sandboxes.remove(key)?;
        for address in &sandbox.addresses {
            forget(&mut self.claims, *address, key);
        }
        Some(sandbox)
    }

    /// Stores a pod according to its object, with the addresses that it states.
    fn keep(&mut self, key: &PodKey, pod: Pod, is_of_this_node: bool) {
        for &address in stated(&pod) {
            self.stated.entry(address).or_default().insert(key.clone());
        }
        let pods = if is_of_this_node { &mut self.pods } else { &mut self.rivals };
        pods.insert(key.clone(), pod);
    }

    /// Removes a pod; returns its last state, and whether it was one of this node's.
    fn discard(&mut self, key: &PodKey) -> (Option<Pod>, bool) {
        let of_this_node = self.pods.remove(key);
        let was_of_this_node = of_this_node.is_some();
        let pod = of_this_node.or_else(|| self.rivals.remove(key));
        for address in pod.iter().flat_map(stated) {
            forget(&mut self.stated, *address, key);
        }
        (pod, was_of_this_node)
    }

    /// Counts the addresses that an unknown sandbox may have. Returns those that now have their first such sandbox, or
    /// lost their last.
    fn count(&mut self, before: &[IpAddr], now: &[IpAddr]) -> Vec<(IpAddr, bool)> {
        let mut changed = Vec::new();
        for address in now.iter().filter(|address| !before.contains(address)) {
            let count = self.claimed_by_unknown.entry(*address).or_default();
            *count += 1;
            if *count == 1 {
                changed.push((*address, true));
            }
        }
        for address in before.iter().filter(|address| !now.contains(address)) {
            let Some(count) = self.claimed_by_unknown.get_mut(address) else { continue };
            *count -= 1;
            if *count == 0 {
                self.claimed_by_unknown.remove(address);
                changed.push((*address, false));
            }
        }
        changed
    }
}

/// The addresses that a pod's object states, if they can be the pod's own.
fn stated(pod: &Pod) -> &[IpAddr] {
    if pod.networked && !pod.finished { &pod.addresses } else { &[] }
}

fn forget<K: Ord>(by_address: &mut BTreeMap<IpAddr, BTreeSet<K>>, address: IpAddr, key: &K) {
    if let Some(keys) = by_address.get_mut(&address) {
        keys.remove(key);
        if keys.is_empty() {
            by_address.remove(&address);
        }
    }
}

impl Cluster {
    /// The sandboxes of this node that belong to no known pod, each with the addresses that it must be assumed to have.
    pub fn unknown_sandboxes(&self) -> impl Iterator<Item = (&SandboxKey, &[IpAddr])> {
        self.residents.unknown.iter().map(|(key, unknown)| (key, &*unknown.is_at))
    }

    /// The addresses that an unknown sandbox must be assumed to have; none for one that is known or was removed.
    pub fn addresses_of_unknown(&self, key: &SandboxKey) -> &[IpAddr] {
        self.residents.unknown.get(key).map_or(&[], |unknown| &unknown.is_at)
    }

    /// The pod of this node for which a sandbox was made, if it is known.
    pub fn pod_of_sandbox(&self, sandbox: &Sandbox) -> Option<&PodKey> {
        self.residents.owner(sandbox).map(|pod| &pod.key)
    }

    /// The uid of a pod of this node, if it is known.
    pub fn uid_of(&self, pod: &PodKey) -> Option<&str> {
        self.residents.pods.get(pod)?.uid.as_deref()
    }

    /// The labels of the pods of this node in a namespace that have addresses, or may have some soon, or still have a
    /// sandbox.
    pub fn residents_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Labels> {
        let least = PodKey { namespace: namespace.clone(), name: "".into() };
        let here = self.residents.pods.range(least..).take_while(move |(key, _)| key.namespace == *namespace);
        here.filter(|(_, pod)| pod.networked).map(|(_, pod)| &pod.labels)
    }

    /// How many sandboxes of this node there are.
    pub fn sandbox_count(&self) -> usize {
        self.residents.sandboxes.len() - self.residents.unreadable.len()
    }

    pub(super) fn set_pod(&mut self, pod: Pod, touched: &mut Touched) {
        let key = pod.key.clone();
        if pod.node.as_ref() == Some(&self.node) {
            let mut addresses: BTreeSet<IpAddr> = stated(&pod).iter().copied().collect();
            let before = self.residents.discard(&key).0;
            addresses.extend(before.iter().flat_map(stated));
            if before.is_none_or(|before| before.uid != pod.uid) {
                self.residents.ended.retain(|(pod, _)| *pod != key);
            }
            self.residents.keep(&key, pod, true);
            self.rejoin(key.clone(), addresses, touched);
            self.resident_changed(&key, touched);
        } else {
            self.replace_stranger(&key, Some(pod).filter(|pod| !stated(pod).is_empty()), touched);
        }
        self.end_unreadable(&key, touched);
    }

    pub(super) fn remove_pod(&mut self, key: &PodKey, touched: &mut Touched) {
        self.replace_stranger(key, None, touched);
        self.end_unreadable(key, touched);
    }

    /// Stores or removes a pod that is not on this node, or no longer.
    fn replace_stranger(&mut self, key: &PodKey, pod: Option<Pod>, touched: &mut Touched) {
        let (before, was_resident) = self.residents.discard(key);
        self.residents.ended.retain(|(pod, _)| pod != key);
        let is_claimed = |address: &IpAddr| self.residents.claims.contains_key(address);
        let rivals = pod.as_ref().is_some_and(|pod| pod.addresses.iter().any(is_claimed));
        match pod {
            Some(pod) if rivals => self.residents.keep(key, pod, false),
            Some(_) | None => self.replace_pod(key, pod, touched),
        }
        if before.is_some() || rivals {
            let addresses = before.iter().flat_map(stated).copied().collect();
            self.rejoin(key.clone(), addresses, touched);
        }
        if was_resident {
            self.resident_changed(key, touched);
        }
    }

    /// Recomputes the addresses of a pod and its sandboxes, and of everything else that has one of these addresses.
    fn rejoin(&mut self, key: PodKey, mut addresses: BTreeSet<IpAddr>, touched: &mut Touched) {
        let mut sandboxes = BTreeSet::new();
        for sandbox in self.residents.of_pod(&key) {
            sandboxes.insert(sandbox.key.clone());
            addresses.extend(&sandbox.addresses);
        }
        self.join(BTreeSet::from([key]), sandboxes, addresses, touched);
    }

    /// Called when a pod of this node changed: how long deleted policies stay may depend on it, even if it has no
    /// address.
    fn resident_changed(&mut self, key: &PodKey, touched: &mut Touched) {
        self.drop_lingering(&key.namespace, touched);
        self.forget_namespace(&key.namespace);
    }

    pub(super) fn set_sandbox(&mut self, sandbox: Sandbox, touched: &mut Touched) {
        let key = sandbox.key.clone();
        let devices = sandbox.devices.clone();
        let mut addresses: BTreeSet<IpAddr> = sandbox.addresses.iter().copied().collect();
        for pod in addresses.iter().flat_map(|address| self.pods.remote_at(*address)) {
            if !self.residents.rivals.contains_key(&pod.key) {
                self.residents.keep(&pod.key.clone(), pod, false);
            }
        }
        self.sandbox_changes(&key, touched);
        let old = self.residents.remove(&key);
        addresses.extend(old.iter().flat_map(|old| &old.addresses));
        if self.residents.owner(&sandbox).is_some() {
            let is_back = |address: &IpAddr| sandbox.addresses.contains(address);
            self.residents.ended.retain(|(pod, address)| *pod != key.pod || !is_back(address));
        }
        self.residents.insert(sandbox);
        let old_devices = old.map(|old| old.devices).unwrap_or_default();
        self.sandbox_devices(&key, &old_devices, &devices, touched);
        self.join(BTreeSet::from([key.pod.clone()]), BTreeSet::from([key]), addresses, touched);
    }

    pub(super) fn remove_sandbox(&mut self, key: &SandboxKey, touched: &mut Touched) {
        let Some(old) = self.residents.sandbox(key).cloned() else { return };
        self.sandbox_changes(key, touched);
        self.residents.remove(key);
        let is_of_a_result = &*key.name != BY_ITS_OBJECT;
        if is_of_a_result && self.residents.owner(&old).is_some() {
            self.residents.ended.extend(old.addresses.iter().map(|address| (key.pod.clone(), *address)));
        }
        self.sandbox_devices(key, &old.devices, &[], touched);
        let pods = BTreeSet::from([key.pod.clone()]);
        let addresses = old.addresses.into_iter().collect();
        self.join(pods, BTreeSet::from([key.clone()]), addresses, touched);
    }

    /// Recomputes the addresses of pods and sandboxes, and of everything else that has one of these addresses.
    fn join(
        &mut self,
        mut pods: BTreeSet<PodKey>,
        mut sandboxes: BTreeSet<SandboxKey>,
        addresses: BTreeSet<IpAddr>,
        touched: &mut Touched,
    ) {
        for address in &addresses {
            sandboxes.extend(self.residents.at(*address).map(|sandbox| sandbox.key.clone()));
            pods.extend(self.residents.stated.get(address).into_iter().flatten().cloned());
        }
        pods.extend(sandboxes.iter().map(|sandbox| sandbox.pod.clone()));
        for pod in pods.iter().filter(|pod| self.residents.get(pod).is_some()).collect::<Vec<_>>() {
            let joined = self.residents.joined(pod);
            self.replace_pod(pod, joined, touched);
        }
        for key in sandboxes {
            let now = self.residents.look_for(&key);
            let before = self.residents.unknown.get(&key).cloned();
            if before != now {
                let claimed = |unknown: &Option<Unknown>| {
                    unknown.as_ref().map(|unknown| unknown.may_be_at.clone()).unwrap_or_default()
                };
                for (address, came) in self.residents.count(&claimed(&before), &claimed(&now)) {
                    let (from, to) = if came { (None, Some(NOBODY)) } else { (Some(NOBODY), None) };
                    touched.moved.push(Moved { address, from, to });
                }
                match now {
                    Some(now) => self.residents.unknown.insert(key.clone(), now),
                    None => self.residents.unknown.remove(&key),
                };
                touched.sandboxes.insert(key);
            }
        }
        let is_claimed = |address: &IpAddr| self.residents.claims.contains_key(address);
        let stated = addresses.iter().filter(|address| !is_claimed(address));
        let keys = stated.flat_map(|address| self.residents.stated.get(address)).flatten();
        let over: Vec<PodKey> = keys
            .filter(|key| {
                self.residents.rivals.get(key).is_some_and(|pod| !pod.addresses.iter().any(is_claimed))
            })
            .cloned()
            .collect();
        for key in over {
            self.residents.discard(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Policy, PolicyKey, Selector, UnreadablePod};
    use std::time::Duration;

    const NODE: &str = "node-a";

    fn address(host: u8) -> IpAddr {
        IpAddr::from([10, 244, 1, host])
    }

    fn addresses(hosts: &[u8]) -> Vec<IpAddr> {
        hosts.iter().copied().map(address).collect()
    }

    fn key(name: &str) -> PodKey {
        PodKey::new("shop", name)
    }

    fn pod(name: &str, uid: &str, hosts: &[u8]) -> Pod {
        Pod {
            uid: Some(uid.into()),
            node: Some(NODE.into()),
            addresses: addresses(hosts),
            ..Pod::new(key(name))
        }
    }

    fn sandbox(of: &str, uid: &str, made: u64, hosts: &[u8]) -> Sandbox {
        Sandbox {
            key: SandboxKey::new(key(of), &format!("{uid}-{made}")),
            uid: Some(uid.into()),
            addresses: addresses(hosts),
            made: Duration::from_secs(made),
            devices: Vec::new(),
            hardware: None,
        }
    }

    struct KnownNode(Cluster);

    impl KnownNode {
        fn nothing() -> KnownNode {
            KnownNode(Cluster::new(NODE))
        }

        fn pod(&mut self, pod: Pod) -> Touched {
            self.0.apply(Change::Pod(pod))
        }

        fn sandbox(&mut self, sandbox: &Sandbox) -> Touched {
            self.0.apply(Change::Sandbox(sandbox.clone()))
        }

        fn gone(&mut self, sandbox: &Sandbox) {
            self.0.apply(Change::SandboxGone(sandbox.key.clone()));
        }

        fn of(&self, name: &str) -> Vec<IpAddr> {
            self.0.pod(&key(name)).map(|(addresses, _)| addresses.to_vec()).unwrap_or_default()
        }

        fn of_unknown(&self) -> Vec<IpAddr> {
            self.0.unknown_sandboxes().flat_map(|(_, addresses)| addresses.iter().copied()).collect()
        }
    }

    #[test]
    fn pod_without_addresses_is_where_its_sandbox_is() {
        let web = sandbox("web", "a", 1, &[10]);
        for pod_first in [true, false] {
            let mut known = KnownNode::nothing();
            if pod_first {
                known.pod(pod("web", "a", &[]));
                assert!(!known.0.is_local(&key("web")));
            }
            known.sandbox(&web);
            if !pod_first {
                assert_eq!(known.of_unknown(), addresses(&[10]));
                known.pod(pod("web", "a", &[]));
            }
            assert_eq!((known.of("web"), known.of_unknown()), (addresses(&[10]), vec![]));
            assert!(known.0.is_local(&key("web")));
            assert_eq!(known.0.holders(address(10)).count(), 1, "a peer like any other");
            known.gone(&web);
            assert_eq!(known.of("web"), addresses(&[]));
        }
    }

    #[test]
    fn address_that_the_api_confirms_touches_nothing_nor_does_the_end_of_its_sandbox() {
        let mut known = KnownNode::nothing();
        known.pod(pod("web", "a", &[]));
        let web = sandbox("web", "a", 1, &[10]);
        known.sandbox(&web);
        assert!(known.pod(pod("web", "a", &[10])).is_empty());
        assert!(known.0.apply(Change::SandboxGone(web.key)).is_empty());
        assert_eq!(known.of("web"), addresses(&[10]));
    }

    #[test]
    fn sandbox_of_a_pod_made_anew_under_its_name_is_unknown() {
        let mut known = KnownNode::nothing();
        known.pod(pod("db-0", "new", &[]));
        let old = sandbox("db-0", "old", 1, &[10]);
        known.sandbox(&old);
        assert_eq!((known.of("db-0"), known.of_unknown()), (vec![], addresses(&[10])));
        known.sandbox(&sandbox("db-0", "new", 2, &[11]));
        assert_eq!((known.of("db-0"), known.of_unknown()), (addresses(&[11]), addresses(&[10])));
        known.gone(&old);
        assert_eq!(known.of_unknown(), addresses(&[]));
    }

    #[test]
    fn without_a_uid_the_name_is_all_there_is_to_go_by() {
        for (of_pod, of_sandbox) in [(Some("a"), None), (None, Some("a")), (None, None)] {
            let mut known = KnownNode::nothing();
            known.pod(Pod { uid: of_pod.map(Into::into), ..pod("web", "", &[]) });
            known.sandbox(&Sandbox { uid: of_sandbox.map(Into::into), ..sandbox("web", "", 1, &[10]) });
            assert_eq!((known.of("web"), known.of_unknown()), (addresses(&[10]), vec![]));
        }
    }

    #[test]
    fn stale_sandbox_is_never_where_a_known_pod_of_this_node_is() {
        let stale = sandbox("lost", "x", 5, &[10, 11]);
        let by_its_own_sandbox = |known: &mut KnownNode| {
            known.pod(pod("web", "a", &[]));
            known.sandbox(&sandbox("web", "a", 6, &[10]));
        };
        let by_the_apis_word = |known: &mut KnownNode| {
            known.pod(pod("web", "a", &[10]));
        };
        let ways: [&dyn Fn(&mut KnownNode); 2] = [&by_its_own_sandbox, &by_the_apis_word];
        for (way, contested) in ways.into_iter().zip([false, true]) {
            let mut before = KnownNode::nothing();
            before.sandbox(&stale);
            way(&mut before);
            let mut after = KnownNode::nothing();
            way(&mut after);
            after.sandbox(&stale);
            for mut known in [before, after] {
                assert_eq!((known.of("web"), known.of_unknown()), (addresses(&[10]), addresses(&[11])));
                assert_eq!(known.0.is_contested(address(10)), contested);
                known.0.apply(Change::PodGone(key("web")));
                assert!(known.of_unknown().contains(&address(10)), "no other pod is known to be there");
            }
        }
    }

    #[test]
    fn unknown_sandbox_made_after_that_of_the_pod_which_had_its_address_is_there() {
        let mut known = KnownNode::nothing();
        known.pod(pod("web", "a", &[10]));
        known.sandbox(&sandbox("web", "a", 1, &[10]));
        known.sandbox(&sandbox("new", "b", 2, &[10]));
        assert_eq!((known.of("web"), known.of_unknown()), (addresses(&[10]), addresses(&[10])));
    }

    #[test]
    fn unknown_sandbox_is_where_a_pod_is_stated_whose_sandbox_was_removed() {
        let [web, new] = [sandbox("web", "a", 1, &[10]), sandbox("new", "b", 2, &[10])];
        let ended = || {
            let mut known = KnownNode::nothing();
            known.pod(pod("web", "a", &[10]));
            known.sandbox(&web);
            known.gone(&web);
            known
        };
        let mut known = ended();
        known.sandbox(&new);
        assert_eq!((known.of("web"), known.of_unknown()), (addresses(&[10]), addresses(&[10])));
        known.pod(pod("web", "a", &[10, 12]));
        assert_eq!(known.of_unknown(), addresses(&[10]), "whatever its object says");
        known.sandbox(&sandbox("web", "a", 3, &[11]));
        assert_eq!(known.of_unknown(), addresses(&[10]), "it runs again elsewhere");
        known.sandbox(&sandbox("web", "a", 4, &[10]));
        known.gone(&new);
        known.sandbox(&new);
        assert_eq!(known.of_unknown(), addresses(&[]), "it runs there again");
        known.gone(&sandbox("web", "a", 4, &[10]));
        assert_eq!(known.of_unknown(), addresses(&[10]));
        known.pod(pod("web", "c", &[10]));
        assert_eq!(known.of_unknown(), addresses(&[11]), "another pod of its name");
        let mut known = ended();
        known.pod(pod("new", "b", &[]));
        known.sandbox(&new);
        assert_eq!(
            (known.of("web"), known.of("new"), known.of_unknown()),
            (vec![], addresses(&[10]), vec![])
        );
        known.0.apply(Change::PodGone(key("web")));
        assert!(known.0.residents.ended.is_empty(), "nothing is left behind");
    }

    #[test]
    fn unknown_sandbox_is_not_where_a_known_pod_has_one_of_the_same_age() {
        let mut known = KnownNode::nothing();
        known.pod(pod("web", "a", &[]));
        known.sandbox(&sandbox("web", "a", 2, &[10]));
        known.sandbox(&sandbox("lost", "x", 2, &[10, 11]));
        assert_eq!((known.of("web"), known.of_unknown()), (addresses(&[10]), addresses(&[11])));
    }

    #[test]
    fn address_passes_to_the_known_pod_whose_sandbox_is_later() {
        let (old, new) = (sandbox("web", "a", 1, &[10, 11]), sandbox("api", "b", 2, &[10]));
        for order in [[&old, &new], [&new, &old]] {
            let mut known = KnownNode::nothing();
            known.pod(pod("web", "a", &[]));
            known.pod(pod("api", "b", &[]));
            order.into_iter().for_each(|sandbox| drop(known.sandbox(sandbox)));
            assert_eq!((known.of("web"), known.of("api")), (addresses(&[11]), addresses(&[10])));
            known.gone(&new);
            assert_eq!((known.of("web"), known.of("api")), (addresses(&[10, 11]), vec![]));
        }
    }

    #[test]
    fn pod_with_two_sandboxes_is_at_both_until_the_old_one_goes() {
        let mut known = KnownNode::nothing();
        known.pod(pod("web", "a", &[]));
        let (old, new) = (sandbox("web", "a", 1, &[10]), sandbox("web", "a", 2, &[11]));
        known.sandbox(&old);
        known.sandbox(&new);
        assert_eq!(known.of("web"), addresses(&[10, 11]));
        known.gone(&old);
        assert_eq!(known.of("web"), addresses(&[11]));
    }

    #[test]
    fn address_of_a_sandbox_is_no_others_whatever_the_api_says_and_theirs_again_when_it_goes() {
        let elsewhere = |known: &mut KnownNode| {
            known.pod(Pod { node: Some("node-b".into()), ..pod("stale", "x", &[10, 12]) });
        };
        let here = |known: &mut KnownNode| {
            known.pod(pod("stale", "x", &[10, 12]));
        };
        let ways: [&dyn Fn(&mut KnownNode); 2] = [&elsewhere, &here];
        let web = sandbox("web", "a", 1, &[10]);
        for (way, stale_first) in ways.into_iter().flat_map(|way| [(way, true), (way, false)]) {
            let mut known = KnownNode::nothing();
            known.pod(pod("web", "a", &[]));
            if stale_first {
                way(&mut known);
                assert_eq!(known.of("stale"), addresses(&[10, 12]));
            }
            known.sandbox(&web);
            if !stale_first {
                way(&mut known);
            }
            assert_eq!((known.of("stale"), known.of("web")), (addresses(&[12]), addresses(&[10])));
            assert!(!known.0.is_contested(address(10)));
            known.gone(&web);
            assert_eq!((known.of("stale"), known.of("web")), (addresses(&[10, 12]), vec![]));
            known.sandbox(&web);
            known.0.apply(Change::PodGone(key("stale")));
            known.gone(&web);
            assert_eq!(known.of("stale"), addresses(&[]));
            assert_eq!(
                known.0.residents.stated.len() + known.0.residents.rivals.len(),
                0,
                "nothing is left behind"
            );
        }
    }

    #[test]
    fn unknown_sandbox_is_where_a_pod_of_another_node_is_said_to_be() {
        for sandbox_first in [true, false] {
            let mut known = KnownNode::nothing();
            let new = sandbox("new", "x", 1, &[10]);
            if sandbox_first {
                known.sandbox(&new);
            }
            known.pod(Pod { node: Some("node-b".into()), ..pod("dead", "a", &[10]) });
            known.sandbox(&new);
            assert_eq!((known.of("dead"), known.of_unknown()), (addresses(&[10]), addresses(&[10])));
            assert!(known.0.is_contested(address(10)));
            assert_eq!(known.0.holders(address(10)).count(), 2);
            known.gone(&new);
            assert!(!known.0.is_contested(address(10)));
        }
    }

    #[test]
    fn pod_that_shares_its_nodes_network_has_no_sandbox_so_one_of_its_name_is_unknown() {
        let mut known = KnownNode::nothing();
        known.sandbox(&sandbox("agent", "a", 1, &[10]));
        known.pod(Pod { networked: false, ..pod("agent", "a", &[11]) });
        assert_eq!((known.of("agent"), known.of_unknown()), (vec![], addresses(&[10])));
        assert!(!known.0.is_held(address(11)), "the address is its node's");
    }

    #[test]
    fn pod_that_has_finished_is_where_its_sandbox_stands_and_is_no_peer() {
        for sandbox_first in [true, false] {
            let mut known = KnownNode::nothing();
            let job = sandbox("job", "a", 1, &[10]);
            if sandbox_first {
                known.sandbox(&job);
            }
            known.pod(Pod { finished: true, ..pod("job", "a", &[11]) });
            known.sandbox(&job);
            assert_eq!((known.of("job"), known.of_unknown()), (addresses(&[10]), vec![]));
            assert!(known.0.is_local(&key("job")), "its policies go on guarding it");
            assert!(known.0.pod(&key("job")).is_some_and(|(_, group)| !group.peers));
            known.gone(&job);
            assert_eq!((known.of("job"), known.0.is_held(address(11))), (vec![], false));
        }
    }

    #[test]
    fn sandbox_of_a_pod_that_the_api_places_elsewhere_is_unknown() {
        for node in [None, Some("node-b")] {
            let mut known = KnownNode::nothing();
            known.pod(Pod { node: node.map(Into::into), ..pod("web", "a", &[]) });
            known.sandbox(&sandbox("web", "a", 1, &[10]));
            assert_eq!(known.of_unknown(), addresses(&[10]));
            known.pod(pod("web", "a", &[]));
            assert_eq!((known.of("web"), known.of_unknown()), (addresses(&[10]), vec![]));
        }
    }

    #[test]
    fn policy_deleted_ahead_of_a_pod_that_has_no_address_yet_waits_for_its_end() {
        let mut known = KnownNode::nothing();
        let policy = PolicyKey::new("shop", "closed");
        let subject = Selector::everything();
        known.0.apply(Change::Policy(Policy {
            key: policy.clone(),
            subject,
            ingress: Some(Vec::new()),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
            version: Default::default(),
            uid: None,
        }));
        known.pod(pod("web", "a", &[]));
        known.0.apply(Change::PolicyGone(policy.clone()));
        assert!(known.0.policy(&policy).is_some(), "the pod may start any moment");
        let touched = known.0.apply(Change::PodGone(key("web")));
        assert_eq!((known.0.policy(&policy), touched.policies.len()), (None, 1));
        assert_eq!(known.0.namespaces().count(), 0);
    }

    #[test]
    fn unreadable_pod_is_no_peer_and_here_it_is_unknown_until_it_can_be_read_or_is_gone() {
        let unreadable = |node: Option<&str>, hosts: &[u8]| {
            let node = node.map(Into::into);
            Change::PodUnreadable(UnreadablePod {
                key: key("web"),
                uid: None,
                node,
                addresses: addresses(hosts),
            })
        };
        for node in [Some(NODE), None] {
            let mut known = KnownNode::nothing();
            known.pod(pod("web", "a", &[10]));
            known.0.apply(unreadable(node, &[10]));
            assert_eq!((known.of("web"), known.of_unknown()), (vec![], addresses(&[10])));
            assert_eq!((known.0.is_held(address(10)), known.0.sandbox_count()), (false, 0));
            known.0.apply(unreadable(node, &[11]));
            assert_eq!(known.of_unknown(), addresses(&[11]));
            known.pod(pod("web", "a", &[10]));
            assert_eq!((known.of("web"), known.of_unknown()), (addresses(&[10]), vec![]));
            known.0.apply(unreadable(node, &[10]));
            known.0.apply(Change::PodGone(key("web")));
            assert!(known.of_unknown().is_empty());
        }
        let mut known = KnownNode::nothing();
        known.pod(Pod { node: Some("node-b".into()), ..pod("web", "a", &[10]) });
        known.0.apply(unreadable(Some("node-b"), &[10]));
        assert_eq!((known.0.is_held(address(10)), known.of_unknown()), (false, vec![]));
    }

    #[test]
    fn unreadable_pod_takes_no_address_from_a_known_one_and_its_own_sandbox_is_unknown() {
        let mut known = KnownNode::nothing();
        known.pod(pod("db", "b", &[10]));
        let web = UnreadablePod {
            key: key("web"),
            uid: None,
            node: Some(NODE.into()),
            addresses: addresses(&[10, 11]),
        };
        known.0.apply(Change::PodUnreadable(web));
        assert_eq!((known.of("db"), known.of_unknown()), (addresses(&[10]), addresses(&[11])));
        known.sandbox(&sandbox("web", "a", 1, &[12]));
        assert_eq!(known.of_unknown(), addresses(&[12, 11]));
    }
}
