//! Packets that pretend to belong to another pod's connection, and ICMP errors about one.

use crate::discovery::fragments;
use crate::setup::BypassTest;
use crate::way::Privilege::NetRaw;
use crate::way::*;
use bridgewarden::net::Family;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;
use support::field::DEADLINE;
use support::frame::*;

/// The state of a live connection, as a sniffer knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackedState {
    pub(crate) ports: [u16; 2],
    sequence: u32,
    acknowledged: u32,
}

/// A connection between two pods, open as long as this lives.
pub(crate) struct OpenConnection {
    pub(crate) known: TrackedState,
    _ends: [TcpStream; 2],
}

/// Connects one pod to another.
fn connect(test: &mut BypassTest, from: &str, to: &str, family: Family) -> OpenConnection {
    let address = SocketAddr::new(test.hosts.get(to).address(family), 8080);
    let listen = || TcpListener::bind(address).expect("the port is free");
    let listener = test.hosts.get(to).namespace.enter(listen).expect("the namespace is entered");
    let dial = || TcpStream::connect_timeout(&address, DEADLINE).expect("an allowed connection");
    let mut client = test.hosts.get(from).namespace.enter(dial).expect("the namespace is entered");
    let (server, _) = listener.accept().expect("the connection is there");
    test.drain(to);
    client.write_all(b"overheard").expect("the connection takes data");
    let port = client.local_addr().expect("a bound socket").port();
    let header = 14 + if family == Family::V4 { 20 } else { 40 };
    let start = Instant::now();
    let known = loop {
        assert!(start.elapsed() < DEADLINE, "{from} sends nothing to {to}");
        let Some(frame) = test.hosts.get_mut(to).socket.next() else { continue };
        if !frame.ends_with(b"overheard") {
            continue;
        }
        let word = |at: usize| {
            u32::from_be_bytes(frame[header + at..header + at + 4].try_into().expect("four octets"))
        };
        break TrackedState { ports: [port, 8080], sequence: word(4) + 9, acknowledged: word(8) };
    };
    OpenConnection { known, _ends: [client, server] }
}

/// A connection of each family from a trusted client to a pod that is isolated for ingress.
pub(crate) fn open(test: &mut BypassTest) -> [OpenConnection; 2] {
    Family::BOTH.map(|family| connect(test, "friend", "in", family))
}

/// Errors of a family: type and code.
fn errors(family: Family) -> &'static [[u8; 2]] {
    match family {
        Family::V4 => &[[3, 0], [3, 3], [3, 4], [4, 0], [5, 1], [11, 0], [12, 0]],
        Family::V6 => &[[1, 0], [1, 4], [2, 0], [3, 0], [4, 0]],
    }
}

/// An error's message about a packet from one to another, with the token in what it quotes.
pub(crate) fn error(
    shot: &Shot,
    kind: [u8; 2],
    source: IpAddr,
    quoted: [IpAddr; 2],
    ports: [u16; 2],
) -> Bytes {
    // No fragment's end may divide the token.
    let before: &[u8] = if quoted[0].is_ipv4() { &[] } else { &[0; 4] };
    let payload = [before, &shot.token].concat();
    let inner = ip(quoted[0], quoted[1], TCP, &tcp(quoted[0], quoted[1], ports, [1, 1], PUSH_ACK, &payload));
    let body = [&[0, 0, 5, 0][..], &inner].concat();
    match (source, quoted[0]) {
        (IpAddr::V6(source), IpAddr::V6(to)) => icmpv6(source, to, kind, &body),
        _ => icmp(kind, &body),
    }
}

fn protocol(family: Family) -> u8 {
    match family {
        Family::V4 => ICMP,
        Family::V6 => ICMPV6,
    }
}

pub(crate) fn ways(connections: &[OpenConnection; 2]) -> Vec<Way> {
    let mut ways = Vec::new();
    let known = [connections[0].known, connections[1].known];
    let of = move |shot: &Shot| known[usize::from(shot.family == Family::V6)];
    ways.push(
        by_ip(NetRaw, "data for a connection of others, as its client", move |shot| {
            as_client(shot, of(shot), PUSH_ACK)
        })
        .sent("mallory", "in", "-!!"),
    );
    ways.push(
        by_ip(NetRaw, "data for a connection of others, as its server", move |shot| {
            let TrackedState { ports: [client, server], sequence, acknowledged } = of(shot);
            let (source, to) = (shot.of("in"), shot.theirs());
            let segment = tcp(source, to, [server, client], [acknowledged, sequence], PUSH_ACK, &shot.token);
            shot.frame(&ip(source, to, TCP, &segment))
        })
        .sent("mallory", "friend", "-!!"),
    );
    for (name, flags) in [("data", PUSH_ACK), ("a reset", RST), ("an end", 0x11)] {
        ways.push(
            by_ip(NetRaw, format!("{name} with the numbers of a connection of others"), move |shot| {
                let TrackedState { ports, sequence, acknowledged } = of(shot);
                let segment =
                    tcp(shot.own(), shot.theirs(), ports, [sequence, acknowledged], flags, &shot.token);
                shot.frame(&ip(shot.own(), shot.theirs(), TCP, &segment))
            })
            .past_isolation("---")
            .routed("---"),
        );
    }
    ways.push(
        by_ip(NetRaw, "the answer to a connection that was never opened", |shot| {
            let segment = tcp(shot.own(), shot.theirs(), [80, 40_001], [1, 2], SYN_ACK, &shot.token);
            shot.frame(&ip(shot.own(), shot.theirs(), TCP, &segment))
        })
        .past_isolation("---")
        .routed("---"),
    );
    for family in [&[Family::V4], &[Family::V6]] {
        for &kind in errors(family[0]) {
            let how = format!("error {kind:?} about a connection of others");
            ways.push(
                by_frames(NetRaw, how, family, move |shot| {
                    let [client, server] = of(shot).ports;
                    let quoted = [shot.theirs(), shot.of("friend")];
                    let message = error(shot, kind, shot.own(), quoted, [server, client]);
                    vec![shot.frame(&ip(shot.own(), shot.theirs(), protocol(shot.family), &message))]
                })
                .sent("mallory", "in", "-!!")
                .sent("far-free", "in", "-!!"),
            );
            // A redirect is no answer of a server's.
            if kind[0] == 5 {
                continue;
            }
            ways.push(
                by_frames(
                    NetRaw,
                    format!("error {kind:?} about a packet to its sender"),
                    family,
                    move |shot| {
                        let [client, server] = of(shot).ports;
                        let message =
                            error(shot, kind, shot.own(), [shot.theirs(), shot.own()], [server, client]);
                        vec![shot.frame(&ip(shot.own(), shot.theirs(), protocol(shot.family), &message))]
                    },
                )
                .sent("friend", "in", "+++"),
            );
            ways.push(
                by_frames(NetRaw, format!("error {kind:?} about no connection"), family, move |shot| {
                    let message = error(shot, kind, shot.own(), [shot.theirs(), shot.own()], [9, 9]);
                    vec![shot.frame(&ip(shot.own(), shot.theirs(), protocol(shot.family), &message))]
                })
                .past_isolation("---")
                .routed("---"),
            );
        }
    }
    for first in [8_usize, 16, 32] {
        ways.push(
            by_frames(
                NetRaw,
                format!("error about a connection of others in fragments of {first} octets"),
                &[Family::V4],
                move |shot| {
                    let [client, server] = of(shot).ports;
                    let quoted = [shot.theirs(), shot.of("friend")];
                    let message = error(shot, [3, 4], shot.own(), quoted, [server, client]);
                    let [head, rest] = [&message[..first], &message[first..]];
                    let offset = u16::try_from(first / 8).expect("an offset");
                    let id = u16::from_be_bytes([shot.token[6], shot.token[7]]);
                    let piece = |fragment: u16, piece: &[u8]| {
                        let packet = Ipv4 { fragment, ..Ipv4::new(shot.from.v4, shot.to.v4, ICMP) };
                        shot.frame(&packet.identified(id, piece))
                    };
                    vec![piece(0x2000, head), piece(offset, rest)]
                },
            )
            .sent("mallory", "in", "-!!"),
        );
        ways.push(
            by_frames(
                NetRaw,
                format!("error about a connection of others in fragments of {first} octets"),
                &[Family::V6],
                move |shot| {
                    let [client, server] = of(shot).ports;
                    let quoted = [shot.theirs(), shot.of("friend")];
                    let message = error(shot, [2, 0], shot.own(), quoted, [server, client]);
                    fragments(shot, shot.from.v6, shot.to.v6, ICMPV6, 64, &message, first)
                },
            )
            .sent("mallory", "in", "-!!"),
        );
    }
    ways.push(
        by_ip(
            NetRaw,
            "error about a connection of others from its node, as a router sends it",
            move |shot| {
                let [client, server] = of(shot).ports;
                let kind = errors(shot.family)[2];
                let message =
                    error(shot, kind, shot.own(), [shot.theirs(), shot.of("friend")], [server, client]);
                shot.frame(&ip(shot.own(), shot.theirs(), protocol(shot.family), &message))
            },
        )
        .sent("node-a", "in", "+++"),
    );
    // Where it passes, the spoofed data passed before it, and nothing passes after it.
    ways.push(
        by_ip(NetRaw, "a reset for a connection of others, as its client", move |shot| {
            let known = of(shot);
            let sequence = known.sequence + u32::try_from(shot.token.len()).expect("a length");
            as_client(shot, TrackedState { sequence, ..known }, RST)
        })
        .sent("mallory", "in", "-!!"),
    );
    ways
}

fn as_client(shot: &Shot, TrackedState { ports, sequence, acknowledged }: TrackedState, flags: u8) -> Bytes {
    let (source, to) = (shot.of("friend"), shot.theirs());
    let segment = tcp(source, to, ports, [sequence, acknowledged], flags, &shot.token);
    shot.frame(&ip(source, to, TCP, &segment))
}
