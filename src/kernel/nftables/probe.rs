//! Tries whether this kernel accepts what our tables need, instead of deriving it from the version.

use super::Nftables;
use crate::apply::KernelError;
use crate::netfilter::nftables::{
    Base, Batch, Chain, ConnectionFact, Elements, Field, Hook, HookPoint, KeyPart, Meta, RejectWith, Rule,
    Set, SetKind, SetPurpose, Statement, Table, TableFamily, Verdict, state,
};

/// The temporary table. It affects no frame or packet.
pub(super) const SCRATCH: &str = "bridgewarden-preflight";
/// The size of its dynamic sets.
const SIZE: u32 = 8;
const DYNAMIC: SetPurpose = SetPurpose::Dynamic { timeout_ms: 1000 };

/// Tries what binds pods to ports: a table of family bridge with every kind of statement and set of ours, and one of family inet that
/// sees Ethernet addresses.
///
/// # Errors
/// The kernel does not take one of them, and why.
pub(in crate::kernel) fn probe_binding(nftables: &Nftables) -> Result<(), KernelError> {
    let mut input = Table::new(TableFamily::Inet, SCRATCH);
    let base = Some(Hook { point: HookPoint::Input, priority: -300 });
    let rules = vec![never().is(payload(Base::Link, 0, 6), &[0; 6]).drop()];
    input.chains.insert("input".into(), Chain { base, rules });
    probe(nftables, TableFamily::Bridge)?;
    nftables.try_out(&Batch::replacing(&input))
}

/// Tries a table with every kind of statement and set that our table of this family has, and removes it.
///
/// Uses a socket that stays open, because a program that closes one waits until the kernel has freed what was removed
/// (23 ms).
///
/// # Errors
/// The reason why the kernel does not accept it.
pub(in crate::kernel) fn probe(nftables: &Nftables, family: TableFamily) -> Result<(), KernelError> {
    let table = match family {
        TableFamily::Bridge => bridge(),
        TableFamily::Inet => inet(),
    };
    nftables.try_out(&Batch::replacing(&table))
}

fn bridge() -> Table {
    let sets: [(&str, &[KeyPart], _, _); 3] = [
        ("map", &[KeyPart::Interface], SetPurpose::VerdictMap, SIZE),
        ("set", &[KeyPart::Interface, KeyPart::Ipv6], SetPurpose::Set, SIZE),
        ("limit", &[KeyPart::Interface], DYNAMIC, SIZE),
    ];
    let (from, to) = (Field::Meta(Meta::InputIndex), Field::Meta(Meta::OutputIndex));
    let rules = vec![
        never()
            .is(payload(Base::Link, 12, 2), &[0x08, 0x06])
            .masked(payload(Base::Network, 24, 2), &[0xff, 0xc0], &[0xfe, 0x80])
            .is_not(payload(Base::Transport, 0, 1), &[136])
            .within(&[from, payload(Base::Network, 8, 16)], "set")
            .at_most(Field::Meta(Meta::Length), &[0, 0, 0, 46])
            .is(Field::Meta(Meta::TransportProtocol), &[58])
            .is(Field::Meta(Meta::PacketType), &[1])
            .and(Statement::SetMark(1)),
        never().and(Statement::Counter),
        limited(from),
        never().verdict_of(&[to], "map"),
    ];
    let points =
        [("prerouting", HookPoint::Prerouting), ("input", HookPoint::Input), ("forward", HookPoint::Forward)];
    table(TableFamily::Bridge, &sets, rules, points, -300)
}

fn inet() -> Table {
    let sets: [(&str, &[KeyPart], _, _); 4] = [
        ("map", &[KeyPart::Ipv4], SetPurpose::VerdictMap, 0),
        ("set", &[KeyPart::Ipv6, KeyPart::Protocol, KeyPart::Service], SetPurpose::Set, 0),
        ("ranges", &[KeyPart::Ipv4], SetPurpose::Intervals, 0),
        ("limit", &[KeyPart::Ipv4], DYNAMIC, SIZE),
    ];
    let (source4, destination6) = (payload(Base::Network, 12, 4), payload(Base::Network, 24, 16));
    let (protocol, port) = (Field::Meta(Meta::TransportProtocol), payload(Base::Transport, 2, 2));
    let connection = Field::Connection;
    let rules = vec![
        never().any_bit(connection(ConnectionFact::State), state::ESTABLISHED).accept(),
        never().any_bit(connection(ConnectionFact::Status), 1).any_bit(connection(ConnectionFact::Mark), 1),
        never().is(Field::SourceAddressType, &[0; 4]).is(Field::Meta(Meta::InputName), &[0; 16]),
        never().within(&[destination6, protocol, port], "set").within(&[source4], "ranges"),
        never().between(port, &[0, 1], &[0, 2]).count_in("counter").accept().comment("preflight"),
        limited(source4),
        never().is(protocol, &[6]).reject(RejectWith::TcpReset),
        never().reject(RejectWith::PortUnreachable),
        never().verdict_of(&[source4], "map"),
    ];
    let points =
        [("input", HookPoint::Input), ("forward", HookPoint::Forward), ("output", HookPoint::Output)];
    let mut table = table(TableFamily::Inet, &sets, rules, points, -10);
    table.counters.insert("counter".into());
    table
}

/// A table whose base chains jump to these rules.
fn table(
    family: TableFamily,
    sets: &[(&str, &[KeyPart], SetPurpose, u32)],
    rules: Vec<Rule>,
    points: [(&str, HookPoint); 3],
    priority: i32,
) -> Table {
    let mut table = Table::new(family, SCRATCH);
    for (name, key, purpose, size) in sets {
        let kind = SetKind { key: key.to_vec(), purpose: *purpose, size: *size };
        table.sets.insert((*name).into(), Set { kind, elements: Elements::new() });
    }
    table.chains.insert("shared".into(), Chain { base: None, rules });
    for (name, point) in points {
        let rules = vec![Rule::verdict(Verdict::Jump("shared".into()))];
        table.chains.insert(name.into(), Chain { base: Some(Hook { point, priority }), rules });
    }
    table
}

/// A condition that never holds, as no packet mark has all bits, so that the rules after it are not evaluated. The
/// kernel still checks them.
fn never() -> Rule {
    Rule::when().is(Field::Meta(Meta::Mark), &[0xff; 4])
}

fn limited(field: Field) -> Rule {
    let limit = Statement::Limit { fields: vec![field], set: "limit".into(), per_second: 1, burst: 1 };
    never().and(limit).and(Statement::Log { group: 1, prefix: SCRATCH.into() })
}

fn payload(base: Base, offset: u8, length: u8) -> Field {
    Field::Payload { base, offset, length }
}
