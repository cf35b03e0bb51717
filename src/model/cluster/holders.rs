//! Who holds an address.

use super::{Cluster, Group, GroupId};
use crate::model::{NamespaceName, PodKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Cluster {
    /// The groups of the pods that hold an address, one for each pod.
    pub fn holders(&self, address: IpAddr) -> &[GroupId] {
        self.holders.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Whether any pod holds an address.
    pub fn is_held(&self, address: IpAddr) -> bool {
        !self.holders(address).is_empty()
    }

    /// The pods that hold an address. Looks through their namespaces: not for where every change comes by.
    pub fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = (&PodKey, &Group)> {
        let groups: BTreeSet<GroupId> = self.holders(address).iter().copied().collect();
        let namespaces: BTreeSet<&NamespaceName> =
            groups.iter().filter_map(|id| Some(&self.group(*id)?.namespace)).collect();
        let near = namespaces.into_iter().flat_map(|name| {
            self.pods
                .range(PodKey::new(name.as_str(), "")..)
                .take_while(move |(key, _)| key.namespace == *name)
        });
        let there =
            near.filter(move |(_, pod)| groups.contains(&pod.group) && pod.addresses.contains(&address));
        there.filter_map(|(key, pod)| Some((key, self.group(pod.group)?)))
    }
}
