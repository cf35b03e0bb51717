//! Hashes of changes, small enough to be kept for each object, which show whether an object has changed.

use crate::model::Change;
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};

/// A cryptographic hash of a change, so that no object can be crafted to collide with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(super) fn of(fact: &Change) -> Fingerprint {
        let mut bytes = Bytes(Vec::with_capacity(512));
        fact.hash(&mut bytes);
        let digest = Sha256::digest(bytes.0);
        let mut fingerprint = [0; 16];
        fingerprint.iter_mut().zip(digest).for_each(|(byte, of_digest)| *byte = of_digest);
        Fingerprint(fingerprint)
    }
}

/// Collects the hashed bytes.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Unused; the bytes are hashed afterwards.
    fn finish(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, Pod, PodKey};
    use std::collections::BTreeMap;

    fn pod(name: &str, app: &str) -> Change {
        let labels = Labels::new(&BTreeMap::from([("app".to_owned(), app.to_owned())]));
        let key = PodKey::new("shop", name);
        let (node, uid, ports, addresses) = (None, None, Vec::new(), Vec::new());
        Change::Pod(Pod { uid, node, labels, ports, addresses, ..Pod::new(key) })
    }

    #[test]
    fn equal_facts_agree_and_others_do_not() {
        assert_eq!(Fingerprint::of(&pod("a", "b")), Fingerprint::of(&pod("a", "b")));
        assert_ne!(Fingerprint::of(&pod("a", "b")), Fingerprint::of(&pod("ab", "")));
        assert_ne!(
            Fingerprint::of(&pod("a", "b")),
            Fingerprint::of(&Change::PodGone(PodKey::new("shop", "a")))
        );
    }
}
