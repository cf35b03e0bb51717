//! Which addresses of this node pass from one sandbox to another with a change.

use super::Cluster;
use crate::model::{Change, Sandbox, SandboxKey};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// The addresses that sandboxes leave and get with one change. An address can be in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Addresses that a sandbox had and does not have any more, because it is gone or because a new one has them.
    pub left: BTreeSet<IpAddr>,
    /// Addresses that a new sandbox has, or that a sandbox did not have before.
    pub taken: BTreeSet<IpAddr>,
}

impl Cluster {
    /// Which addresses pass from one sandbox to another with a change. Must be called before the change is applied.
    pub fn handover(&self, change: &Change) -> Handover {
        if let Change::Sandbox(sandbox) = change {
            let key = &sandbox.key;
            let before = self.sandbox_addresses(key);
            let now: BTreeSet<IpAddr> = sandbox.addresses.iter().copied().collect();
            let gone = before.difference(&now).filter(|address| !self.has_another(**address, key));
            let from_others = now.difference(&before).filter(|address| self.has_another(**address, key));
            Handover { left: gone.chain(from_others).copied().collect(), taken: &now - &before }
        } else if let Change::SandboxGone(key) = change {
            let mut left = self.sandbox_addresses(key);
            left.retain(|address| !self.has_another(*address, key));
            Handover { left, taken: BTreeSet::new() }
        } else {
            Handover::default()
        }
    }

    fn sandbox_addresses(&self, key: &SandboxKey) -> BTreeSet<IpAddr> {
        self.residents
            .sandbox(key)
            .into_iter()
            .flat_map(|sandbox| sandbox.addresses.iter().copied())
            .collect()
    }

    /// Whether another sandbox has an address by its CNI result. What the object of an unreadable pod states is none.
    fn has_another(&self, address: IpAddr, than: &SandboxKey) -> bool {
        let is_of_a_result = |other: &Sandbox| other.made > Duration::ZERO;
        self.residents.at(address).any(|other| other.key != *than && is_of_a_result(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PodKey;

    fn addresses(hosts: &[u8]) -> BTreeSet<IpAddr> {
        hosts.iter().map(|host| IpAddr::from([10, 244, 1, *host])).collect()
    }

    fn sandbox(of: &str, made: u64, hosts: &[u8]) -> Sandbox {
        Sandbox {
            key: SandboxKey::new(PodKey::new("shop", of), "sandbox"),
            uid: Some(of.into()),
            addresses: addresses(hosts).into_iter().collect(),
            made: Duration::from_secs(made),
            devices: Vec::new(),
            hardware: None,
        }
    }

    /// What the last of these changes hands over.
    fn last_of(changes: &[Change]) -> (BTreeSet<IpAddr>, BTreeSet<IpAddr>) {
        let mut cluster = Cluster::new("node-a");
        let mut last = Handover::default();
        for change in changes {
            last = cluster.handover(change);
            cluster.apply(change.clone());
        }
        (last.left, last.taken)
    }

    #[test]
    fn address_is_left_when_its_sandbox_goes_or_a_new_one_has_it_and_once_only() {
        let [old, new] = [sandbox("old", 1, &[10, 11]), sandbox("new", 2, &[10])];
        let gone = |sandbox: &Sandbox| Change::SandboxGone(sandbox.key.clone());
        let [made, next] = [&old, &new].map(|sandbox| Change::Sandbox(sandbox.clone()));
        let none = addresses(&[]);
        assert_eq!(last_of(std::slice::from_ref(&made)), (none.clone(), addresses(&[10, 11])));
        assert_eq!(
            last_of(&[made.clone(), made.clone()]),
            (none.clone(), none.clone()),
            "its file is read again"
        );
        assert_eq!(last_of(&[made.clone(), gone(&old)]), (addresses(&[10, 11]), none.clone()));
        assert_eq!(last_of(&[made.clone(), gone(&old), next.clone()]), (none.clone(), addresses(&[10])));
        assert_eq!(last_of(&[made.clone(), next.clone()]), (addresses(&[10]), addresses(&[10])));
        assert_eq!(last_of(&[made.clone(), next, gone(&old)]), (addresses(&[11]), none.clone()));
        let moved = Change::Sandbox(sandbox("old", 1, &[11, 12]));
        assert_eq!(last_of(&[made, moved]), (addresses(&[10]), addresses(&[12])));
        assert_eq!(last_of(&[gone(&old)]), (none.clone(), none));
    }
}
