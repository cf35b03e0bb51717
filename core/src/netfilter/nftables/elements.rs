//! The elements of a set, in one block of memory: ten thousand addresses are not ten thousand allocations.

use super::Verdict;
use std::fmt;

/// The elements of a set in ascending order: keys of one length, in a map with verdicts.
#[derive(Clone, Default)]
pub struct Elements {
    /// The length of a key in bytes; 0 without elements.
    length: usize,
    /// The keys, in ascending order.
    keys: Vec<u8>,
    /// The verdict of each key; nothing if no key has one.
    verdicts: Vec<Option<Verdict>>,
}

impl Elements {
    /// No elements.
    pub fn new() -> Elements {
        Elements::default()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.keys.len().checked_div(self.length).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        // Without elements there is no key to be cut off, whatever its length.
        self.keys.chunks_exact(self.length.max(1))
    }

    /// The verdicts of the keys that have one.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().flatten()
    }

    /// The keys with their verdicts.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&Verdict>)> {
        self.keys().enumerate().map(move |(place, key)| (key, self.verdict(place)))
    }

    /// Whether a key is there.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.place(key).is_ok()
    }

    /// The verdict of a key that is there, if it has one.
    pub fn get(&self, key: &[u8]) -> Option<Option<&Verdict>> {
        self.place(key).ok().map(|place| self.verdict(place))
    }

    /// The last key that is at most this one.
    pub fn last_up_to(&self, key: &[u8]) -> Option<&[u8]> {
        let place = match self.place(key) {
            Ok(place) => place,
            Err(next) => next.checked_sub(1)?,
        };
        Some(self.key(place))
    }

    /// Adds a key with its verdict. A key that is there gets this verdict instead.
    ///
    /// # Panics
    /// If a key of another length is there.
    pub fn insert(&mut self, key: &[u8], verdict: Option<Verdict>) {
        if self.is_empty() {
            self.length = key.len();
        }
        assert_eq!(key.len(), self.length, "the keys of a set have one length");
        // Most come in order.
        let end = self.len();
        let place = match end.checked_sub(1).is_none_or(|last| self.key(last) < key) {
            true => Err(end),
            false => self.place(key),
        };
        if verdict.is_some() && self.verdicts.is_empty() {
            self.verdicts.resize(end, None);
        }
        let has_verdicts = verdict.is_some() || !self.verdicts.is_empty();
        match place {
            Ok(place) if has_verdicts => self.verdicts[place] = verdict,
            Ok(_) => {}
            Err(place) => {
                let at = place * self.length;
                self.keys.splice(at..at, key.iter().copied());
                if has_verdicts {
                    self.verdicts.insert(place, verdict);
                }
            }
        }
    }

    /// Removes a key. Returns whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Ok(place) = self.place(key) else { return false };
        let at = place * self.length;
        self.keys.drain(at..at + self.length);
        if !self.verdicts.is_empty() {
            self.verdicts.remove(place);
        }
        if self.keys.is_empty() {
            *self = Elements::new();
        }
        true
    }

    fn key(&self, place: usize) -> &[u8] {
        &self.keys[place * self.length..(place + 1) * self.length]
    }

    fn verdict(&self, place: usize) -> Option<&Verdict> {
        self.verdicts.get(place)?.as_ref()
    }

    /// Where a key is, or where it would be.
    fn place(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut least, mut end) = (0, self.len());
        while least < end {
            let middle = least.midpoint(end);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => least = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => end = middle,
            }
        }
        Err(least)
    }
}

impl PartialEq for Elements {
    fn eq(&self, other: &Elements) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Elements {}

impl<K: AsRef<[u8]>> Extend<(K, Option<Verdict>)> for Elements {
    fn extend<T: IntoIterator<Item = (K, Option<Verdict>)>>(&mut self, elements: T) {
        elements.into_iter().for_each(|(key, verdict)| self.insert(key.as_ref(), verdict));
    }
}

impl<K: AsRef<[u8]>> FromIterator<(K, Option<Verdict>)> for Elements {
    /// Of a key that comes twice, the last verdict counts.
    fn from_iter<T: IntoIterator<Item = (K, Option<Verdict>)>>(elements: T) -> Elements {
        let mut all: Vec<_> = elements.into_iter().collect();
        all.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        let mut sorted = Elements::new();
        sorted.keys.reserve_exact(all.first().map_or(0, |(key, _)| key.as_ref().len() * all.len()));
        sorted.extend(all);
        sorted
    }
}

impl<K: AsRef<[u8]>, const N: usize> From<[(K, Option<Verdict>); N]> for Elements {
    fn from(elements: [(K, Option<Verdict>); N]) -> Elements {
        elements.into_iter().collect()
    }
}

impl fmt::Debug for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
    use std::collections::BTreeMap;

    fn change() -> impl Strategy<Value = (bool, [u8; 2], Option<Verdict>)> {
        let verdict = (0..3_u8).prop_map(|number| match number {
            0 => None,
            1 => Some(Verdict::Accept),
            _ => Some(Verdict::Goto("chain".into())),
        });
        (any::<bool>(), [0..3_u8, 0..6_u8], verdict)
    }

    proptest! {
        #[test]
        fn elements_are_those_of_a_map_whatever_comes_and_goes(changes in vec(change(), 0..60)) {
            let (mut elements, mut map) = (Elements::new(), BTreeMap::new());
            for (comes, key, verdict) in changes {
                if comes {
                    elements.insert(&key, verdict.clone());
                    map.insert(key, verdict);
                } else {
                    prop_assert_eq!(elements.remove(&key), map.remove(&key).is_some());
                }
                prop_assert_eq!(elements.len(), map.len());
                let pairs: Vec<_> = map.iter().map(|(key, verdict)| (key.as_slice(), verdict.as_ref())).collect();
                prop_assert_eq!(elements.iter().collect::<Vec<_>>(), pairs);
                prop_assert_eq!(elements.get(&key), map.get(&key).map(Option::as_ref));
                let before = map.range(..=key).next_back().map(|(key, _)| key.as_slice());
                prop_assert_eq!(elements.last_up_to(&key), before);
                prop_assert_eq!(elements.verdicts().count(), map.values().flatten().count());
            }
        }

        #[test]
        fn order_in_which_elements_come_does_not_matter(keys in vec([0..9_u8, 0..9_u8], 0..30)) {
            let with_none = |keys: &[[u8; 2]]| keys.iter().map(|key| (*key, None)).collect::<Elements>();
            let mut backwards = keys.clone();
            backwards.reverse();
            prop_assert_eq!(with_none(&keys), with_none(&backwards));
            let mut emptied = with_none(&keys);
            for key in &keys {
                emptied.remove(key);
            }
            prop_assert_eq!(emptied, Elements::new());
        }
    }
}
