//! A hash table whose keys are not stored in it.

use hashbrown::HashTable;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

/// Finds values by a key that is stored elsewhere, in constant time and with little memory.
///
/// The caller passes what a value is hashed by, always the same for the same value, and a function that recognises the value. A
/// tree map of the names in a large cluster compares dozens of long and similar names for one lookup; this index compares one.
/// It cannot be iterated, because the order of a hash table is random and nothing that is written to the kernel may depend on it.
#[derive(Clone)]
pub struct HashIndex<T> {
    /// Each value with half of its key's hash.
    values: HashTable<(u32, T)>,
    hasher: RandomState,
}

impl<T> Default for HashIndex<T> {
    fn default() -> HashIndex<T> {
        HashIndex { values: HashTable::new(), hasher: RandomState::new() }
    }
}

impl<T> fmt::Debug for HashIndex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashIndex of {}", self.values.len())
    }
}

impl<T> HashIndex<T> {
    /// The value with the key `what`; `is` recognises it.
    pub fn get(&self, what: &impl Hash, is: impl Fn(&T) -> bool) -> Option<&T> {
        let hash = self.hash(what);
        self.values.find(spread(hash), |(own, value)| *own == hash && is(value)).map(|(_, value)| value)
    }

    /// The same, to change what is not part of its key.
    pub fn get_mut(&mut self, what: &impl Hash, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        let hash = self.hash(what);
        let found = self.values.find_mut(spread(hash), |(own, value)| *own == hash && is(value));
        found.map(|(_, value)| value)
    }

    /// All values with the key `what`, and possibly others with an equal hash.
    pub fn candidates<'a, W: Hash>(&'a self, what: &W) -> impl Iterator<Item = &'a T> + use<'a, T, W> {
        let hash = self.hash(what);
        self.values.iter_hash(spread(hash)).filter(move |(own, _)| *own == hash).map(|(_, value)| value)
    }

    /// Adds a value with the key `what`, even if there is another one.
    pub fn insert(&mut self, what: &impl Hash, value: T) {
        let hash = self.hash(what);
        self.values.insert_unique(spread(hash), (hash, value), |(hash, _)| spread(*hash));
    }

    /// Removes the value with the key `what`; `is` recognises it.
    pub fn remove(&mut self, what: &impl Hash, is: impl Fn(&T) -> bool) -> Option<T> {
        let hash = self.hash(what);
        let found = self.values.find_entry(spread(hash), |(own, value)| *own == hash && is(value));
        found.ok().map(|found| found.remove().0.1)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Half of the hash is stored with each value: enough to distinguish most values, and to move them when the table grows.
    fn hash(&self, what: &impl Hash) -> u32 {
        self.hasher.hash_one(what) as u32
    }
}

/// Spreads the hash to the upper bits, too: the table takes the slot from the lower bits and its tag from the upper ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_found_among_many_until_it_is_removed() {
        let mut index = HashIndex::default();
        for number in 0..10_000_u32 {
            index.insert(&number.to_string(), number);
        }
        for number in 0..10_000 {
            assert_eq!(index.get(&number.to_string(), |own| *own == number), Some(&number));
        }
        assert_eq!(index.remove(&"77".to_owned(), |own| *own == 77), Some(77));
        assert_eq!(index.remove(&"77".to_owned(), |own| *own == 77), None);
        assert_eq!((index.get(&"77".to_owned(), |_| true), index.len()), (None, 9_999));
    }

    #[test]
    fn values_with_the_same_key_are_all_candidates() {
        let mut index = HashIndex::default();
        [1, 2, 3].into_iter().for_each(|number| index.insert(&"here", number));
        index.insert(&"there", 4);
        let mut here: Vec<i32> = index.candidates(&"here").copied().collect();
        here.sort_unstable();
        assert_eq!(here, [1, 2, 3]);
        assert_eq!(index.remove(&"here", |number| *number == 2), Some(2));
        assert_eq!(index.candidates(&"here").count(), 2);
    }
}
