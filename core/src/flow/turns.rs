//! A queue whose parties take turns.

use super::party::has_room;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// A queue with a fixed capacity. No party can fill it alone, and a party with few items does not wait behind one with
/// many.
#[derive(Clone, Debug)]
pub struct Turns<K, T> {
    waiting: BTreeMap<K, VecDeque<T>>,
    all: usize,
    most: usize,
    last: Option<K>,
}

impl<K: Clone + Ord, T> Turns<K, T> {
    /// An empty queue with capacity `most`.
    pub fn new(most: usize) -> Turns<K, T> {
        Turns { waiting: BTreeMap::new(), all: 0, most, last: None }
    }

    /// Appends an item to those of the same party; `false` if the party has as many waiting as there is free room.
    pub fn push(&mut self, party: K, item: T) -> bool {
        let own = self.waiting.get(&party).map_or(0, VecDeque::len);
        let has_room = has_room(own, self.all, self.most);
        if has_room {
            self.waiting.entry(party).or_default().push_back(item);
            self.all += 1;
        }
        has_room
    }

    /// Takes the first item of the party whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.waiting.range((after, Bound::Unbounded)).next().or(self.waiting.iter().next());
        let party = next?.0.clone();
        let queue = self.waiting.get_mut(&party)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&party);
        }
        self.all -= usize::from(item.is_some());
        self.last = Some(party);
        item
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All items that wait.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn party_of_few_items_does_not_wait_behind_one_of_many() {
        let mut turns = Turns::new(100);
        for item in 0..10 {
            assert!(turns.push('a', item));
        }
        turns.push('c', 20);
        turns.push('b', 30);
        let taken: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(taken, [0, 30, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(turns.is_empty() && turns.pop().is_none());
    }

    #[test]
    fn parties_that_flood_it_leave_room_for_one_that_does_not() {
        let mut turns = Turns::new(100);
        let taken = (0..1000).filter(|item| turns.push('a', *item)).count();
        assert_eq!(taken, 50);
        let taken = (0..1000).filter(|item| turns.push('b', *item)).count();
        assert_eq!(taken, 25);
        assert!((0..5).all(|item| turns.push('c', item)));
        assert_eq!(turns.iter().count(), 80);
        while turns.pop().is_some() {}
        assert!(turns.push('a', 1));
    }
}
