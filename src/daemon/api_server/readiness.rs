//! The readiness check of all watches together.

use super::CHECK;
use crate::observe::Health;
use crate::source::Resource;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The readiness check, determined by all watches together.
#[derive(Clone)]
pub(super) struct Readiness {
    health: Health,
    /// By resource: why it is not ready. A missing one was never listed.
    watches: Arc<Mutex<BTreeMap<Resource, Option<String>>>>,
}

impl Readiness {
    pub(super) fn new(health: Health) -> Readiness {
        health.set_check(CHECK, Err(WAITING.to_owned()));
        Readiness { health, watches: Arc::default() }
    }

    /// A list of a resource completed. Returns whether each resource has now been listed for the first time.
    pub(super) fn listed(&self, resource: Resource) -> bool {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let was_first = watches.insert(resource, None).is_none();
        self.publish(&watches);
        was_first && watches.len() == Resource::ALL.len()
    }

    /// Sets why a resource that was listed is not ready, if so.
    pub(super) fn set(&self, resource: Resource, trouble: Option<String>) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = watches.get_mut(&resource).filter(|own| **own != trouble) {
            *own = trouble;
            self.publish(&watches);
        }
    }

    fn publish(&self, watches: &BTreeMap<Resource, Option<String>>) {
        let troubles: Vec<&str> = watches.values().flatten().map(String::as_str).collect();
        self.health.set_check(
            CHECK,
            match (watches.len() == Resource::ALL.len(), troubles.is_empty()) {
                (false, _) => Err(WAITING.to_owned()),
                (true, true) => Ok(()),
                (true, false) => Err(troubles.join("; ")),
            },
        );
    }
}

const WAITING: &str = "waiting for the first complete lists";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_every_list_and_fails_with_each_watch_that_is_in_trouble() {
        let health = Health::new(&[CHECK]);
        let readiness = Readiness::new(health.clone());
        let check = || health.checks()[0].1.clone();
        readiness.set(Resource::Pods, Some("pods in trouble".to_owned()));
        assert!(!readiness.listed(Resource::Pods) && !readiness.listed(Resource::Namespaces));
        assert_eq!(check(), Err(WAITING.to_owned()));
        assert!(readiness.listed(Resource::NetworkPolicies));
        assert!(!readiness.listed(Resource::NetworkPolicies), "the facts are complete once");
        assert_eq!(check(), Ok(()));
        for (resource, words) in [(Resource::Pods, "old pods"), (Resource::Namespaces, "old namespaces")] {
            readiness.set(resource, Some(words.to_owned()));
        }
        assert_eq!(check(), Err("old namespaces; old pods".to_owned()));
        readiness.set(Resource::Pods, None);
        readiness.set(Resource::Namespaces, None);
        assert_eq!(check(), Ok(()));
    }
}
