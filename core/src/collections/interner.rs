//! Equal values, each stored once.

use super::HashIndex;
use std::hash::Hash;

/// Stores one of all equal values, with the number of its users, until the last of them releases it.
#[derive(Clone, Debug)]
pub struct Interner<T>(HashIndex<(T, usize)>);

impl<T> Default for Interner<T> {
    fn default() -> Interner<T> {
        Interner(HashIndex::default())
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// The stored value that equals this one, for one more user.
    pub fn share(&mut self, value: T) -> T {
        if let Some((kept, users)) = self.0.get_mut(&value, |(kept, _)| *kept == value) {
            *users += 1;
            return kept.clone();
        }
        self.0.insert(&value, (value.clone(), 1));
        value
    }

    /// Removes one user of a value; the value goes with its last user.
    pub fn release(&mut self, value: &T) {
        let Some((_, users)) = self.0.get_mut(value, |(kept, _)| kept == value) else { return };
        *users -= 1;
        if *users == 0 {
            self.0.remove(value, |(kept, _)| kept == value);
        }
    }

    /// The number of stored values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it stores no value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn owner(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    #[test]
    fn value_is_stored_once_until_its_last_user_releases_it() {
        let mut owners = Interner::default();
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
