//! Shared sets as sets of nf_tables.

use super::fields::address_part;
use crate::compile::{Member, Plan, SetDefinition};
use crate::model::{Block, Cluster};
use crate::net::{Family, IpNet, octets};
use crate::netfilter::nftables::{Elements, KeyPart, Set, SetKind, SetPurpose};
use std::net::IpAddr;

/// The definition of a shared set in a family.
pub(super) fn kind(definition: &SetDefinition, family: Family) -> SetKind {
    let address = address_part(family);
    let (key, purpose) = match definition {
        SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) => (vec![address], SetPurpose::Set),
        SetDefinition::NamedPort { .. } => {
            (vec![address, KeyPart::Protocol, KeyPart::Service], SetPurpose::Set)
        }
        SetDefinition::Blocks(_) => (vec![address], SetPurpose::Intervals),
    };
    SetKind { key, purpose, size: 0 }
}

/// The complete desired state of a shared set, in one family.
pub(super) fn whole(cluster: &Cluster, plan: &Plan, definition: &SetDefinition, family: Family) -> Set {
    let elements = match definition {
        SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) | SetDefinition::NamedPort { .. } => {
            let members = plan.members(cluster, definition).into_iter();
            members
                .filter(|member| Family::of(member.address()) == family)
                .map(|own| (key(own), None))
                .collect()
        }
        SetDefinition::Blocks(blocks) => ranges_of(blocks, family),
    };
    Set { kind: kind(definition, family), elements }
}

/// The key of a member: an address, or an address with a protocol and a port, with each part padded to four bytes.
pub(super) fn key(member: Member) -> Box<[u8]> {
    match member {
        Member::Address(address) => octets(address),
        Member::Port(address, protocol, port) => {
            let mut key = octets(address).into_vec();
            key.extend([protocol.number(), 0, 0, 0]);
            key.extend(port.to_be_bytes());
            key.extend([0, 0]);
            key.into()
        }
    }
}

/// The element for a range of keys.
pub(super) fn range(first: &[u8], last: &[u8]) -> Box<[u8]> {
    [first, last].concat().into()
}

/// The addresses of blocks without their exceptions, as ranges that neither overlap nor touch.
fn ranges_of(blocks: &[Block], family: Family) -> Elements {
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for block in blocks.iter().filter(|block| Family::of_net(block.cidr) == family) {
        let mut except: Vec<_> = block.except.iter().map(|net| bounds(*net)).collect();
        except.sort_unstable();
        let (mut first, last) = bounds(block.cidr);
        let mut is_left = true;
        for (start, end) in except {
            if start > first {
                ranges.push((first, start - 1));
            }
            match end.checked_add(1) {
                Some(next) => first = first.max(next),
                None => is_left = false,
            }
        }
        if is_left && first <= last {
            ranges.push((first, last));
        }
    }
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            Some(_) | None => joined.push((first, last)),
        }
    }
    let key = |number| from_number(number, family);
    joined.into_iter().map(|(first, last)| (range(&key(first), &key(last)), None)).collect()
}

/// The first and the last address of a prefix as numbers.
fn bounds(net: IpNet) -> (u128, u128) {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    (number(net.network()), number(net.broadcast()))
}

fn from_number(number: u128, family: Family) -> Box<[u8]> {
    let bytes = number.to_be_bytes();
    match family {
        Family::V4 => bytes[12..].into(),
        Family::V6 => bytes.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    fn ranges(blocks: &[(&str, &[&str])]) -> Vec<String> {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let blocks: Vec<Block> = blocks
            .iter()
            .map(|(cidr, except)| Block {
                cidr: net(cidr),
                except: except.iter().map(|text| net(text)).collect(),
            })
            .collect();
        let elements = ranges_of(&blocks, Family::V4);
        let address =
            |bytes: &[u8]| std::net::Ipv4Addr::from(<[u8; 4]>::try_from(bytes).expect("four bytes"));
        elements.keys().map(|key| format!("{}-{}", address(&key[..4]), address(&key[4..]))).collect()
    }

    #[test]
    fn exceptions_are_cut_out_of_their_own_block_alone() {
        assert_eq!(
            ranges(&[("192.0.2.0/24", &["192.0.2.128/26"])]),
            ["192.0.2.0-192.0.2.127", "192.0.2.192-192.0.2.255"]
        );
        assert_eq!(
            ranges(&[("192.0.2.0/24", &["192.0.2.128/26"]), ("192.0.2.128/25", &["192.0.2.192/26"])]),
            ["192.0.2.0-192.0.2.255"]
        );
        assert_eq!(ranges(&[("192.0.2.0/24", &["192.0.2.0/24"])]), [] as [&str; 0]);
        assert_eq!(
            ranges(&[("0.0.0.0/0", &["255.255.255.255/32", "0.0.0.0/32"])]),
            ["0.0.0.1-255.255.255.254"]
        );
        assert_eq!(ranges(&[("0.0.0.0/0", &["128.0.0.0/1"])]), ["0.0.0.0-127.255.255.255"]);
    }

    /// Blocks within 256 addresses, with exceptions.
    fn blocks(family: Family) -> impl Strategy<Value = Vec<Block>> {
        let net = move |(host, length): (u8, u8)| {
            let whole = match family {
                Family::V4 => IpNet::new([192, 0, 2, host].into(), 24 + length),
                Family::V6 => IpNet::new([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)].into(), 120 + length),
            };
            whole.expect("a prefix").trunc()
        };
        let prefix = move || (any::<u8>(), 0..=8_u8).prop_map(net);
        let block = (prefix(), vec(prefix(), 0..4));
        let block = block.prop_map(|(cidr, mut except)| {
            except.retain(|own| cidr.contains(own) && *own != cidr);
            Block { cidr, except }
        });
        vec(block, 0..5)
    }

    proptest! {
        #[test]
        fn ranges_hold_what_any_block_holds_without_its_exceptions(four in blocks(Family::V4), six in blocks(Family::V6)) {
            let is_in = |blocks: &[Block], address: IpAddr| {
                blocks.iter().any(|block| block.contains(address))
            };
            for (family, blocks) in [(Family::V4, four), (Family::V6, six)] {
                let elements = ranges_of(&blocks, family);
                let ranges: Vec<_> = elements.keys().map(|key| key.split_at(key.len() / 2)).collect();
                for host in 0..=255 {
                    let address = match family {
                        Family::V4 => IpAddr::from([192, 0, 2, host]),
                        Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)]),
                    };
                    let key = octets(address);
                    let holds = ranges.iter().filter(|(first, last)| (*first..=*last).contains(&&*key)).count();
                    prop_assert_eq!(holds, usize::from(is_in(&blocks, address)), "{} in {:?}", address, blocks);
                }
                let touch = ranges.windows(2).any(|pair| {
                    pair[0].1.last().expect("an address") + 1 >= *pair[1].0.last().expect("an address")
                });
                prop_assert!(!touch, "{:?}", ranges);
                let other = match family { Family::V4 => Family::V6, Family::V6 => Family::V4 };
                prop_assert!(ranges_of(&blocks, other).is_empty());
            }
        }
    }

    #[test]
    fn blocks_that_overlap_or_touch_are_one_range() {
        assert_eq!(
            ranges(&[("10.0.0.0/25", &[]), ("10.0.0.128/25", &[]), ("10.0.0.64/26", &[])]),
            ["10.0.0.0-10.0.0.255"]
        );
        assert_eq!(
            ranges(&[("10.0.0.0/32", &[]), ("10.0.0.2/32", &[])]),
            ["10.0.0.0-10.0.0.0", "10.0.0.2-10.0.0.2"]
        );
    }
}
