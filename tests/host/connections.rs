//! Connections: listed, and forgotten one by one.

use super::{address, in_namespace, run};
use bridgewarden::apply::{Connection, Conntrack, PacketFilter};
use bridgewarden::kernel::Host;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::iptables::Variant;
use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

fn watch_connections() {
    run("ip link set lo up
         ip address add 10.0.0.1/8 dev lo
         ip -6 address add 2001:db8::1/64 dev lo nodad
         iptables-nft -A OUTPUT -m conntrack --ctstate NEW
         ip6tables-nft -A OUTPUT -m conntrack --ctstate NEW");
}

fn here() -> BTreeSet<IpAddr> {
    BTreeSet::from([IpAddr::from([10, 0, 0, 1])])
}

#[test]
fn connection_of_either_family_is_listed_and_forgotten_alone() {
    in_namespace(|| {
        watch_connections();
        let mut host = Host::new(Variant::Nft).expect("a host");
        for family in Family::BOTH {
            let here = address(family, 1);
            let server = UdpSocket::bind((here, 0)).expect("a server");
            let clients = [(); 2].map(|()| UdpSocket::bind((here, 0)).expect("a client"));
            let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
            for client in &clients {
                client.send_to(b"x", (here, port(&server))).expect("sent");
            }
            let dialled = |host: &mut Host| {
                let mut found = host.connections_of(&BTreeSet::from([here])).expect("listed");
                found.retain(|connection| connection.dialled_port == port(&server));
                found
            };
            let found = dialled(&mut host);
            assert_eq!(found.len(), 2, "{found:?}");
            let elsewhere = BTreeSet::from([address(family, 2)]);
            assert_eq!(host.connections_of(&elsewhere).expect("listed"), []);
            let first = found.iter().find(|known| known.source_port == port(&clients[0])).expect("listed");
            assert_eq!(first.protocol, Protocol::Udp.number());
            assert_eq!([first.source, first.dialled, first.destination], [here; 3]);
            assert_eq!(first.destination_port, port(&server));

            let empty = Connection { tuple: Vec::new(), ..first.clone() };
            host.delete(&empty).expect_err("without a tuple it would mean all of them");
            assert_eq!(dialled(&mut host).len(), 2);

            host.delete(first).expect("deleted");
            let left = dialled(&mut host);
            assert_eq!(left.iter().map(|known| known.source_port).collect::<Vec<_>>(), [port(&clients[1])]);
            host.delete(first).expect("it is gone already");
        }
        assert_eq!(host.tally().cut, 2);
    });
}

/// Our bit and no other, and the connection is the same one all the while.
#[test]
fn connection_is_marked_and_unmarked_and_keeps_the_marks_of_others() {
    in_namespace(|| {
        watch_connections();
        run("iptables-nft -t mangle -A OUTPUT -p tcp --dport 8080 -j CONNMARK --set-xmark 0x4001/0xffff");
        let _server = TcpListener::bind("10.0.0.1:8080").expect("a server");
        let _client = TcpStream::connect("10.0.0.1:8080").expect("connected");
        let mut host = Host::new(Variant::Nft).expect("a host");
        let known = |host: &mut Host| {
            let found = host.connections_of(&here()).expect("listed");
            found.into_iter().find(|known| known.dialled_port == 8080).expect("listed")
        };
        let before = known(&mut host);
        assert_eq!(before.mark, 0x4001);
        host.set_mark(&before, 0x10000).expect("marked");
        let marked = known(&mut host);
        assert_eq!((marked.mark, &marked.tuple), (0x14001, &before.tuple));
        host.set_mark(&before, 0x10000).expect("again");
        host.clear_mark(&marked, 0x10000).expect("unmarked");
        assert_eq!(known(&mut host), before);
        host.clear_mark(&before, 0x10000).expect("it has no mark");
        assert_eq!(known(&mut host), before);
        host.delete(&before).expect("deleted");
        host.clear_mark(&before, 0x10000).expect("it is gone already");
    });
}

#[test]
fn connection_through_a_service_names_the_service_and_who_answers() {
    in_namespace(|| {
        watch_connections();
        run("iptables-nft -t nat -A OUTPUT -p tcp -d 10.96.0.10 --dport 80 -j DNAT --to 10.0.0.1:8080");
        let _server = TcpListener::bind("10.0.0.1:8080").expect("a server");
        let client = TcpStream::connect("10.96.0.10:80").expect("connected");
        let mut host = Host::new(Variant::Nft).expect("a host");
        let found = host.connections_of(&here()).expect("listed");
        let connection = found.iter().find(|known| known.dialled_port == 80).expect("listed");
        assert_eq!(connection.protocol, Protocol::Tcp.number());
        assert_eq!(connection.source_port, client.local_addr().expect("an address").port());
        assert_eq!(connection.dialled, IpAddr::from([10, 96, 0, 10]));
        assert_eq!((connection.destination, connection.destination_port), ([10, 0, 0, 1].into(), 8080));
        host.delete(connection).expect("deleted");
        let left = host.connections_of(&here()).expect("listed");
        assert!(left.iter().all(|known| known.dialled_port != 80), "{left:?}");
    });
}

#[test]
fn connection_in_a_zone_is_forgotten_too() {
    in_namespace(|| {
        watch_connections();
        run("iptables-nft -t raw -A OUTPUT -p udp --dport 7 -j CT --zone 9
             iptables-nft -t raw -A PREROUTING -p udp --dport 7 -j CT --zone 9
             iptables-nft -t raw -A OUTPUT -p udp --dport 8 -j CT --zone-orig 9");
        let socket = UdpSocket::bind("10.0.0.1:0").expect("a socket");
        let mut host = Host::new(Variant::Nft).expect("a host");
        for port in [7, 8] {
            socket.send_to(b"x", ("10.0.0.1", port)).expect("sent");
        }
        for port in [7, 8] {
            let known = |host: &mut Host| {
                let mut found = host.connections_of(&here()).expect("listed");
                found.retain(|connection| connection.dialled_port == port);
                found
            };
            let found = known(&mut host);
            assert!(!found.is_empty());
            for connection in &found {
                host.delete(connection).expect("deleted");
            }
            assert_eq!(known(&mut host), [], "port {port}");
        }
    });
}

#[test]
fn twenty_thousand_connections_are_listed() {
    in_namespace(|| {
        watch_connections();
        let socket = UdpSocket::bind("10.0.0.1:0").expect("a socket");
        for port in 1..=20_000 {
            // An ICMP answer to an earlier datagram is reported to a later one.
            while socket.send_to(b"x", ("10.0.0.1", port)).is_err() {}
        }
        let mut host = Host::new(Variant::Nft).expect("a host");
        let begun = Instant::now();
        let found = host.connections_of(&here()).expect("listed");
        let listing = begun.elapsed();
        let udp = found.iter().filter(|known| known.protocol == Protocol::Udp.number());
        assert_eq!(udp.count(), 20_000);
        let begun = Instant::now();
        for connection in &found {
            host.delete(connection).expect("deleted");
        }
        println!(
            "20,000 connections: listed in {listing:?}, forgotten in {:?} each",
            begun.elapsed() / 20_000
        );
        assert_eq!(host.connections_of(&here()).expect("listed"), []);
    });
}
