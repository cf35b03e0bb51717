//! Encodes sets and elements as netlink attributes, and decodes them (linux/netfilter/ipset/ip_set.h).

use crate::kernel::netlink::{Message, REQUEST_MAX, attributes, exact, family_number, find, text};
use crate::net::{Family, IpNet, Protocol};
use crate::netfilter::ipset::{Element, Kind, MAX_ELEMENTS, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const SUBSYSTEM: u8 = 6;

/// IPSET_CMD_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IpsetCommand {
    Protocol = 1,
    Create = 2,
    Destroy = 3,
    Swap = 6,
    List = 7,
    Add = 9,
    Remove = 10,
}

/// IPSET_ATTR_*, of a command.
pub(super) const PROTOCOL: u16 = 1;
pub(super) const NAME: u16 = 2;
const TYPE_NAME: u16 = 3;
pub(super) const SECOND_NAME: u16 = 3;
const REVISION: u16 = 4;
const FAMILY: u16 = 5;
pub(super) const FLAGS: u16 = 6;
const DATA: u16 = 7;
const ELEMENTS: u16 = 8;
const LINE: u16 = 9;
pub(super) const PROTOCOL_MIN: u16 = 10;

/// IPSET_ATTR_*, of a set's header or an element.
const ADDRESS: u16 = 1;
const PREFIX: u16 = 3;
const PORT: u16 = 4;
const TRANSPORT: u16 = 7;
const ELEMENT_FLAGS: u16 = 8;
const HASH_SIZE: u16 = 18;
const MAX_ELEMENTS_ATTRIBUTE: u16 = 19;

/// IPSET_ATTR_IPADDR_*.
const IPV4: u16 = 1;
const IPV6: u16 = 2;

/// IPSET_FLAG_NOMATCH.
const NOMATCH: u32 = 1 << 2;

/// IPSET_FLAG_LIST_SETNAME: a list without types and elements.
pub(super) const NAMES_ALONE: u32 = 1 << 1;

/// The number of buckets of a small set. The kernel doubles them as elements are added, which takes it 10 ms each time.
const SMALL: usize = 64;
/// The most bytes that an element takes: an IPv6 address with prefix, flags and line, and their headers.
const ELEMENT_ROOM: usize = 64;

/// The lowest revision of a type that supports what we use: `nomatch` in `hash:net`, SCTP in `hash:ip,port`. `ipset`
/// lists a set with the options of its revision, so that old versions understand it, too.
fn revision(of: Type) -> u8 {
    match of {
        Type::HashIp => 0,
        Type::HashNet => 2,
        Type::HashIpPort => 1,
    }
}

/// Encodes the attributes of a create request except for the set's name. `room` is how many elements will be added at
/// once.
pub(super) fn put_kind(message: &mut Message, kind: Kind, room: usize) {
    message.put_text(TYPE_NAME, kind.of.name());
    message.put(REVISION, &[revision(kind.of)]);
    message.put(FAMILY, &[family_number(kind.family)]);
    message.nest(DATA, |data| {
        data.put_network(HASH_SIZE, &buckets(room).to_be_bytes());
        data.put_network(MAX_ELEMENTS_ATTRIBUTE, &MAX_ELEMENTS.to_be_bytes());
    });
}

/// The number of buckets for this many elements, so that these and as many again need no doubling.
fn buckets(room: usize) -> u32 {
    let wanted = (room / 2).max(SMALL).next_power_of_two();
    u32::try_from(wanted).unwrap_or(MAX_ELEMENTS).min(MAX_ELEMENTS)
}

/// Whether an element can be in a set of this kind.
pub(super) fn fits(element: &Element, kind: Kind) -> bool {
    match (element, kind.of) {
        (Element::Address(address), Type::HashIp) => Family::of(*address) == kind.family,
        (Element::Net { net, .. }, Type::HashNet) => {
            Family::of_net(*net) == kind.family && net.prefix_len() > 0
        }
        (Element::AddressPort(address, ..), Type::HashIpPort) => Family::of(*address) == kind.family,
        (Element::Address(_) | Element::Net { .. } | Element::AddressPort(..), _) => false,
    }
}

/// Encodes as many elements as fit into one request, each numbered from `first` so that an error can name it. Returns
/// how many.
pub(super) fn put_elements<'a>(
    message: &mut Message,
    first: u32,
    elements: &mut std::iter::Peekable<impl Iterator<Item = &'a Element>>,
) -> u32 {
    message.put(LINE, &first.to_ne_bytes());
    message.nest(ELEMENTS, |list| {
        let mut count = 0;
        while list.len() + ELEMENT_ROOM <= REQUEST_MAX
            && let Some(element) = elements.next()
        {
            list.nest(DATA, |data| {
                put_element(data, element);
                data.put(LINE, &(first + count).to_ne_bytes());
            });
            count += 1;
        }
        count
    })
}

fn put_element(data: &mut Message, element: &Element) {
    match element {
        Element::Address(address) => put_address(data, *address),
        Element::Net { net, nomatch } => {
            put_address(data, net.network());
            data.put(PREFIX, &[net.prefix_len()]);
            if *nomatch {
                data.put_network(ELEMENT_FLAGS, &NOMATCH.to_be_bytes());
            }
        }
        Element::AddressPort(address, protocol, port) => {
            put_address(data, *address);
            data.put_network(PORT, &port.to_be_bytes());
            data.put(TRANSPORT, &[protocol.number()]);
        }
    }
}

fn put_address(data: &mut Message, address: IpAddr) {
    data.nest(ADDRESS, |data| match address {
        IpAddr::V4(address) => data.put_network(IPV4, &address.octets()),
        IpAddr::V6(address) => data.put_network(IPV6, &address.octets()),
    });
}

/// The number of the element at which a request failed, read from the copy of the request in the error.
pub(super) fn failed_line(request: &[u8]) -> Option<u32> {
    find(request, LINE).and_then(exact).map(u32::from_ne_bytes)
}

/// The name in one message of a list.
pub(super) fn listed_name(message: &[u8]) -> Option<&str> {
    find(message, NAME).and_then(text)
}

/// The kind in one message of a list: the first message of a set contains it. `None` for another type.
pub(super) fn listed_kind(message: &[u8]) -> Option<Kind> {
    let of = Type::parse(find(message, TYPE_NAME).and_then(text)?)?;
    let [number] = find(message, FAMILY).and_then(exact)?;
    let family = Family::BOTH.into_iter().find(|family| family_number(*family) == number)?;
    Some(Kind { of, family })
}

/// The elements in one message of a list, without those that do not fit the kind or have no meaning here (a protocol
/// that policies cannot name).
pub(super) fn listed_elements(message: &[u8], kind: Kind) -> impl Iterator<Item = Element> {
    attributes(message)
        .filter(|attribute| attribute.kind == ELEMENTS)
        .flat_map(|list| attributes(list.payload))
        .filter(|attribute| attribute.kind == DATA)
        .filter_map(move |data| element(data.payload, kind.of))
        .filter(move |element| fits(element, kind))
}

fn element(data: &[u8], of: Type) -> Option<Element> {
    let mut address = None;
    let mut prefix = None;
    let mut port = None;
    let mut protocol = None;
    let mut flags = 0;
    for attribute in attributes(data) {
        match attribute.kind {
            ADDRESS => address = self::address(attribute.payload),
            PREFIX => prefix = exact(attribute.payload).map(|[length]: [u8; 1]| length),
            PORT => port = exact(attribute.payload).map(u16::from_be_bytes),
            TRANSPORT => {
                protocol = exact(attribute.payload).and_then(|[number]| Protocol::from_number(number))
            }
            ELEMENT_FLAGS => flags = exact(attribute.payload).map_or(0, u32::from_be_bytes),
            _ => {}
        }
    }
    let address = address?;
    match of {
        Type::HashIp => Some(Element::Address(address)),
        Type::HashNet => {
            let length = prefix.unwrap_or(Family::of(address).bits());
            let net = IpNet::new(address, length).ok()?.trunc();
            Some(Element::Net { net, nomatch: flags & NOMATCH != 0 })
        }
        Type::HashIpPort => Some(Element::AddressPort(address, protocol?, port?)),
    }
}

fn address(nested: &[u8]) -> Option<IpAddr> {
    let attribute = attributes(nested).next()?;
    match attribute.kind {
        IPV4 => exact(attribute.payload).map(|octets: [u8; 4]| Ipv4Addr::from(octets).into()),
        IPV6 => exact(attribute.payload).map(|octets: [u8; 16]| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Iterator<Item = Kind> {
        let types = [Type::HashIp, Type::HashNet, Type::HashIpPort];
        Family::BOTH.into_iter().flat_map(move |family| types.map(|of| Kind { of, family }))
    }

    fn any_address(family: Family) -> BoxedStrategy<IpAddr> {
        match family {
            Family::V4 => any::<Ipv4Addr>().prop_map(IpAddr::V4).boxed(),
            Family::V6 => any::<Ipv6Addr>().prop_map(IpAddr::V6).boxed(),
        }
    }

    fn any_element(kind: Kind) -> BoxedStrategy<Element> {
        let address = any_address(kind.family);
        match kind.of {
            Type::HashIp => address.prop_map(Element::Address).boxed(),
            Type::HashNet => (address, 1..=kind.family.bits(), any::<bool>())
                .prop_map(|(address, length, nomatch)| Element::Net {
                    net: IpNet::new(address, length).expect("the length fits").trunc(),
                    nomatch,
                })
                .boxed(),
            Type::HashIpPort => (address, proptest::sample::select(&Protocol::ALL[..]), any::<u16>())
                .prop_map(|(address, protocol, port)| Element::AddressPort(address, protocol, port))
                .boxed(),
        }
    }

    fn any_set() -> impl Strategy<Value = (Kind, Vec<Element>)> {
        proptest::sample::select(kinds().collect::<Vec<_>>())
            .prop_flat_map(|kind| (Just(kind), proptest::collection::vec(any_element(kind), 0..2000)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn elements_survive_the_way_to_the_kernel_and_back((kind, elements) in any_set()) {
            let mut rest = elements.iter().peekable();
            let mut read = Vec::new();
            while rest.peek().is_some() {
                let mut message = Message::new(SUBSYSTEM, IpsetCommand::Add as u8, 0, 0);
                let count = put_elements(&mut message, 7, &mut rest);
                prop_assert!(count > 0 && message.len() <= REQUEST_MAX);
                let bytes = message.attributes().to_vec();
                prop_assert_eq!(failed_line(&bytes), Some(7));
                read.extend(listed_elements(&bytes, kind));
            }
            prop_assert_eq!(read, elements);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (listed_name(&bytes), listed_kind(&bytes), failed_line(&bytes));
            for kind in kinds() {
                let _ = listed_elements(&bytes, kind).count();
                let _ = element(&bytes, kind.of);
            }
        }
    }

    #[test]
    fn set_begins_with_buckets_for_what_follows() {
        assert_eq!([0, 130, 100_000, usize::MAX / 4].map(buckets), [64, 128, 65_536, MAX_ELEMENTS]);
    }

    #[test]
    fn element_of_another_family_or_type_or_without_bits_does_not_fit() {
        let kind = Kind { of: Type::HashNet, family: Family::V4 };
        let net = |text: &str| Element::Net { net: text.parse().expect("a prefix"), nomatch: false };
        assert!(fits(&net("10.0.0.0/8"), kind));
        assert!(!fits(&net("0.0.0.0/0"), kind));
        assert!(!fits(&net("2001:db8::/32"), kind));
        assert!(!fits(&Element::Address("10.0.0.1".parse().expect("an address")), kind));
    }
}
