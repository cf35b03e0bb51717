//! During changes: the agent dies and restarts, ports are renamed, moved and reused, and one belongs to no pod.

use crate::hosts::FrameHost;
use crate::setup::{BypassTest, Mode};
use crate::sources;
use crate::way::Privilege::NetRaw;
use crate::way::*;
use bridgewarden::model::PodKey;
use bridgewarden::testbed::PodPlacement;
use std::time::Instant;
use support::field::{BACKENDS, DEADLINE};
use support::frame::*;

/// The port of a pod.
fn port_of(test: &BypassTest, pod: &str) -> String {
    let mac = test.hosts.get(pod).mac.map(|octet| format!("{octet:02x}")).join(":");
    let table = test.shell("node-a", "bridge fdb show br cni0");
    let line =
        table.lines().find(|line| line.starts_with(&mac)).unwrap_or_else(|| panic!("no {mac} in {table}"));
    line.split_whitespace().nth(2).expect("a device").to_owned()
}

fn closed(test: &mut BypassTest, when: &str) {
    let differing = test.differing(&sources::ways());
    assert!(differing.is_empty(), "{when}:\n{}", differing.join("\n"));
}

/// A change of a port is seen by the agent a moment later than by the kernel: waits for that.
fn closes(test: &mut BypassTest, when: &str) {
    let forged = [by_ip(NetRaw, "UDP from an allowed pod", |shot| {
        shot.frame(&shot.udp(shot.of("friend"), shot.theirs()))
    })
    .sent("mallory", "in", "---")];
    let honest = [by_ip(NetRaw, "UDP", |shot| shot.frame(&shot.datagram())).sent("mallory", "free", "+++")];
    let start = Instant::now();
    loop {
        let differing = [test.differing(&forged), test.differing(&honest)].concat();
        if differing.is_empty() {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{when}: {differing:?}\n{}", test.field.log());
    }
    closed(test, when);
}

fn nothing_opens(backend: &'static str) {
    let mut test = BypassTest::build("change", backend, Mode::Ports, &[]);
    closed(&mut test, "at first");
    test.field.stop(true);
    closed(&mut test, "while no agent runs");
    test.launch();
    while !["node-a", "node-b"].iter().all(|node| test.field.is_ready(node)) {
        closed(&mut test, "while the agent starts");
    }
    closed(&mut test, "with the agent back");

    let port = port_of(&test, "mallory");
    test.shell(
        "node-a",
        &format!("ip link set {port} down; ip link set {port} name other0; ip link set other0 up"),
    );
    closes(&mut test, "with a port renamed");
    test.shell(
        "node-a",
        &format!("ip link set other0 down; ip link set other0 name {port}; ip link set {port} up"),
    );
    closes(&mut test, "with its name back");
    test.shell("node-a", &format!("ip link set {port} nomaster; ip link set {port} master cni0"));
    closes(&mut test, "with a port off the bridge and back");

    stray(&mut test);
    again(&mut test);
}

/// A port that no CNI result names.
fn stray(test: &mut BypassTest) {
    let namespace = test.hosts.get("mallory").namespace.clone();
    test.shell(
        "node-a",
        &format!("ip link add stray0 master cni0 up type veth peer name eth1 netns {}", namespace.name()),
    );
    test.shell("mallory", "ip link set eth1 up; ip addr add fe80::77/64 dev eth1");
    let mallory = test.hosts.get("mallory");
    let unassigned =
        ["10.244.1.98".parse().expect("an address"), "fd00:10:244:1::98".parse().expect("an address")];
    let node = mallory.node;
    let stray = FrameHost::open("stray", node, &namespace, "eth1", unassigned);
    test.hosts.join(stray);
    let from = |name: &'static str| {
        by_ip(NetRaw, format!("UDP from a stray port under the name of {name}"), move |shot| {
            shot.frame(&shot.udp(shot.of(name), shot.theirs()))
        })
        .sent("stray", "in", "---")
        .sent("stray", "free", "---")
        .sent("stray", "far-free", "---")
    };
    let mut ways: Vec<Way> =
        ["stray", "mallory", "friend", "node-a", "in", "out", "far-friend"].map(from).into();
    for kind in [0x88b5, VLAN] {
        ways.push(
            by_ipv4(NetRaw, format!("a frame of type {kind:#x} from a stray port"), move |shot| {
                ethernet(shot.to.mac, shot.from.mac, kind, &[&[0; 40][..], &shot.token].concat())
            })
            .sent("stray", "free", "---"),
        );
    }
    ways.push(
        by_ipv4(NetRaw, "ARP from a stray port: an allowed pod is here", |shot| {
            let claim = arp(2, (shot.from.mac, shot.hosts.get("friend").v4), (shot.to.mac, shot.to.v4));
            ethernet(shot.to.mac, shot.from.mac, ARP, &claim)
        })
        .sent("stray", "in", "---")
        .sent("stray", "free", "---"),
    );
    let start = Instant::now();
    loop {
        let differing = test.differing(&ways);
        if differing.is_empty() {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "a stray port:\n{}", differing.join("\n"));
    }
    test.hosts.leave("stray");
    test.shell("node-a", "ip link del stray0");
}

/// A pod made again under its name, behind another port.
fn again(test: &mut BypassTest) {
    let key = PodKey::new("shop", "mallory");
    let place: PodPlacement =
        test.field.testbed.pods().find(|place| place.pod == key).expect("a pod").clone();
    test.hosts.leave("mallory");
    test.field.testbed.remove_pod(&key).expect("the pod goes");
    test.field.testbed.add_pod(&place).expect("the pod comes back");
    let namespace = test.field.testbed.pod_namespace(&key).expect("a pod").clone();
    let addresses = [place.addresses[0], place.addresses[1]];
    let mallory = FrameHost::open("mallory", "node-a", &namespace, "eth0", addresses);
    test.hosts.join(mallory);
    test.introduce();
    closes(test, "with a pod made again");
}

#[test]
fn nothing_opens_while_things_change_on_iptables_nft() {
    nothing_opens(BACKENDS[0]);
}

#[test]
fn nothing_opens_while_things_change_on_iptables_legacy() {
    nothing_opens(BACKENDS[1]);
}

#[test]
fn nothing_opens_while_things_change_on_nftables() {
    nothing_opens(BACKENDS[2]);
}
