//! Equal things, each kept once.

use super::Finder;
use std::hash::Hash;

/// Keeps one of all that are equal for everybody who uses it, and no longer than anybody does.
#[derive(Clone, Debug)]
pub struct Pool<T>(Finder<(T, usize)>);

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool(Finder::default())
    }
}

impl<T: Clone + Eq + Hash> Pool<T> {
    /// The kept one that is equal to this, for one user more.
    pub fn share(&mut self, thing: T) -> T {
        if let Some((kept, users)) = self.0.get_mut(&thing, |(kept, _)| *kept == thing) {
            *users += 1;
            return kept.clone();
        }
        self.0.insert(&thing, (thing.clone(), 1));
        thing
    }

    /// One user has no use for it any longer; with the last, it goes.
    pub fn release(&mut self, thing: &T) {
        let Some((_, users)) = self.0.get_mut(thing, |(kept, _)| kept == thing) else { return };
        *users -= 1;
        if *users == 0 {
            self.0.remove(thing, |(kept, _)| kept == thing);
        }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Owner;
    use std::sync::Arc;

    fn owner(name: &str) -> Arc<Owner> {
        Arc::new(Owner { kind: "ReplicaSet".into(), name: name.into() })
    }

    #[test]
    fn owner_of_many_pods_is_kept_once_and_no_longer_than_the_last_of_them() {
        let mut owners = Pool::default();
        let (first, second) = (owners.share(owner("web")), owners.share(owner("web")));
        assert!(Arc::ptr_eq(&first, &second));
        owners.release(&first);
        let third = owners.share(owner("web"));
        assert!(Arc::ptr_eq(&second, &third));
        owners.release(&second);
        owners.release(&third);
        assert_eq!(owners.len(), 0);
    }
}
