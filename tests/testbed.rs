//! The testbed is a real network: these tests measure what it guarantees. Needs root, and fails without.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world fails right there")]

use bridgewarden::model::PodKey;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::testbed::{
    Endpoint, Layout, OUTSIDE, PodPlacement, Probe, ProbeOutcome, ProbeTimeouts, Push, Testbed, TestbedError,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(200);

/// A fresh id, so that tests can run side by side and next to other runs of themselves.
fn id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces and need root: run them with sudo --preserve-env=PATH"
    );
    format!("t{:x}x{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn place(node: usize, number: usize) -> PodPlacement {
    PodPlacement {
        pod: PodKey::new("shop", &format!("pod-{node}-{number}")),
        node: ["a", "b"][node].to_owned(),
        addresses: [
            format!("10.244.{node}.{}", number + 10),
            format!("fd00:10:244:{node}::{:x}", number + 10),
        ]
        .map(|address| address.parse().unwrap())
        .to_vec(),
        listens: vec![(Protocol::Tcp, 80), (Protocol::Udp, 53)],
        host_network: false,
    }
}

fn layout(pods_per_node: usize) -> Layout {
    let pods = (0..2).flat_map(|node| (0..pods_per_node).map(move |number| place(node, number)));
    Layout {
        node_listens: vec![(Protocol::Tcp, 10250), (Protocol::Udp, 10250)],
        ..Layout::new(vec!["a".to_owned(), "b".to_owned()], pods.collect())
    }
}

fn testbed(pods_per_node: usize) -> Testbed {
    Testbed::build(&id(), &layout(pods_per_node)).unwrap()
}

fn endpoint(place: &PodPlacement) -> Endpoint {
    Endpoint::Pod(place.pod.clone())
}

/// A probe of every pod by every other, both families, TCP and UDP.
fn every_pair(testbed: &Testbed) -> Vec<Probe> {
    let mut probes = Vec::new();
    for from in testbed.pods() {
        for to in testbed.pods().filter(|to| to.pod != from.pod) {
            for &address in &to.addresses {
                for &(protocol, port) in &to.listens {
                    probes.push(Probe::new(endpoint(from), address, protocol, port));
                }
            }
        }
    }
    probes
}

fn assert_all(testbed: &Testbed, probes: &[Probe], expected: &ProbeOutcome) {
    assert!(!probes.is_empty());
    let outcomes = testbed.probe_all(probes);
    let wrong: Vec<String> = probes
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| *outcome != expected)
        .map(|(probe, outcome)| {
            format!("{} to {} {} {}: {outcome}", probe.from, probe.protocol, probe.to, probe.port)
        })
        .collect();
    let shown = &wrong[..wrong.len().min(8)];
    assert!(wrong.is_empty(), "{} of {} are not {expected}: {shown:#?}", wrong.len(), probes.len());
}

/// The targets for TCP and UDP with which a packet filter stays silent or refuses. TCP gets a reset: a connect over
/// IPv6 that is refused by ICMP alone gives up only after a second.
const DROP: [&[&str]; 2] = [&["-j", "DROP"], &["-j", "DROP"]];
const REJECT: [&[&str]; 2] = [&["-j", "REJECT", "--reject-with", "tcp-reset"], &["-j", "REJECT"]];

/// A rule for TCP and one for UDP in the FORWARD chains of a node, for both families. Neighbour discovery, which
/// crosses those chains as well, is left alone.
fn forward(testbed: &Testbed, node: &str, action: &str, matching: &[&str], targets: [&[&str]; 2]) {
    for (protocol, target) in ["tcp", "udp"].into_iter().zip(targets) {
        for program in ["iptables", "ip6tables"] {
            let mut command = Command::new(program);
            command.args(["-w", action, "FORWARD", "-p", protocol]).args(matching).args(target);
            run_on(testbed, node, command);
        }
    }
}

fn run_on(testbed: &Testbed, node: &str, mut command: Command) {
    let status = testbed.node_namespace(node).unwrap().spawn(&mut command).unwrap().wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn names(prefix: &str) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return BTreeSet::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_pair_of_pods_is_open_on_and_across_nodes_in_both_families() {
    let testbed = testbed(3);
    let probes = every_pair(&testbed);
    assert_eq!(probes.len(), 6 * 5 * 2 * 2);
    assert_all(&testbed, &probes, &ProbeOutcome::Open);
}

#[test]
fn more_pods_than_the_kernel_remembers_neighbours_reach_each_other() {
    let pods = (0..36).map(|number| PodPlacement { listens: vec![(Protocol::Udp, 53)], ..place(0, number) });
    let testbed = Testbed::build(&id(), &Layout::new(vec!["a".to_owned()], pods.collect())).unwrap();
    assert_all(&testbed, &every_pair(&testbed), &ProbeOutcome::Open);
}

#[test]
fn nodes_and_the_outside_reach_pods_and_are_reached() {
    let testbed = testbed(1);
    let mut probes = Vec::new();
    let others = [Endpoint::node("a"), Endpoint::node("b"), Endpoint::Outside];
    for place in testbed.pods() {
        for &address in &place.addresses {
            probes.extend(others.iter().map(|from| Probe::new(from.clone(), address, Protocol::Tcp, 80)));
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            probes.extend(OUTSIDE.map(|address| Probe::new(endpoint(place), address, protocol, 5353)));
            for node in ["a", "b"] {
                let addresses = testbed.node_addresses(node);
                assert_eq!(addresses.len(), 4);
                probes.extend(
                    addresses
                        .into_iter()
                        .map(|address| Probe::new(endpoint(place), address, protocol, 10250)),
                );
            }
        }
        for address in OUTSIDE {
            let own = place.addresses.iter().find(|own| Family::of(**own) == Family::of(address)).unwrap();
            probes.push(Probe::new(Endpoint::Outside, *own, Protocol::Udp, 53).from_address(address));
        }
    }
    assert_all(&testbed, &probes, &ProbeOutcome::Open);
    let web = endpoint(&place(0, 0));
    assert!(OUTSIDE.iter().all(|&address| testbed.received_from(&web, address) >= 1));
}

#[test]
fn port_without_a_listener_is_refused() {
    let testbed = testbed(1);
    let probes: Vec<Probe> =
        every_pair(&testbed).into_iter().map(|probe| Probe { port: 4321, ..probe }).collect();
    assert_all(&testbed, &probes, &ProbeOutcome::Refused);
}

#[test]
fn dropped_packets_time_out() {
    let mut testbed = testbed(1);
    let timeout = Duration::from_millis(200);
    testbed.set_timeouts(ProbeTimeouts { tcp: timeout, udp: timeout, ..ProbeTimeouts::default() });
    forward(&testbed, "a", "-I", &[], DROP);
    let start = Instant::now();
    assert_all(&testbed, &every_pair(&testbed), &ProbeOutcome::Timeout);
    assert!(start.elapsed() >= timeout);
}

#[test]
fn bridged_traffic_crosses_the_packet_filter_of_its_node() {
    let testbed = testbed(2);
    let same_node = |probe: &Probe| {
        testbed.pods().any(|place| place.node == "a" && endpoint(place) == probe.from)
            && testbed.pods().any(|place| place.node == "a" && place.addresses.contains(&probe.to))
    };
    let probes: Vec<Probe> = every_pair(&testbed).into_iter().filter(same_node).collect();
    assert_eq!(probes.len(), 2 * 2 * 2);
    let bridged = ["-m", "physdev", "--physdev-is-bridged"];
    forward(&testbed, "a", "-I", &bridged, REJECT);
    assert_all(&testbed, &probes, &ProbeOutcome::Refused);
    forward(&testbed, "a", "-D", &bridged, REJECT);
    assert_all(&testbed, &probes, &ProbeOutcome::Open);
}

#[test]
fn thousand_rejected_probes_are_all_refused_without_waiting() {
    let testbed = testbed(2);
    forward(&testbed, "a", "-I", &[], REJECT);
    let from: BTreeSet<Endpoint> = testbed.pods().filter(|place| place.node == "a").map(endpoint).collect();
    let all = every_pair(&testbed).into_iter().filter(|probe| from.contains(&probe.from));
    let probes: Vec<Probe> = all.collect::<Vec<_>>().into_iter().cycle().take(1000).collect();
    assert_all(&testbed, &probes, &ProbeOutcome::Refused);
}

#[test]
fn answer_of_a_pod_that_does_not_own_the_address_is_reported() {
    let testbed = testbed(1);
    let mut steal = Command::new("iptables");
    steal.args(["-w", "-t", "nat", "-A", "PREROUTING", "-d", "10.244.1.10", "-j", "DNAT"]);
    steal.args(["--to-destination", "203.0.113.10"]);
    run_on(&testbed, "a", steal);
    let probe = Probe::new(endpoint(&place(0, 0)), "10.244.1.10".parse().unwrap(), Protocol::Tcp, 80);
    assert_eq!(testbed.probe(&probe), ProbeOutcome::AnsweredBy("outside".to_owned()));
}

#[test]
fn namespaces_are_found_by_iproute2_and_gone_afterwards_and_the_host_is_as_it_was() {
    let links = || output("ip", &["-o", "link"]);
    let routes = || output("ip", &["route"]) + &output("ip", &["-6", "route"]);
    let before = (links(), routes());
    let id = id();
    let testbed = Testbed::build(&id, &layout(1)).unwrap();
    let expected = ["router", "outside", "node-a", "node-b", "pod-shop-pod-0-0", "pod-shop-pod-1-0"];
    let prefix = format!("bw-{id}-");
    assert_eq!(names(&prefix), expected.map(|name| format!("{prefix}{name}")).into());
    let pod = format!("{prefix}pod-shop-pod-0-0");
    let addresses = output("ip", &["netns", "exec", &pod, "ip", "-o", "addr", "show", "eth0"]);
    assert!(addresses.contains("10.244.0.10/24") && addresses.contains("fd00:10:244::a/64"), "{addresses}");
    assert!(!addresses.contains("tentative"), "{addresses}");
    assert_eq!((links(), routes()), before);
    testbed.remove().unwrap();
    assert_eq!(names(&prefix), BTreeSet::new());
    assert_eq!((links(), routes()), before);
}

#[test]
fn what_is_dropped_or_fails_half_way_leaves_nothing() {
    let id = id();
    let prefix = format!("bw-{id}-");
    drop(Testbed::build(&id, &layout(1)).unwrap());
    assert_eq!(names(&prefix), BTreeSet::new());
    let mut broken = layout(1);
    for name in ["one", "two"] {
        let pod = PodKey::new("kube-system", name);
        broken.pods.push(PodPlacement { pod, host_network: true, addresses: Vec::new(), ..place(0, 0) });
    }
    let error = Testbed::build(&id, &broken).unwrap_err();
    assert!(matches!(error, TestbedError::Listen { .. }), "{error}");
    assert_eq!(names(&prefix), BTreeSet::new());
}

#[test]
fn second_testbed_of_an_id_is_rejected_and_leftovers_are_swept() {
    let id = id();
    let first = Testbed::build(&id, &layout(1)).unwrap();
    let error = Testbed::build(&id, &layout(1)).unwrap_err().to_string();
    assert!(error.contains(&format!("bw-{id}-router")), "{error}");
    assert_eq!(names(&format!("bw-{id}-")).len(), 6);
    std::mem::forget(first);
    assert_eq!(Testbed::sweep(&id).unwrap().len(), 6);
    assert!(names(&format!("bw-{id}-")).is_empty());
}

#[test]
fn pods_come_and_go_and_change_their_ports() {
    let mut testbed = testbed(1);
    let [first, second] = [place(0, 0), place(1, 0)];
    let probe = Probe::new(endpoint(&second), first.addresses[0], Protocol::Tcp, 80);
    assert_eq!(testbed.probe(&probe), ProbeOutcome::Open);

    testbed.set_listens(&first.pod, &[(Protocol::Tcp, 8080)]).unwrap();
    assert_eq!(testbed.probe(&probe), ProbeOutcome::Refused);
    assert_eq!(testbed.probe(&Probe { port: 8080, ..probe.clone() }), ProbeOutcome::Open);

    testbed.remove_pod(&first.pod).unwrap();
    assert!(testbed.add_pod(&second).is_err());
    let heir = PodPlacement { pod: PodKey::new("shop", "heir"), ..first.clone() };
    testbed.add_pod(&heir).unwrap();
    assert_eq!(testbed.probe(&probe), ProbeOutcome::Open);
    testbed.add_pod(&PodPlacement { addresses: place(0, 7).addresses, ..first }).unwrap();
    assert_all(&testbed, &every_pair(&testbed), &ProbeOutcome::Open);
}

#[test]
fn host_network_pods_answer_on_their_node() {
    let mut layout = layout(1);
    let proxy = PodPlacement {
        pod: PodKey::new("kube-system", "proxy"),
        addresses: ["192.0.2.7".parse().unwrap(), "2001:db8:1::7".parse().unwrap()].to_vec(),
        listens: vec![(Protocol::Tcp, 9100), (Protocol::Udp, 9100)],
        host_network: true,
        ..place(0, 0)
    };
    layout.pods.push(proxy.clone());
    let testbed = Testbed::build(&id(), &layout).unwrap();
    assert_all(&testbed, &every_pair(&testbed), &ProbeOutcome::Open);
    let everywhere = testbed.node_addresses("a").into_iter();
    let probes: Vec<Probe> =
        everywhere.map(|address| Probe::new(endpoint(&place(0, 0)), address, Protocol::Udp, 9100)).collect();
    assert_eq!(probes.len(), 6);
    assert_all(&testbed, &probes, &ProbeOutcome::Open);
    let remote = place(1, 0);
    assert!(proxy.addresses.iter().all(|&own| {
        let count = testbed.received_from(&endpoint(&remote), own);
        count == 1
    }));
}

#[test]
fn streams_move_until_they_are_cut() {
    let testbed = testbed(1);
    let [from, to] = [place(0, 0), place(1, 0)];
    let mut streams = Vec::new();
    for push in [Push::Client, Push::Server] {
        for &address in &to.addresses {
            for &(protocol, port) in &to.listens {
                let probe = Probe::new(endpoint(&from), address, protocol, port);
                streams.push((push, testbed.stream(&probe, push).unwrap(), probe));
            }
        }
    }
    for (push, stream, probe) in &streams {
        for _ in 0..3 {
            assert!(stream.moves_within(SOON), "{push:?} {probe:?} {:?}", stream.error());
        }
    }
    forward(&testbed, "b", "-I", &[], DROP);
    for (push, stream, probe) in &streams {
        assert!(stream.falls_silent(QUIET, SOON), "{push:?} {probe:?}");
        assert_eq!(stream.error(), None);
    }
    forward(&testbed, "b", "-D", &[], DROP);
    for (push, stream, probe) in &streams {
        assert!(stream.moves_within(SOON), "{push:?} {probe:?} {:?}", stream.error());
    }
}

#[test]
fn stream_that_is_not_let_through_cannot_be_opened() {
    let testbed = testbed(1);
    forward(&testbed, "a", "-I", &[], REJECT);
    let probe = Probe::new(endpoint(&place(0, 0)), place(1, 0).addresses[0], Protocol::Tcp, 80);
    let error = testbed.stream(&probe, Push::Client).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn spoofed_datagrams_arrive_with_their_source_unless_filtered() {
    let testbed = testbed(2);
    let [spoofer, target] = [place(0, 0), place(0, 1)];
    for (address, source) in target.addresses.iter().zip(["10.244.1.77", "fd00:10:244:1::77"]) {
        let source: IpAddr = source.parse().unwrap();
        let to = SocketAddr::new(*address, 53);
        let fence = Probe::new(endpoint(&spoofer), *address, Protocol::Udp, 53);
        testbed.spoof(&endpoint(&spoofer), source, to, b"spoofed").unwrap();
        assert_eq!(testbed.probe(&fence), ProbeOutcome::Open);
        assert_eq!(testbed.received_from(&endpoint(&target), source), 1);

        let drop = ["-s", &source.to_string(), "-j", "DROP"];
        let program = if source.is_ipv4() { "iptables" } else { "ip6tables" };
        let mut command = Command::new(program);
        command.args(["-w", "-I", "FORWARD"]).args(drop);
        run_on(&testbed, "a", command);
        testbed.spoof(&endpoint(&spoofer), source, to, b"spoofed").unwrap();
        assert_eq!(testbed.probe(&fence), ProbeOutcome::Open);
        assert_eq!(testbed.received_from(&endpoint(&target), source), 1);
    }
}

#[test]
fn unknown_senders_are_named() {
    let testbed = testbed(1);
    let probe = Probe::new(Endpoint::pod("shop", "nobody"), OUTSIDE[0], Protocol::Tcp, 80);
    assert!(matches!(testbed.probe(&probe), ProbeOutcome::Failed(reason) if reason.contains("shop/nobody")));
    assert!(testbed.node_namespace("c").is_none());
}
