//! Things found by what they are.

use hashbrown::HashTable;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

/// Finds things by what they are, in constant time and with little memory.
///
/// Maps of names are trees elsewhere, for their order. But the names of a large cluster are long and alike, and a tree
/// touches dozens of them on the way to one. This is for where each event comes by, and where order is of no use: it cannot
/// be listed, as nothing that is written to the kernel may depend on chance.
///
/// What a thing *is* stands outside, so that it need not be kept twice: the caller hands in whatever the thing is hashed by,
/// always the same for the same thing, and recognises it.
#[derive(Clone)]
pub struct Finder<T> {
    /// Each with the hash of what it is.
    things: HashTable<(u32, T)>,
    hasher: RandomState,
}

impl<T> Default for Finder<T> {
    fn default() -> Finder<T> {
        Finder { things: HashTable::new(), hasher: RandomState::new() }
    }
}

impl<T> fmt::Debug for Finder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Finder of {}", self.things.len())
    }
}

impl<T> Finder<T> {
    /// The thing that is `what`; `is` recognises it.
    pub fn get(&self, what: &impl Hash, is: impl Fn(&T) -> bool) -> Option<&T> {
        let hash = self.hash(what);
        self.things.find(spread(hash), |(own, thing)| *own == hash && is(thing)).map(|(_, thing)| thing)
    }

    /// The same, to change whatever of it does not make it what it is.
    pub fn get_mut(&mut self, what: &impl Hash, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        let hash = self.hash(what);
        let found = self.things.find_mut(spread(hash), |(own, thing)| *own == hash && is(thing));
        found.map(|(_, thing)| thing)
    }

    /// All things that may be `what`, and now and then one that is not.
    pub fn candidates<'a, W: Hash>(&'a self, what: &W) -> impl Iterator<Item = &'a T> + use<'a, T, W> {
        let hash = self.hash(what);
        self.things.iter_hash(spread(hash)).filter(move |(own, _)| *own == hash).map(|(_, thing)| thing)
    }

    /// Adds a thing that is `what`, whether or not there is another.
    pub fn insert(&mut self, what: &impl Hash, thing: T) {
        let hash = self.hash(what);
        self.things.insert_unique(spread(hash), (hash, thing), |(hash, _)| spread(*hash));
    }

    /// Takes out the thing that is `what`; `is` recognises it.
    pub fn remove(&mut self, what: &impl Hash, is: impl Fn(&T) -> bool) -> Option<T> {
        let hash = self.hash(what);
        let found = self.things.find_entry(spread(hash), |(own, thing)| *own == hash && is(thing));
        found.ok().map(|found| found.remove().0.1)
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    /// Half of a hash is kept with each thing: enough to tell most apart without looking at them, and to grow by.
    fn hash(&self, what: &impl Hash) -> u32 {
        self.hasher.hash_one(what) as u32
    }
}

/// A hash whose upper bits are of use, too: the table takes a thing's place from the lower ones and its mark from these.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thing_is_found_among_many_until_it_is_taken_out() {
        let mut finder = Finder::default();
        for number in 0..10_000_u32 {
            finder.insert(&number.to_string(), number);
        }
        for number in 0..10_000 {
            assert_eq!(finder.get(&number.to_string(), |own| *own == number), Some(&number));
        }
        assert_eq!(finder.remove(&"77".to_owned(), |own| *own == 77), Some(77));
        assert_eq!(finder.remove(&"77".to_owned(), |own| *own == 77), None);
        assert_eq!((finder.get(&"77".to_owned(), |_| true), finder.len()), (None, 9_999));
    }

    #[test]
    fn things_that_are_the_same_are_all_candidates() {
        let mut finder = Finder::default();
        [1, 2, 3].into_iter().for_each(|number| finder.insert(&"here", number));
        finder.insert(&"there", 4);
        let mut here: Vec<i32> = finder.candidates(&"here").copied().collect();
        here.sort_unstable();
        assert_eq!(here, [1, 2, 3]);
        assert_eq!(finder.remove(&"here", |number| *number == 2), Some(2));
        assert_eq!(finder.candidates(&"here").count(), 2);
    }
}
