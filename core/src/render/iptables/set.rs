//! Shared sets as ipsets.

use crate::compile::{Member, Plan, SetDefinition};
use crate::model::{Block, Cluster, Direction};
use crate::net::{Family, IpNet};
use crate::netfilter::ipset::{Element, Kind, Set, Type};
use crate::netfilter::{DesiredSet, Role, SetName};
use crate::render::{isolated_set, local_set};
use std::collections::BTreeSet;

pub(super) fn kind(definition: &SetDefinition, family: Family) -> Kind {
    let of = match definition {
        SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) => Type::HashIp,
        SetDefinition::NamedPort { .. } => Type::HashIpPort,
        SetDefinition::Blocks(_) => Type::HashNet,
    };
    Kind { of, family }
}

pub(super) fn element(member: Member) -> Element {
    match member {
        Member::Address(address) => Element::Address(address),
        Member::Port(address, protocol, port) => Element::AddressPort(address, protocol, port),
    }
}

/// The complete desired state of a shared set, in one family.
pub(super) fn whole(
    cluster: &Cluster,
    plan: &Plan,
    definition: &SetDefinition,
    family: Family,
) -> DesiredSet {
    let elements = match definition {
        SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) | SetDefinition::NamedPort { .. } => {
            let members = plan.members(cluster, definition).into_iter();
            members.filter(|member| Family::of(member.address()) == family).map(element).collect()
        }
        SetDefinition::Blocks(blocks) => {
            let blocks = blocks.iter().filter(|block| Family::of_net(block.cidr) == family);
            blocks.flat_map(block_elements).collect()
        }
    };
    DesiredSet { set: Set { kind: kind(definition, family), elements }, role: Role::Allows }
}

/// The isolated addresses of a direction and family.
pub(super) fn isolated(plan: &Plan, direction: Direction, family: Family) -> (SetName, DesiredSet) {
    let addresses = plan.isolated(direction).map(|(address, _)| address);
    let elements = addresses.filter(|address| Family::of(*address) == family).map(Element::Address).collect();
    let set = Set { kind: isolated_kind(family), elements };
    (isolated_set(direction, family), DesiredSet { set, role: Role::Isolates })
}

/// The addresses of this node's pods in a family.
pub(super) fn local(plan: &Plan, family: Family) -> (SetName, DesiredSet) {
    let own = plan.local().filter(|address| Family::of(*address) == family);
    let set = Set { kind: isolated_kind(family), elements: own.map(Element::Address).collect() };
    (local_set(family), DesiredSet { set, role: Role::Opens })
}

pub(super) fn isolated_kind(family: Family) -> Kind {
    Kind { of: Type::HashIp, family }
}

fn block_elements(block: &Block) -> Vec<Element> {
    let except: BTreeSet<IpNet> = block.except.iter().copied().collect();
    let cidr = halves(block.cidr).into_iter().filter(|half| !except.contains(half));
    let matching = cidr.map(|net| Element::Net { net, nomatch: false });
    matching.chain(except.iter().map(|&net| Element::Net { net, nomatch: true })).collect()
}

/// A prefix for `hash:net`. The kernel has no prefix of 0 bits, so `0.0.0.0/0` and `::/0` become two halves.
fn halves(net: IpNet) -> Vec<IpNet> {
    if net.prefix_len() > 0 {
        return vec![net];
    }
    net.subnets(1).map_or_else(|_| vec![net], Iterator::collect)
}
