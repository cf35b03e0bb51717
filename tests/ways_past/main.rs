//! Ways past a policy, as rows of tables: which pod sends which frames, and what must become of them, with real
//! packets, with each backend, by IPv4 and IPv6, bridged and routed, and in each mode of binding. Legitimate
//! traffic stands in the same tables. Needs root; everything happens in namespaces of its own.

mod carriers;
mod changes;
mod connections;
mod discovery;
mod groups;
mod headers;
mod honest;
mod hosts;
mod link_layer;
mod setup;
mod sources;
mod split_headers;
mod to_node;
mod tunnels;
mod way;

use setup::{BypassTest, Mode};
use support::field::BACKENDS;

fn table() -> Vec<way::Way> {
    let tables = [
        sources::ways(),
        discovery::ways(),
        link_layer::ways(),
        groups::ways(),
        carriers::ways(),
        headers::ways(),
        honest::ways(),
    ];
    tables.into_iter().flatten().collect()
}

fn no_way_past(backend: &'static str, mode: Mode) {
    let mut test = BypassTest::build("ways", backend, mode, &[]);
    let live = connections::open(&mut test);
    let mut differing = test.differing(&connections::ways(&live));
    differing.extend(test.differing(&split_headers::ways(&live)));
    differing.extend(test.differing(&table()));
    differing.extend(honest::conversations(&mut test).err());
    differing.extend(honest::large(&mut test).err());
    let attempts = test.attempts;
    assert!(differing.is_empty(), "{} of {attempts} attempts:\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn no_way_past_with_ports_bound_on_iptables_nft() {
    no_way_past(BACKENDS[0], Mode::Ports);
}

#[test]
fn no_way_past_with_ports_bound_on_iptables_legacy() {
    no_way_past(BACKENDS[1], Mode::Ports);
}

#[test]
fn no_way_past_with_ports_bound_on_nftables() {
    no_way_past(BACKENDS[2], Mode::Ports);
}

#[test]
fn no_way_past_with_ports_unknown_on_iptables_nft() {
    no_way_past(BACKENDS[0], Mode::Unbound);
}

#[test]
fn no_way_past_with_ports_unknown_on_iptables_legacy() {
    no_way_past(BACKENDS[1], Mode::Unbound);
}

#[test]
fn no_way_past_with_ports_unknown_on_nftables() {
    no_way_past(BACKENDS[2], Mode::Unbound);
}

#[test]
fn no_way_past_with_addresses_alone_on_iptables_nft() {
    no_way_past(BACKENDS[0], Mode::Addresses);
}

#[test]
fn no_way_past_with_addresses_alone_on_iptables_legacy() {
    no_way_past(BACKENDS[1], Mode::Addresses);
}

#[test]
fn no_way_past_with_addresses_alone_on_nftables() {
    no_way_past(BACKENDS[2], Mode::Addresses);
}
