//! The pods of this node joined with their sandboxes: who is where, before the API says so.

use super::Cluster;
use crate::model::{NamespaceName, Pod, PodKey, Sandbox, SandboxKey, Touched, UnreadablePod};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The sandbox of a pod whose object cannot be understood; no result of CNI has this name.
const BY_ITS_OBJECT: &str = "unreadable object";

/// What was told of this node alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Residents {
    /// Its pods as their objects say, with addresses or without.
    pods: BTreeMap<PodKey, Pod>,
    sandboxes: BTreeMap<SandboxKey, Sandbox>,
    /// By address: the sandboxes that claim it.
    claims: BTreeMap<IpAddr, BTreeSet<SandboxKey>>,
    /// Pods whose objects cannot be understood and that have a sandbox here by what their objects say.
    unreadable: BTreeSet<PodKey>,
    /// Unknown sandboxes, with those of their addresses at which nobody else is known to be.
    unknown: BTreeMap<SandboxKey, Box<[IpAddr]>>,
}

impl Residents {
    /// Whether a pod of this namespace may have a sandbox soon, or has one.
    pub(super) fn expects_one_in(&self, namespace: &NamespaceName) -> bool {
        let least = PodKey { namespace: namespace.clone(), name: "".into() };
        let mut here = self.pods.range(least..).take_while(|(key, _)| key.namespace == *namespace);
        here.any(|(_, pod)| pod.networked)
    }

    /// The pod of this node that a sandbox was made for, if it is known.
    fn owner(&self, sandbox: &Sandbox) -> Option<&Pod> {
        let told_apart = |pod: &&Pod| match (&pod.uid, &sandbox.uid) {
            (Some(of_pod), Some(of_sandbox)) => of_pod == of_sandbox,
            (None, _) | (_, None) => true,
        };
        self.pods.get(&sandbox.key.pod).filter(told_apart)
    }

    /// Whether a sandbox is that of a known pod which can have addresses.
    fn is_live(&self, sandbox: &Sandbox) -> bool {
        self.owner(sandbox).is_some_and(|pod| pod.networked)
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

    /// A pod with all addresses it has: those its object gives, and those of its sandboxes that no other known pod's
    /// later one has taken over. `None` for one that has none.
    fn joined(&self, key: &PodKey) -> Option<Pod> {
        let mut pod = self.pods.get(key)?.clone();
        for sandbox in self.of_pod(key).filter(|sandbox| self.is_live(sandbox)) {
            let taken_over = |address: IpAddr| {
                let mut others =
                    self.at(address).filter(|other| other.key.pod != *key && self.is_live(other));
                others.any(|other| (other.made, &other.key) > (sandbox.made, &sandbox.key))
            };
            pod.addresses.extend(sandbox.addresses.iter().filter(|address| !taken_over(**address)));
        }
        (!pod.addresses.is_empty()).then_some(pod)
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
            if let Some(claims) = self.claims.get_mut(address) {
                claims.remove(key);
                if claims.is_empty() {
                    self.claims.remove(address);
                }
            }
        }
        Some(sandbox)
    }
}

impl Cluster {
    /// The sandboxes of this node that no known pod explains, each with the addresses at which it must be.
    pub fn unknown_sandboxes(&self) -> impl Iterator<Item = (&SandboxKey, &[IpAddr])> {
        self.residents.unknown.iter().map(|(key, addresses)| (key, &**addresses))
    }

    /// The addresses at which an unknown sandbox must be; none for one that is known, or gone.
    pub fn addresses_of_unknown(&self, key: &SandboxKey) -> &[IpAddr] {
        self.residents.unknown.get(key).map_or(&[], |addresses| addresses)
    }

    /// The pod of this node that a sandbox was made for, if it is known.
    pub fn pod_of_sandbox(&self, sandbox: &Sandbox) -> Option<&PodKey> {
        self.residents.owner(sandbox).map(|pod| &pod.key)
    }

    /// The uid of a pod of this node, if it is known.
    pub fn uid_of(&self, pod: &PodKey) -> Option<&str> {
        self.residents.pods.get(pod)?.uid.as_deref()
    }

    /// How many sandboxes of this node there are.
    pub fn sandbox_count(&self) -> usize {
        self.residents.sandboxes.len() - self.residents.unreadable.len()
    }

    pub(super) fn set_pod(&mut self, pod: Pod, touched: &mut Touched) {
        let key = pod.key.clone();
        if pod.node.as_ref() == Some(&self.node) {
            self.residents.pods.insert(key.clone(), pod);
            self.rejoin(key.clone(), touched);
            self.resident_changed(&key, touched);
        } else {
            self.replace_stranger(&key, (!pod.addresses.is_empty()).then_some(pod), touched);
        }
        self.end_unreadable(&key, touched);
    }

    pub(super) fn remove_pod(&mut self, key: &PodKey, touched: &mut Touched) {
        self.replace_stranger(key, None, touched);
        self.end_unreadable(key, touched);
    }

    /// Nothing that was known of the pod holds any longer. If it may be one of this node's, an unknown sandbox is at its
    /// addresses, older than any other: a known pod's word outranks it.
    pub(super) fn set_unreadable_pod(&mut self, pod: UnreadablePod, touched: &mut Touched) {
        self.replace_stranger(&pod.key, None, touched);
        let may_be_here = pod.node.as_ref().is_none_or(|node| *node == self.node);
        if !may_be_here || pod.addresses.is_empty() {
            return self.end_unreadable(&pod.key, touched);
        }
        let UnreadablePod { key, addresses, .. } = pod;
        self.residents.unreadable.insert(key.clone());
        let key = SandboxKey::new(key, BY_ITS_OBJECT);
        self.set_sandbox(
            Sandbox { key, uid: None, addresses, made: Duration::ZERO, devices: Vec::new(), hardware: None },
            touched,
        );
    }

    fn end_unreadable(&mut self, key: &PodKey, touched: &mut Touched) {
        if !self.residents.unreadable.is_empty() && self.residents.unreadable.remove(key) {
            self.remove_sandbox(&SandboxKey::new(key.clone(), BY_ITS_OBJECT), touched);
        }
    }

    /// A pod is not of this node, perhaps no longer.
    fn replace_stranger(&mut self, key: &PodKey, pod: Option<Pod>, touched: &mut Touched) {
        let was_resident = self.residents.pods.remove(key).is_some();
        self.replace_pod(key, pod, touched);
        self.rejoin(key.clone(), touched);
        if was_resident {
            self.resident_changed(key, touched);
        }
    }

    /// Works out anew where a pod is, its sandboxes, and all others at their addresses.
    fn rejoin(&mut self, key: PodKey, touched: &mut Touched) {
        let (mut sandboxes, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for sandbox in self.residents.of_pod(&key) {
            sandboxes.insert(sandbox.key.clone());
            addresses.extend(&sandbox.addresses);
        }
        self.join(BTreeSet::from([key]), sandboxes, addresses, touched);
    }

    /// Whether policies linger may hang on a pod of this node that has no address.
    fn resident_changed(&mut self, key: &PodKey, touched: &mut Touched) {
        self.drop_lingering(&key.namespace, touched);
        self.forget_namespace(&key.namespace);
    }

    pub(super) fn set_sandbox(&mut self, sandbox: Sandbox, touched: &mut Touched) {
        let key = sandbox.key.clone();
        let devices = sandbox.devices.clone();
        let mut addresses: BTreeSet<IpAddr> = sandbox.addresses.iter().copied().collect();
        let old = self.residents.remove(&key);
        addresses.extend(old.iter().flat_map(|old| &old.addresses));
        self.residents.insert(sandbox);
        let old_devices = old.map(|old| old.devices).unwrap_or_default();
        self.sandbox_devices(&key, &old_devices, &devices, touched);
        self.join(BTreeSet::from([key.pod.clone()]), BTreeSet::from([key]), addresses, touched);
    }

    pub(super) fn remove_sandbox(&mut self, key: &SandboxKey, touched: &mut Touched) {
        let port = self.ports.of(key);
        let Some(old) = self.residents.sandbox(key).cloned() else { return };
        touched.ports.extend(port);
        self.residents.remove(key);
        self.sandbox_devices(key, &old.devices, &[], touched);
        let pods = BTreeSet::from([key.pod.clone()]);
        let addresses = old.addresses.into_iter().collect();
        self.join(pods, BTreeSet::from([key.clone()]), addresses, touched);
    }

    /// Works out anew where pods and sandboxes are, and all others at these addresses.
    fn join(
        &mut self,
        mut pods: BTreeSet<PodKey>,
        mut sandboxes: BTreeSet<SandboxKey>,
        addresses: BTreeSet<IpAddr>,
        touched: &mut Touched,
    ) {
        let at = |address: &IpAddr| self.residents.at(*address).map(|sandbox| &sandbox.key);
        sandboxes.extend(addresses.iter().flat_map(at).cloned());
        pods.extend(sandboxes.iter().map(|sandbox| sandbox.pod.clone()));
        for pod in pods.iter().filter(|pod| self.residents.pods.contains_key(pod)).collect::<Vec<_>>() {
            let joined = self.residents.joined(pod);
            self.replace_pod(pod, joined, touched);
        }
        for moved in &touched.moved {
            sandboxes.extend(self.residents.at(moved.address).map(|sandbox| sandbox.key.clone()));
        }
        for key in sandboxes {
            let now = self.places_of_unknown(&key);
            let before = self.residents.unknown.get(&key);
            if before.map(|addresses| &**addresses) != now.as_deref() {
                match now {
                    Some(now) => self.residents.unknown.insert(key.clone(), now.into()),
                    None => self.residents.unknown.remove(&key),
                };
                touched.sandboxes.insert(key);
            }
        }
    }

    /// Where an unknown sandbox must be: at those of its addresses that no known pod has. `None` for one that is known,
    /// or gone.
    fn places_of_unknown(&self, key: &SandboxKey) -> Option<Vec<IpAddr>> {
        let sandbox = self.residents.sandboxes.get(key)?;
        if self.residents.owner(sandbox).is_some() {
            return None;
        }
        let places = sandbox.addresses.iter().copied();
        Some(places.filter(|address| !self.has_lost(sandbox, *address)).collect())
    }

    /// Whether an address that an unknown sandbox claims is another's: of a known pod whose sandbox is no older, or of
    /// one that has it by its object's word alone. Files that nobody removed refuse nobody's traffic for ever.
    fn has_lost(&self, unknown: &Sandbox, address: IpAddr) -> bool {
        let live = || self.residents.at(address).filter(|other| self.residents.is_live(other));
        if live().any(|other| other.made >= unknown.made) {
            return true;
        }
        let with_sandbox: BTreeSet<&PodKey> = live().map(|other| &other.key.pod).collect();
        let holds = |pod: &&&PodKey| self.pods.get(pod).is_some_and(|pod| pod.addresses().contains(&address));
        self.holders(address).count() > with_sandbox.iter().filter(holds).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Labels, Policy, PolicyKey, Selector};
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
            key: key(name),
            uid: Some(uid.into()),
            node: Some(NODE.into()),
            labels: Labels::default(),
            ports: Vec::new(),
            owner: None,
            networked: true,
            addresses: addresses(hosts),
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

    struct Told(Cluster);

    impl Told {
        fn nothing() -> Told {
            Told(Cluster::new(NODE))
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
            let mut told = Told::nothing();
            if pod_first {
                told.pod(pod("web", "a", &[]));
                assert!(!told.0.is_local(&key("web")));
            }
            told.sandbox(&web);
            if !pod_first {
                assert_eq!(told.of_unknown(), addresses(&[10]));
                told.pod(pod("web", "a", &[]));
            }
            assert_eq!((told.of("web"), told.of_unknown()), (addresses(&[10]), vec![]));
            assert!(told.0.is_local(&key("web")));
            assert_eq!(told.0.holders(address(10)).count(), 1, "a peer like any other");
            told.gone(&web);
            assert_eq!(told.of("web"), addresses(&[]));
        }
    }

    #[test]
    fn address_that_the_api_confirms_touches_nothing_nor_does_the_end_of_its_sandbox() {
        let mut told = Told::nothing();
        told.pod(pod("web", "a", &[]));
        let web = sandbox("web", "a", 1, &[10]);
        told.sandbox(&web);
        assert!(told.pod(pod("web", "a", &[10])).is_empty());
        assert!(told.0.apply(Change::SandboxGone(web.key)).is_empty());
        assert_eq!(told.of("web"), addresses(&[10]));
    }

    #[test]
    fn sandbox_of_a_pod_made_anew_under_its_name_is_unknown() {
        let mut told = Told::nothing();
        told.pod(pod("db-0", "new", &[]));
        let old = sandbox("db-0", "old", 1, &[10]);
        told.sandbox(&old);
        assert_eq!((told.of("db-0"), told.of_unknown()), (vec![], addresses(&[10])));
        told.sandbox(&sandbox("db-0", "new", 2, &[11]));
        assert_eq!((told.of("db-0"), told.of_unknown()), (addresses(&[11]), addresses(&[10])));
        told.gone(&old);
        assert_eq!(told.of_unknown(), addresses(&[]));
    }

    #[test]
    fn without_a_uid_the_name_is_all_there_is_to_go_by() {
        for (of_pod, of_sandbox) in [(Some("a"), None), (None, Some("a")), (None, None)] {
            let mut told = Told::nothing();
            told.pod(Pod { uid: of_pod.map(Into::into), ..pod("web", "", &[]) });
            told.sandbox(&Sandbox { uid: of_sandbox.map(Into::into), ..sandbox("web", "", 1, &[10]) });
            assert_eq!((told.of("web"), told.of_unknown()), (addresses(&[10]), vec![]));
        }
    }

    #[test]
    fn stale_sandbox_is_never_where_a_known_pod_is() {
        let stale = sandbox("lost", "x", 5, &[10, 11]);
        let by_its_own_sandbox = |told: &mut Told| {
            told.pod(pod("web", "a", &[]));
            told.sandbox(&sandbox("web", "a", 6, &[10]));
        };
        let by_the_apis_word = |told: &mut Told| {
            told.pod(pod("web", "a", &[10]));
        };
        let on_another_node = |told: &mut Told| {
            told.pod(Pod { node: Some("node-b".into()), ..pod("web", "a", &[10]) });
        };
        let ways: [&dyn Fn(&mut Told); 3] = [&by_its_own_sandbox, &by_the_apis_word, &on_another_node];
        for way in ways {
            let mut before = Told::nothing();
            before.sandbox(&stale);
            way(&mut before);
            let mut after = Told::nothing();
            way(&mut after);
            after.sandbox(&stale);
            for mut told in [before, after] {
                assert_eq!((told.of("web"), told.of_unknown()), (addresses(&[10]), addresses(&[11])));
                told.0.apply(Change::PodGone(key("web")));
                assert!(told.of_unknown().contains(&address(10)), "nobody else is known to be there");
            }
        }
    }

    #[test]
    fn unknown_sandbox_made_after_that_of_the_pod_which_had_its_address_is_there() {
        let mut told = Told::nothing();
        told.pod(pod("web", "a", &[10]));
        told.sandbox(&sandbox("web", "a", 1, &[10]));
        told.sandbox(&sandbox("new", "b", 2, &[10]));
        assert_eq!((told.of("web"), told.of_unknown()), (addresses(&[10]), addresses(&[10])));
    }

    #[test]
    fn address_passes_to_the_known_pod_whose_sandbox_is_later() {
        let (old, new) = (sandbox("web", "a", 1, &[10, 11]), sandbox("api", "b", 2, &[10]));
        for order in [[&old, &new], [&new, &old]] {
            let mut told = Told::nothing();
            told.pod(pod("web", "a", &[]));
            told.pod(pod("api", "b", &[]));
            order.into_iter().for_each(|sandbox| drop(told.sandbox(sandbox)));
            assert_eq!((told.of("web"), told.of("api")), (addresses(&[11]), addresses(&[10])));
            told.gone(&new);
            assert_eq!((told.of("web"), told.of("api")), (addresses(&[10, 11]), vec![]));
        }
    }

    #[test]
    fn pod_with_two_sandboxes_is_at_both_until_the_old_one_goes() {
        let mut told = Told::nothing();
        told.pod(pod("web", "a", &[]));
        let (old, new) = (sandbox("web", "a", 1, &[10]), sandbox("web", "a", 2, &[11]));
        told.sandbox(&old);
        told.sandbox(&new);
        assert_eq!(told.of("web"), addresses(&[10, 11]));
        told.gone(&old);
        assert_eq!(told.of("web"), addresses(&[11]));
    }

    #[test]
    fn pod_that_can_have_no_addresses_has_none_whatever_its_sandbox() {
        let mut told = Told::nothing();
        told.sandbox(&sandbox("job", "a", 1, &[10]));
        told.pod(Pod { networked: false, ..pod("job", "a", &[]) });
        assert_eq!((told.of("job"), told.of_unknown()), (vec![], vec![]));
        assert!(!told.0.is_held(address(10)));
    }

    #[test]
    fn sandbox_of_a_pod_that_the_api_places_elsewhere_is_unknown() {
        for node in [None, Some("node-b")] {
            let mut told = Told::nothing();
            told.pod(Pod { node: node.map(Into::into), ..pod("web", "a", &[]) });
            told.sandbox(&sandbox("web", "a", 1, &[10]));
            assert_eq!(told.of_unknown(), addresses(&[10]));
            told.pod(pod("web", "a", &[]));
            assert_eq!((told.of("web"), told.of_unknown()), (addresses(&[10]), vec![]));
        }
    }

    #[test]
    fn policy_deleted_ahead_of_a_pod_that_has_no_address_yet_waits_for_its_end() {
        let mut told = Told::nothing();
        let policy = PolicyKey::new("shop", "closed");
        let subject = Selector::everything();
        told.0.apply(Change::Policy(Policy {
            key: policy.clone(),
            subject,
            ingress: Some(Vec::new()),
            egress: None,
            refusals: Vec::new(),
            uid: None,
        }));
        told.pod(pod("web", "a", &[]));
        told.0.apply(Change::PolicyGone(policy.clone()));
        assert!(told.0.policy(&policy).is_some(), "the pod may start any moment");
        let touched = told.0.apply(Change::PodGone(key("web")));
        assert_eq!((told.0.policy(&policy), touched.policies.len()), (None, 1));
        assert_eq!(told.0.namespaces().count(), 0);
    }

    #[test]
    fn unreadable_pod_is_no_peer_and_here_it_is_unknown_until_it_can_be_read_or_is_gone() {
        let unreadable = |node: Option<&str>, hosts: &[u8]| {
            let node = node.map(Into::into);
            Change::PodUnreadable(UnreadablePod { key: key("web"), node, addresses: addresses(hosts) })
        };
        for node in [Some(NODE), None] {
            let mut told = Told::nothing();
            told.pod(pod("web", "a", &[10]));
            told.0.apply(unreadable(node, &[10]));
            assert_eq!((told.of("web"), told.of_unknown()), (vec![], addresses(&[10])));
            assert_eq!((told.0.is_held(address(10)), told.0.sandbox_count()), (false, 0));
            told.0.apply(unreadable(node, &[11]));
            assert_eq!(told.of_unknown(), addresses(&[11]));
            told.pod(pod("web", "a", &[10]));
            assert_eq!((told.of("web"), told.of_unknown()), (addresses(&[10]), vec![]));
            told.0.apply(unreadable(node, &[10]));
            told.0.apply(Change::PodGone(key("web")));
            assert!(told.of_unknown().is_empty());
        }
        let mut told = Told::nothing();
        told.pod(Pod { node: Some("node-b".into()), ..pod("web", "a", &[10]) });
        told.0.apply(unreadable(Some("node-b"), &[10]));
        assert_eq!((told.0.is_held(address(10)), told.of_unknown()), (false, vec![]));
    }

    #[test]
    fn unreadable_pod_takes_no_address_from_a_known_one_and_its_own_sandbox_is_unknown() {
        let mut told = Told::nothing();
        told.pod(pod("db", "b", &[10]));
        let web = UnreadablePod { key: key("web"), node: Some(NODE.into()), addresses: addresses(&[10, 11]) };
        told.0.apply(Change::PodUnreadable(web));
        assert_eq!((told.of("db"), told.of_unknown()), (addresses(&[10]), addresses(&[11])));
        told.sandbox(&sandbox("web", "a", 1, &[12]));
        assert_eq!(told.of_unknown(), addresses(&[12, 11]));
    }
}
