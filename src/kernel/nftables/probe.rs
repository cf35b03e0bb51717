//! Whether this kernel takes what a table of family bridge needs: tried, not concluded from its version.

use super::Nftables;
use crate::apply::KernelError;
use crate::netfilter::nftables::{
    Base, Batch, Chain, Elements, Field, Hook, HookPoint, KeyPart, Meta, Rule, Set, SetKind, SetPurpose,
    Statement, Table, TableFamily, Verdict,
};

/// The scratch table. No frame is treated otherwise by it.
const SCRATCH: &str = "bridgewarden-preflight";

/// Tries a table with every kind of statement and set, and removes it.
///
/// Takes a socket that stays open: a program that closes one waits until the kernel has freed what was removed, 23 ms.
///
/// # Errors
/// The kernel does not take it, and why.
pub(in crate::kernel) fn probe(nftables: &mut Nftables) -> Result<(), KernelError> {
    nftables.try_out(&Batch::replacing(&table()))
}

fn table() -> Table {
    let mut table = Table::new(TableFamily::Bridge, SCRATCH);
    let mut set = |name: &str, key: &[KeyPart], purpose| {
        let kind = SetKind { key: key.into(), purpose, size: 8 };
        table.sets.insert(name.into(), Set { kind, elements: Elements::new() });
    };
    set("map", &[KeyPart::Interface], SetPurpose::VerdictMap);
    set("set", &[KeyPart::Interface, KeyPart::Ipv6], SetPurpose::Set);
    set("limit", &[KeyPart::Interface], SetPurpose::Dynamic { timeout_ms: 1000 });
    let (from, to) = (Field::Meta(Meta::InputIndex), Field::Meta(Meta::OutputIndex));
    let payload = |base, offset, length| Field::Payload { base, offset, length };
    let limit = Statement::Limit { fields: vec![from], set: "limit".into(), per_second: 1, burst: 1 };
    // No packet mark has all bits, so none of these is reached; the kernel checks them all the same.
    let never = Rule::when().is(Field::Meta(Meta::Mark), &[0xff; 4]);
    let rules = vec![
        never
            .clone()
            .is(payload(Base::Link, 12, 2), &[0x08, 0x06])
            .masked(payload(Base::Network, 24, 2), &[0xff, 0xc0], &[0xfe, 0x80])
            .is_not(payload(Base::Transport, 0, 1), &[136])
            .within(&[from, payload(Base::Network, 8, 16)], "set")
            .at_most(Field::Meta(Meta::Length), &[0, 0, 0, 46])
            .is(Field::Meta(Meta::TransportProtocol), &[58])
            .is(Field::Meta(Meta::PacketType), &[1])
            .and(Statement::SetMark(1)),
        never.clone().and(Statement::Counter),
        never.clone().and(limit).and(Statement::Log { group: 1, prefix: SCRATCH.into() }),
        never.and(Statement::VerdictOf { fields: vec![to], map: "map".into() }),
    ];
    table.chains.insert("shared".into(), Chain { base: None, rules });
    for (name, point) in
        [("prerouting", HookPoint::Prerouting), ("input", HookPoint::Input), ("forward", HookPoint::Forward)]
    {
        let base = Some(Hook { point, priority: -300 });
        let rules = vec![Rule::verdict(Verdict::Jump("shared".into()))];
        table.chains.insert(name.into(), Chain { base, rules });
    }
    table
}
