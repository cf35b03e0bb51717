//! How the other project writes ends and ports.

use bridgewarden::net::{PortRange, PortSet, Protocol};
use std::net::Ipv4Addr;

/// An end as the other project writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Theirs {
    Workload(String),
    Range(Ipv4Addr, Ipv4Addr),
}

pub(crate) fn end(text: &str) -> Option<Theirs> {
    if text.contains("ingress-controller") {
        return None;
    }
    match text.strip_suffix("[External]") {
        Some(range) => {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(Theirs::Range(first.parse().ok()?, last.parse().ok()?))
        }
        None => Some(Theirs::Workload(text.to_owned())),
    }
}

/// `TCP 80,8000-9000,UDP 53`, `All Connections`, `No Connections`.
pub(crate) fn ports(text: &str) -> PortSet {
    let mut ports = PortSet::default();
    let mut protocol = Protocol::Tcp;
    for part in text.trim().split(',') {
        let numbers = match part.split_once(' ') {
            _ if part == "All Connections" => return PortSet::every_port(),
            _ if part == "No Connections" => return PortSet::default(),
            Some((word, numbers)) => {
                protocol = Protocol::parse(word).unwrap_or_else(|| panic!("{text}"));
                numbers
            }
            None => part,
        };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let range = PortRange::new(first.parse().expect("a port"), last.parse().expect("a port"));
        ports = ports.union(&PortSet::of(protocol, range.expect("a range")));
    }
    ports
}
