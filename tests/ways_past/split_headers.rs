//! IPv6 fragments that end before the header that tells what the packet is: Netfilter puts them together behind the bridge's rules.

use crate::connections::{OpenConnection, error};
use crate::discovery::fragments;
use crate::way::Privilege::NetRaw;
use crate::way::*;
use bridgewarden::net::Family;
use std::net::Ipv6Addr;
use support::frame::*;

/// The octets of the first fragment: one header of options, which is as long as any of these packets' rest.
const FIRST: usize = 512;

/// A message of ICMPv6 behind two headers of options, the first of which is a fragment of its own.
fn behind_two_options(shot: &Shot, source: Ipv6Addr, to: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<Bytes> {
    let options = |next: u8, length: usize| {
        // Options of padding (RFC 8200: PadN) have at most 257 octets.
        let mut header = vec![next, u8::try_from(length / 8 - 1).expect("a length")];
        while header.len() < length {
            let pad = (length - header.len()).min(200);
            header.extend([1, u8::try_from(pad - 2).expect("a length")]);
            header.extend(vec![0; pad - 2]);
        }
        header
    };
    let whole = [&options(DESTINATION_OPTIONS, FIRST)[..], &options(ICMPV6, 8), message].concat();
    fragments(shot, source, to, DESTINATION_OPTIONS, hops, &whole, FIRST)
}

pub(crate) fn ways(connections: &[OpenConnection; 2]) -> Vec<Way> {
    let [client, server] = connections[1].known.ports;
    let mut ways = Vec::new();
    for (kind, hops) in
        [(133, 255), (134, 255), (135, 255), (136, 255), (137, 255), (130, 1), (143, 1), (128, 64)]
    {
        let way = by_frames(
            NetRaw,
            format!("ICMPv6 {kind} behind two headers of options, in two fragments"),
            &[Family::V6],
            move |shot| {
                let (source, to) = (shot.from.v6, shot.to.v6);
                let body = [&[0; 4][..], &to.octets(), &shot.token, &[0; 40], &shot.token].concat();
                behind_two_options(shot, source, to, hops, &icmpv6(source, to, [kind, 0], &body))
            },
        );
        ways.push(way.past_isolation("---"));
    }
    ways.push(
        by_frames(
            NetRaw,
            "advertisement of the gateway's address behind two headers of options, in two fragments",
            &[Family::V6],
            |shot| {
                let (source, to) = (shot.from.v6, shot.to.v6);
                let body = neighbour(0x20, shot.node().v6, 2, shot.from.mac);
                behind_two_options(shot, source, to, 255, &icmpv6(source, to, [136, 0], &body))
            },
        )
        .past_isolation("---")
        .among_free("---")
        .sent("mallory", "node-a", "---"),
    );
    for kind in [[1, 0], [2, 0], [3, 0], [4, 0]] {
        ways.push(
            by_frames(
                NetRaw,
                format!("error {kind:?} about a connection of others behind two headers of options, in two fragments"),
                &[Family::V6],
                move |shot| {
                    let quoted = [shot.theirs(), shot.of("friend")];
                    let message = error(shot, kind, shot.own(), quoted, [server, client]);
                    behind_two_options(shot, shot.from.v6, shot.to.v6, 64, &message)
                },
            )
            .sent("mallory", "in", "-!!"),
        );
    }
    ways
}
