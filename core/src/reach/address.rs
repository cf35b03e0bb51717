//! Addresses in classes that no block distinguishes.

use super::term::TermId;
use crate::model::Block;
use crate::net::{Family, IpNet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The number of a part of a family's addresses that the same blocks hold.
pub(super) type PartId = usize;

/// The addresses of a family, divided where blocks and their exceptions begin and end.
#[derive(Clone, Debug)]
pub(super) struct AddressSpace {
    family: Family,
    /// The first address of each range, in order, and the part that the range belongs to.
    ranges: Vec<(u128, PartId)>,
    /// The blocks that hold each part.
    parts: Vec<Vec<TermId>>,
    /// The blocks that hold every address.
    everywhere: Vec<TermId>,
}

impl AddressSpace {
    /// Divides a family's addresses by these blocks; those of the other family are left out.
    pub(super) fn of<'b>(family: Family, blocks: impl Iterator<Item = (&'b Block, TermId)>) -> AddressSpace {
        let mut everywhere = Vec::new();
        let mut edges: BTreeMap<u128, Vec<(TermId, bool)>> = BTreeMap::new();
        edges.entry(0).or_default();
        for (block, id) in blocks.filter(|(block, _)| Family::of_net(block.cidr) == family) {
            if block.cidr.prefix_len() == 0 && block.except.is_empty() {
                everywhere.push(id);
            }
            for (first, last) in ranges_of(block) {
                edges.entry(first).or_default().push((id, true));
                if let Some(next) = last.checked_add(1).filter(|next| *next <= last_of(family)) {
                    edges.entry(next).or_default().push((id, false));
                }
            }
        }
        let mut known: BTreeMap<Vec<TermId>, PartId> = BTreeMap::new();
        let (mut ranges, mut parts) = (Vec::<(u128, PartId)>::new(), Vec::new());
        let mut holding: BTreeSet<TermId> = BTreeSet::new();
        for (start, changes) in edges {
            // Where one range of a block ends the next may begin.
            for (id, _) in changes.iter().filter(|(_, begins)| !begins) {
                holding.remove(id);
            }
            holding.extend(changes.iter().filter(|(_, begins)| *begins).map(|(id, _)| *id));
            let terms: Vec<TermId> = holding.iter().copied().collect();
            let part = *known.entry(terms.clone()).or_insert_with(|| {
                parts.push(terms);
                parts.len() - 1
            });
            if ranges.last().is_none_or(|(_, last)| *last != part) {
                ranges.push((start, part));
            }
        }
        AddressSpace { family, ranges, parts, everywhere }
    }

    /// The part that an address of this family belongs to.
    pub(super) fn part_of(&self, address: IpAddr) -> PartId {
        self.part_at(number(address))
    }

    fn part_at(&self, number: u128) -> PartId {
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).and_then(|place| self.ranges.get(place)).map_or(0, |(_, part)| *part)
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// The prefixes whose addresses are of one part in one division of a family and of one part in another.
    pub(super) fn overlaps(one: &AddressSpace, other: &AddressSpace) -> Vec<((PartId, PartId), Vec<IpNet>)> {
        let firsts = one.ranges.iter().chain(&other.ranges).map(|(first, _)| *first);
        let firsts: BTreeSet<u128> = firsts.collect();
        let ends = firsts.iter().skip(1).map(|first| first - 1).chain([last_of(one.family)]);
        let overlaps = firsts.iter().zip(ends).map(|(first, last)| {
            let parts = (one.part_at(*first), other.part_at(*first));
            (parts, prefixes_of(one.family, *first, last))
        });
        overlaps.collect()
    }

    /// The blocks that hold a part, in order.
    pub(super) fn terms(&self, part: PartId) -> &[TermId] {
        self.parts.get(part).map_or(&[], Vec::as_slice)
    }

    /// The blocks that hold every address of the family, also one that is not known.
    pub(super) fn everywhere(&self) -> &[TermId] {
        &self.everywhere
    }

    /// The prefixes that make up each part, in order.
    pub(super) fn prefixes(&self) -> Vec<Vec<IpNet>> {
        let mut prefixes = vec![Vec::new(); self.parts.len()];
        let ends = self.ranges.iter().skip(1).map(|(first, _)| first - 1).chain([last_of(self.family)]);
        for ((first, part), last) in self.ranges.iter().zip(ends) {
            prefixes[*part].extend(prefixes_of(self.family, *first, last));
        }
        prefixes
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn last_of(family: Family) -> u128 {
    match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    }
}

/// The first and the last address of a prefix.
fn ends(net: IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

/// The ranges of addresses that a block holds, in order.
fn ranges_of(block: &Block) -> Vec<(u128, u128)> {
    let mut except: Vec<(u128, u128)> = block.except.iter().map(|except| ends(*except)).collect();
    except.sort_unstable();
    let (first, last) = ends(block.cidr);
    let mut ranges = Vec::new();
    let mut next = Some(first);
    for (from, to) in except {
        let Some(start) = next else { break };
        if from > start {
            ranges.push((start, from - 1));
        }
        if to >= start {
            next = to.checked_add(1).filter(|next| *next <= last);
        }
    }
    ranges.extend(next.map(|start| (start, last)));
    ranges
}

/// The fewest prefixes that hold exactly the addresses from `first` to `last`.
fn prefixes_of(family: Family, first: u128, last: u128) -> Vec<IpNet> {
    let bits = u32::from(family.bits());
    let mut prefixes = Vec::new();
    let mut start = first;
    loop {
        let aligned = start.trailing_zeros().min(bits);
        // How many addresses are left, less one, in whole powers of two.
        let left = last - start;
        let fits = left.checked_add(1).map_or(bits, |count| count.ilog2());
        let size = aligned.min(fits);
        let address = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(start).unwrap_or(u32::MAX))),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(start)),
        };
        let length = u8::try_from(bits - size).unwrap_or(family.bits());
        prefixes.extend(IpNet::new(address, length));
        let next = 1_u128.checked_shl(size).and_then(|count| start.checked_add(count));
        match next.filter(|next| *next <= last) {
            Some(next) => start = next,
            None => return prefixes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> Block {
        let except = except.iter().map(|except| except.parse().unwrap()).collect();
        Block { cidr: cidr.parse().unwrap(), except }
    }

    fn space(family: Family, blocks: &[Block]) -> AddressSpace {
        AddressSpace::of(family, blocks.iter().zip(0..))
    }

    fn texts(prefixes: &[IpNet]) -> Vec<String> {
        prefixes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_blocks_all_addresses_are_one_part() {
        for (family, all) in [(Family::V4, "0.0.0.0/0"), (Family::V6, "::/0")] {
            let space = space(family, &[]);
            assert_eq!(space.prefixes().iter().map(|part| texts(part)).collect::<Vec<_>>(), [[all]]);
        }
    }

    #[test]
    fn exceptions_and_what_surrounds_a_block_are_of_one_part() {
        let space = space(Family::V4, &[block("10.0.0.0/8", &["10.1.0.0/16", "10.2.0.0/15"])]);
        let [outside, inside] = space.prefixes().try_into().unwrap();
        assert!(texts(&outside).contains(&"10.1.0.0/16".to_owned()));
        assert!(texts(&outside).contains(&"10.2.0.0/15".to_owned()));
        assert_eq!(texts(&inside)[..2], ["10.0.0.0/16", "10.4.0.0/14"]);
        assert_eq!(space.terms(space.part_of([10, 0, 0, 1].into())), [0]);
        assert_eq!(space.terms(space.part_of([10, 3, 255, 255].into())), [0_u32; 0]);
    }

    #[test]
    fn block_that_ends_with_the_last_address_ends_there() {
        let blocks = [block("255.0.0.0/8", &["255.255.255.255/32"]), block("0.0.0.0/0", &[])];
        let v4 = space(Family::V4, &blocks);
        assert_eq!(v4.terms(v4.part_of([255, 255, 255, 255].into())), [1]);
        assert_eq!(v4.terms(v4.part_of([255, 255, 255, 254].into())), [0, 1]);
        let v6 = space(Family::V6, &[block("ff00::/8", &["ffff::/16"])]);
        assert_eq!(v6.terms(v6.part_of("ff00::1".parse().unwrap())), [0]);
        assert_eq!(v6.terms(v6.part_of("ffff::1".parse().unwrap())), [0_u32; 0]);
        assert_eq!(v6.prefixes().len(), 2);
    }

    #[test]
    fn every_address_is_in_the_part_of_the_blocks_that_hold_it() {
        let blocks = [
            block("10.0.0.0/8", &["10.1.0.0/16", "10.1.2.0/24"]),
            block("10.1.0.0/16", &[]),
            block("10.1.2.3/32", &[]),
            block("0.0.0.0/0", &["10.0.0.0/9"]),
        ];
        let space = space(Family::V4, &blocks);
        let prefixes = space.prefixes();
        for address in
            ["9.255.255.255", "10.0.0.0", "10.1.2.3", "10.1.2.4", "10.127.255.255", "10.128.0.0", "11.0.0.0"]
        {
            let address: IpAddr = address.parse().unwrap();
            let holds = |block: &Block| {
                block.cidr.contains(&address) && !block.except.iter().any(|except| except.contains(&address))
            };
            let expected: Vec<TermId> =
                blocks.iter().zip(0..).filter(|(block, _)| holds(block)).map(|(_, id)| id).collect();
            let part = space.part_of(address);
            assert_eq!(space.terms(part), expected, "{address}");
            let within = |part: &Vec<IpNet>| part.iter().any(|net| net.contains(&address));
            assert_eq!(prefixes.iter().position(within), Some(part), "{address}");
            assert_eq!(prefixes.iter().filter(|part| within(part)).count(), 1, "{address}");
        }
    }
}
