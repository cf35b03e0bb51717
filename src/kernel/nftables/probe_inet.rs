//! Whether this kernel has what the table of family inet needs: tried, not concluded from its version.

use super::Nftables;
use crate::apply::KernelError;
use crate::netfilter::nftables::{
    Base, Batch, Chain, ConnectionFact, Elements, Field, Hook, HookPoint, KeyPart, Meta, RejectWith, Rule,
    Set, SetKind, SetPurpose, Statement, Table, TableFamily, Verdict, state,
};

/// The scratch table. No packet is treated otherwise by it.
const SCRATCH: &str = "bridgewarden-preflight";

/// Tries a table with every kind of statement and set, and removes it.
///
/// # Errors
/// The kernel does not take it, and why.
pub(in crate::kernel) fn probe_inet(nftables: &mut Nftables) -> Result<(), KernelError> {
    nftables.try_out(&Batch::replacing(&table()))
}

fn table() -> Table {
    let mut table = Table::new(TableFamily::Inet, SCRATCH);
    let mut set = |name: &str, key: &[KeyPart], purpose, size| {
        let kind = SetKind { key: key.into(), purpose, size };
        table.sets.insert(name.into(), Set { kind, elements: Elements::new() });
    };
    set("map", &[KeyPart::Ipv4], SetPurpose::VerdictMap, 0);
    set("set", &[KeyPart::Ipv6, KeyPart::Protocol, KeyPart::Service], SetPurpose::Set, 0);
    set("ranges", &[KeyPart::Ipv4], SetPurpose::Intervals, 0);
    set("limit", &[KeyPart::Ipv4], SetPurpose::Dynamic { timeout_ms: 1000 }, 8);
    table.counters.insert("counter".into());
    let payload = |base, offset, length| Field::Payload { base, offset, length };
    let (source4, destination6) = (payload(Base::Network, 12, 4), payload(Base::Network, 24, 16));
    let (protocol, port) = (Field::Meta(Meta::TransportProtocol), payload(Base::Transport, 2, 2));
    let limit = Statement::Limit { fields: vec![source4], set: "limit".into(), per_second: 1, burst: 1 };
    // No packet mark has all bits, so none of these is reached; the kernel checks them all the same.
    let never = || Rule::when().is(Field::Meta(Meta::Mark), &[0xff; 4]);
    let rules = vec![
        never().any_bit(Field::Connection(ConnectionFact::State), state::ESTABLISHED).accept(),
        never()
            .any_bit(Field::Connection(ConnectionFact::Status), 1)
            .any_bit(Field::Connection(ConnectionFact::Mark), 1),
        never().is(Field::SourceAddressType, &[0; 4]).is(Field::Meta(Meta::InputName), &[0; 16]),
        never().within(&[destination6, protocol, port], "set").within(&[source4], "ranges"),
        never().between(port, &[0, 1], &[0, 2]).count_in("counter").accept().comment("preflight"),
        never().and(limit).and(Statement::Log { group: 1, prefix: SCRATCH.into() }),
        never().is(protocol, &[6]).reject(RejectWith::TcpReset),
        never().reject(RejectWith::PortUnreachable),
        never().verdict_of(&[source4], "map"),
    ];
    table.chains.insert("shared".into(), Chain { base: None, rules });
    for (name, point) in
        [("input", HookPoint::Input), ("forward", HookPoint::Forward), ("output", HookPoint::Output)]
    {
        let base = Some(Hook { point, priority: -10 });
        let rules = vec![Rule::verdict(Verdict::Jump("shared".into()))];
        table.chains.insert(name.into(), Chain { base, rules });
    }
    table
}
