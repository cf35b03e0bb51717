//! The last denied flows, up to a fixed number.

use super::Record;
use std::collections::BTreeMap;

/// How many flows are kept.
pub const KEPT: usize = 1000;

/// The last flows, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct Ring(BTreeMap<u64, Record>);

impl Ring {
    /// Adds a flow. If there is no room, the one with the lowest number is removed.
    pub fn add(&mut self, record: Record) {
        self.0.insert(record.number, record);
        if self.0.len() > KEPT {
            self.0.pop_first();
        }
    }

    /// A flow that is still kept.
    pub fn flow(&mut self, number: u64) -> Option<&mut Record> {
        self.0.get_mut(&number)
    }

    /// All that are kept, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Account, FlowEnd, FlowVerdict, Reason};
    use crate::model::Direction;

    fn record(number: u64) -> Record {
        let end = || FlowEnd { address: [10, 0, 0, 1].into(), namespace: None, pod: None, owner: None };
        let account = Account {
            verdict: FlowVerdict::Denied,
            direction: Direction::Egress,
            source: end(),
            destination: end(),
            protocol: "ICMP 8/0".into(),
            port: None,
            reason: Reason::AllowedByNow,
            policies: Vec::new(),
            nearest: None,
            bridge_port: None,
            uid: None,
        };
        let (time, last, node) = Default::default();
        Record { number, time, last, count: 1, node, account }
    }

    #[test]
    fn only_the_last_thousand_are_kept_and_found_by_number() {
        let mut ring = Ring::default();
        let numbers: Vec<u64> = (0..3 * KEPT as u64).filter(|number| number % 2 == 0).collect();
        numbers.iter().for_each(|number| ring.add(record(*number)));
        assert_eq!(ring.iter().count(), KEPT);
        let first = numbers[numbers.len() - KEPT];
        assert_eq!(ring.iter().next().unwrap().number, first);
        assert!(ring.flow(first - 2).is_none() && ring.flow(first + 1).is_none());
        ring.flow(first + 2).unwrap().count = 9;
        assert_eq!(ring.iter().nth(1).unwrap().count, 9);
    }

    /// Pods take turns, so a flow may be reported before one that began earlier.
    #[test]
    fn flows_are_kept_and_found_in_whatever_order_they_come() {
        let mut ring = Ring::default();
        [5, 2, 9, 4].into_iter().for_each(|number| ring.add(record(number)));
        assert_eq!(ring.iter().map(|record| record.number).collect::<Vec<_>>(), [2, 4, 5, 9]);
        assert!([5, 2, 9, 4].into_iter().all(|number| ring.flow(number).is_some()));
    }
}
