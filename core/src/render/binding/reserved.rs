//! The table that drops IP packets in frames to addresses that bridges keep for themselves.
//!
//! A bridge delivers some of these frames to its port's own device, and calls no hook of family bridge (br_handle_frame: always those for
//! LLDP, 01:80:c2:00:00:0e; those for the spanning tree where it takes part in one). IP takes them for packets of that device. It
//! neither forwards them nor takes TCP from them, so the hook for packets to the host sees all that is left. Nothing of IP is sent to
//! such an address.

use super::Choices;
use super::fields::{Asks, ETHER_DESTINATION};
use super::fixed::{PRIORITY, REPORTED, RESERVED, RESERVED_ADDRESSES, drops, plain, reported};
use crate::compile::UnknownPods;
use crate::netfilter::nftables::{Chain, Elements, Hook, HookPoint, Rule, Set, Table, TableFamily};
use crate::ownership::{DENIED_RESERVED, RESERVED_TABLE};
use crate::render::Options;

/// The whole table of family inet.
pub fn reserved_table(options: &Options) -> Table {
    let choices = Choices::new(options, UnknownPods::Reject);
    let mut table = Table::new(TableFamily::Inet, RESERVED_TABLE);
    let to_bridges =
        Rule::when().to_group().masked(ETHER_DESTINATION, &RESERVED_ADDRESSES.0, &RESERVED_ADDRESSES.1);
    let base = Some(Hook { point: HookPoint::Input, priority: PRIORITY });
    let input = Chain { base, rules: vec![to_bridges.goto(RESERVED)] };
    table.chains.insert("input".into(), input);
    table.chains.insert(RESERVED.into(), plain(drops(choices, DENIED_RESERVED)));
    table.sets.insert(REPORTED.into(), Set { kind: reported(), elements: Elements::new() });
    table
}
