//! What Linux 6.18 sent about tables, message after message: tables, chains, rules, objects, sets and elements. Whatever becomes of
//! these bytes, the reader does not panic, and takes no other table for the same.

use super::decode::TableReader;
use super::wire::*;
use crate::apply::TableRead;
use crate::kernel::netlink::{attributes, behind_generic, frames};
use crate::netfilter::nftables::{Table, TableFamily};
use std::collections::BTreeMap;

/// One table with every statement and set, and tables of agents, which own them: of scenarios `many-ports` and `dual-stack-differs`.
const CORPUS: [(TableFamily, &[u8]); 4] = [
    (TableFamily::Inet, include_bytes!("corpus/everything.dump")),
    (TableFamily::Inet, include_bytes!("corpus/many-ports.dump")),
    (TableFamily::Inet, include_bytes!("corpus/dual-stack.dump")),
    (TableFamily::Bridge, include_bytes!("corpus/bridge.dump")),
];
/// How many mutations are tried, unless BRIDGEWARDEN_MUTATIONS says so.
const MUTATIONS: u64 = 30_000;

/// A command, and the attributes of its message.
type Recorded = (u8, Vec<u8>);

fn recorded(bytes: &[u8]) -> Vec<Recorded> {
    let messages = frames(bytes).map(|frame| {
        let [command, _] = frame.kind.to_le_bytes();
        (command, behind_generic(frame.payload).to_vec())
    });
    // The kernel ends some sets with a message without elements.
    messages
        .filter(|(command, message)| *command != NEW_ELEMENTS || !message.ends_with(&[4, 0, 3, 0]))
        .collect()
}

fn read(family: TableFamily, messages: &[Recorded]) -> TableRead {
    let mut reader = TableReader::new(Table::new(family, "bridgewarden"), None);
    for (command, message) in messages {
        match *command {
            NEW_TABLE => reader.table(message),
            NEW_CHAIN => reader.chain(message),
            NEW_RULE => reader.rule(message),
            NEW_OBJECT => reader.object(message),
            NEW_SET => reader.set(message),
            NEW_ELEMENTS => reader.elements(message),
            other => panic!("no message of a table: {other}"),
        }
    }
    reader.end()
}

/// Pseudo-random numbers that are always the same (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    let number = random.next().to_le_bytes();
    match random.below(5) {
        0 => bytes[at] ^= 1 << (number[0] % 8),
        1 => bytes[at] = number[0],
        2 => bytes.truncate(at),
        3 => bytes.extend(&number[..1 + usize::from(number[7] % 7)]),
        _ => drop(bytes.drain(at..(at + 1 + usize::from(number[0] % 8)).min(bytes.len()))),
    }
}

/// The attributes of a message that contain no others, by their path, without those that do not affect packets.
/// Independent of how the reader works. `None` if lengths do not add up.
fn meaning(command: u8, message: &[u8]) -> Option<BTreeMap<Vec<u16>, Vec<u8>>> {
    let mut leaves = BTreeMap::new();
    let mut open = vec![(Vec::new(), message)];
    while let Some((way, bytes)) = open.pop() {
        let mut length = 0;
        for (place, attribute) in attributes(bytes).enumerate() {
            length += attribute.bytes.len().next_multiple_of(4);
            // Only lists contain several attributes of one kind.
            let mut way: Vec<u16> = way.clone();
            let is_list = matches!((command, way.as_slice()), (NEW_RULE, [4]) | (NEW_ELEMENTS, [3]));
            way.extend(is_list.then_some(place as u16));
            way.push(attribute.kind);
            if says_nothing(command, &way, attribute.payload) {
                continue;
            }
            if is_nest(command, &way, attribute.payload) {
                open.push((way, attribute.payload));
                continue;
            }
            let mut payload = attribute.payload;
            // A name ends at its first NUL.
            if matches!((command, way.as_slice()), (_, [1]) | (NEW_ELEMENTS, [2])) {
                payload = payload.split(|byte| *byte == 0).next().unwrap_or_default();
            }
            if leaves.insert(way, payload.to_vec()).is_some() {
                return None;
            }
        }
        if length < bytes.len() {
            return None;
        }
    }
    Some(leaves)
}

fn is_nest(command: u8, way: &[u16], payload: &[u8]) -> bool {
    let holds_attributes =
        attributes(payload).map(|inner| inner.bytes.len().next_multiple_of(4)).sum::<usize>();
    let is_place = matches!(
        (command, way),
        (NEW_CHAIN | NEW_OBJECT, [4]) | (NEW_SET, [9]) | (NEW_RULE, [4, ..]) | (NEW_ELEMENTS, [3, ..])
    );
    is_place && holds_attributes >= payload.len() && !payload.is_empty()
}

fn says_nothing(command: u8, way: &[u16], payload: &[u8]) -> bool {
    match (command, way) {
        // Use, handle, padding, owner.
        (NEW_TABLE, [3 | 4 | 5 | 7 | 8..]) => true,
        // Whether it has an owner.
        (NEW_TABLE, [2]) => matches!(payload, [0, 0, 0, 0 | 2 | 4 | 6]),
        // Whether it is a base chain, which its hook shows, too.
        (NEW_CHAIN, [10]) => matches!(payload, [0, 0, 0, 0 | 1]),
        // Handle, use, padding.
        (NEW_CHAIN, [2 | 6 | 9 | 13..]) => true,
        // Handle, position, padding, and the count of a counter.
        (NEW_RULE, [3 | 6 | 8 | 12..]) => true,
        (NEW_RULE, [4, _, 1, 2, 1 | 2]) => payload.len() == 8,
        // The timeout of elements that packets add (0 if absent), and padding.
        (NEW_RULE, [4, _, 1, 2, 6 | 8]) if payload.len() == 8 => payload.iter().all(|byte| *byte == 0),
        // Attributes whose absence means 0: flags of lookups and limits, the operation of bits, kinds.
        (NEW_RULE, [4, _, 1, 2, ..]) => payload.iter().all(|byte| *byte == 0) && payload.len() == 4,
        // Performance hints, the length of data, the name's origin, and the number.
        (NEW_SET, [7 | 8 | 10 | 13 | 14 | 16 | 19..]) | (NEW_SET, [9, 2]) => true,
        (NEW_SET, [3] | [9, 1]) => payload == [0; 4],
        (NEW_SET, [9]) => payload.is_empty(),
        (NEW_ELEMENTS, [5..=u16::MAX] | [3, _, 1, 6 | 8 | 12..]) => true,
        (NEW_ELEMENTS, [3, _, 1, 3]) => payload[..] == [0; 4],
        (NEW_OBJECT, [5..=u16::MAX]) | (NEW_OBJECT, [4, _]) => true,
        _ => false,
    }
}

#[test]
fn recorded_table_is_read_whole() {
    let [(family, everything), agents @ ..] = CORPUS;
    let TableRead::Ours { table, counted, .. } = read(family, &recorded(everything)) else {
        panic!("not ours")
    };
    assert_eq!((table.chains.len(), table.sets.len(), table.counters.len()), (9, 15, 2));
    assert_eq!(table.chains.values().map(|chain| chain.rules.len()).sum::<usize>(), 77);
    assert_eq!(counted.values().sum::<u64>(), 0);
    for (family, bytes) in agents {
        assert!(matches!(read(family, &recorded(bytes)), TableRead::Ours { .. }), "{family:?}");
    }
}

#[test]
fn mutated_messages_are_never_taken_for_the_table_that_was_meant() {
    let wanted = std::env::var("BRIDGEWARDEN_MUTATIONS").ok().and_then(|count| count.parse().ok());
    let mutations = wanted.unwrap_or(MUTATIONS) / CORPUS.len() as u64;
    let mut random = Random(1);
    for (family, bytes) in CORPUS {
        let messages = recorded(bytes);
        let right = read(family, &messages);
        let meant: Vec<_> = messages.iter().map(|(command, message)| meaning(*command, message)).collect();
        let mut taken = 0;
        for _ in 0..mutations {
            let place = random.below(messages.len());
            let mut mutated = messages.clone();
            for _ in 0..=random.below(3) {
                mutate(&mut random, &mut mutated[place].1);
            }
            if read(family, &mutated) == right {
                let (command, message) = &mutated[place];
                let found = meaning(*command, message);
                assert!(found == meant[place], "{command}: {:x?}\nbecame {message:x?}", messages[place].1);
                taken += 1;
            }
        }
        // A handle, a use or a position is a matter of some hundred bytes of the whole.
        assert!(taken < mutations / 2, "{taken}");
    }
}

#[test]
fn messages_that_are_missing_or_come_twice_are_never_taken_for_the_table_that_was_meant() {
    for (family, bytes) in CORPUS {
        let messages = recorded(bytes);
        let right = read(family, &messages);
        for place in 0..messages.len() {
            let mut fewer = messages.clone();
            let (command, missing) = fewer.remove(place);
            assert!(read(family, &fewer) != right, "{command}");
            // A rule that comes twice is there twice. What has a name or a key is the same.
            let mut more = messages.clone();
            more.insert(place, (command, missing));
            assert!((read(family, &more) == right) == (command != NEW_RULE), "{command}");
        }
    }
}
