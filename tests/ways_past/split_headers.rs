//! IPv6 fragments that end before the header that says what the packet is: Netfilter puts them together behind the bridge's rules.

use crate::connections::{OpenConnection, error};
use crate::way::Privilege::NetRaw;
use crate::way::*;
use bridgewarden::net::Family;
use std::net::Ipv6Addr;
use support::frame::*;

/// A message of ICMPv6 behind two headers of options, the first of which is a fragment of its own.
fn behind_two_options(shot: &Shot, source: Ipv6Addr, to: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<Bytes> {
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let rest = [&options(ICMPV6), message].concat();
    let pieces: [(u16, &[u8]); 2] = [(1, &options(DESTINATION_OPTIONS)), (8, &rest)];
    let frame = |(offset, piece): (u16, &[u8])| {
        let header = [&[DESTINATION_OPTIONS, 0][..], &offset.to_be_bytes(), &shot.token[4..]].concat();
        let packet = ipv6(source, to, FRAGMENT, hops, &[&header[..], piece].concat());
        ethernet(shot.next_hop(), shot.from.mac, IPV6, &packet)
    };
    pieces.map(frame).into()
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
        // By addresses alone, what finds neighbours passes, as do reports of groups.
        ways.push(match kind {
            133 | 135 | 136 => way.past_isolation("--!"),
            143 => way.excused(true),
            _ => way.past_isolation("---"),
        });
    }
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
            .sent("mallory", "in", "--!"),
        );
    }
    ways
}
