//! Words for tables that a test makes.

use bridgewarden::netfilter::nftables::{
    Base, Chain, ConnectionFact, Elements, Field, Hook, HookPoint, KeyPart, Meta, NFPROTO_IPV4, NFPROTO_IPV6,
    RejectWith, Rule, Set, SetKind, SetPurpose, Table, TableFamily, status,
};
use std::net::IpAddr;

pub(super) const NAME: &str = "bridgewarden";
pub(super) const NFPROTO: Field = Field::Meta(Meta::NfProto);
pub(super) const PROTOCOL: Field = Field::Meta(Meta::TransportProtocol);
pub(super) const MARK: Field = Field::Connection(ConnectionFact::Mark);
pub(super) const STATE: Field = Field::Connection(ConnectionFact::State);
pub(super) const SOURCE4: Field = Field::Payload { base: Base::Network, offset: 12, length: 4 };
pub(super) const DESTINATION4: Field = Field::Payload { base: Base::Network, offset: 16, length: 4 };
pub(super) const SOURCE6: Field = Field::Payload { base: Base::Network, offset: 8, length: 16 };
pub(super) const DESTINATION6: Field = Field::Payload { base: Base::Network, offset: 24, length: 16 };
pub(super) const PORT: Field = Field::Payload { base: Base::Transport, offset: 2, length: 2 };
pub(super) const TYPE: Field = Field::Payload { base: Base::Transport, offset: 0, length: 1 };
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// A table in the making.
pub(super) struct Draft(pub(super) Table);

impl Draft {
    pub(super) fn new() -> Draft {
        Draft(Table::new(TableFamily::Inet, NAME))
    }

    pub(super) fn set(
        &mut self,
        name: &str,
        key: &[KeyPart],
        purpose: SetPurpose,
        size: u32,
    ) -> &mut Elements {
        let kind = SetKind { key: key.into(), purpose, size };
        let set = Set { kind, elements: Elements::new() };
        &mut self.0.sets.entry(name.into()).or_insert(set).elements
    }

    pub(super) fn chain(&mut self, name: &str, rules: Vec<Rule>) {
        self.0.chains.insert(name.into(), Chain { base: None, rules });
    }

    pub(super) fn base(&mut self, name: &str, point: HookPoint, priority: i32, rules: Vec<Rule>) {
        self.0.chains.insert(name.into(), Chain { base: Some(Hook { point, priority }), rules });
    }
}

pub(super) fn octets(address: &str) -> Vec<u8> {
    match address.parse().expect("an address") {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An element of addresses, one behind the other: a range, or a key of two parts.
pub(super) fn addresses(all: &[&str]) -> Box<[u8]> {
    all.iter().flat_map(|address| octets(address)).collect()
}

pub(super) fn address_port(address: &str, protocol: u8, port: u16) -> Box<[u8]> {
    let [high, low] = port.to_be_bytes();
    [octets(address), vec![protocol, 0, 0, 0, high, low, 0, 0]].concat().into()
}

pub(super) fn ipv4() -> Rule {
    Rule::when().is(NFPROTO, &[NFPROTO_IPV4])
}

pub(super) fn ipv6() -> Rule {
    Rule::when().is(NFPROTO, &[NFPROTO_IPV6])
}

pub(super) fn protocol(number: u8) -> Rule {
    Rule::when().is(PROTOCOL, &[number])
}

pub(super) fn device(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    padded
}

/// The rules that reject TCP, to a Service and else, and then this one.
pub(super) fn refusal(of_others: Rule) -> Vec<Rule> {
    let dialled = Rule::when()
        .is(Field::Meta(Meta::InputName), &device("cni0"))
        .is(PROTOCOL, &[TCP])
        .any_bit(Field::Connection(ConnectionFact::Status), status::DESTINATION_TRANSLATED);
    vec![dialled.reject(RejectWith::PortUnreachable), protocol(TCP).reject(RejectWith::TcpReset), of_others]
}
