//! Connections that the kernel tracks (NFNL_SUBSYS_CTNETLINK): lists them, deletes them and changes their marks.
//!
//! Tuples are returned as addresses and ports, and as the bytes by which the kernel identifies the entry.

use super::netlink::{
    ACKNOWLEDGE, DUMP, Failure, Message, Netlink, attributes, exact, family_number, find, whole,
};
use crate::apply::{Connection, KernelError};
use crate::net::{Family, Protocol};
use nix::libc;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SUBSYSTEM: u8 = 1;
/// IPCTNL_MSG_CT_*.
const NEW: u8 = 0;
const GET: u8 = 1;
const DELETE: u8 = 2;

/// CTA_*.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const MARK: u16 = 8;
const ID: u16 = 12;
const ZONE: u16 = 18;
const MARK_MASK: u16 = 21;
/// AF_UNSPEC.
const EITHER_FAMILY: u8 = 0;
/// CTA_TUPLE_*.
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
/// CTA_IP_*.
const V4_SOURCE: u16 = 1;
const V4_DESTINATION: u16 = 2;
const V6_SOURCE: u16 = 3;
const V6_DESTINATION: u16 = 4;
/// CTA_PROTO_*.
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// A netlink socket for connections.
pub(super) struct ConntrackSocket {
    netlink: Netlink,
    /// Connections that were deleted or marked.
    pub(super) cut: u64,
    /// Requests that changed something.
    pub(super) writes: u64,
}

impl ConntrackSocket {
    /// Opens the socket.
    pub(super) fn open() -> Result<ConntrackSocket, KernelError> {
        let failed = |source| KernelError::Netlink { act: "open a socket to the kernel's conntrack", source };
        Ok(ConntrackSocket { netlink: Netlink::open().map_err(failed)?, cut: 0, writes: 0 })
    }

    /// The connections with an end at one of these addresses.
    pub(super) fn list(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, KernelError> {
        self.collect(addresses, |all: &mut Vec<Connection>, connection| all.push(connection))
    }

    /// What `take` makes of the connections with an end at one of these addresses, one by one. Requests both families at once: the
    /// kernel has them in one table, and walking through it is what takes time.
    pub(super) fn collect<T: Default>(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
        take: impl Fn(&mut T, Connection),
    ) -> Result<T, KernelError> {
        let dump = || {
            let mut all = T::default();
            let request = Message::new(SUBSYSTEM, GET, DUMP, EITHER_FAMILY);
            self.netlink.ask(request, |entry| {
                let ends = ends(entry).filter(|[original, reply]| {
                    addresses.contains(&original.source) || addresses.contains(&reply.source)
                });
                if let Some(ends) = ends {
                    take(&mut all, connection(entry, ends));
                }
            })?;
            Ok(all)
        };
        whole(dump).map_err(|failure: Failure| refused("list the connections", failure))
    }

    /// Deletes a connection. No error if it no longer exists, or if another one has its tuple.
    pub(super) fn delete(&mut self, connection: &Connection) -> Result<(), KernelError> {
        self.change("forget a connection", connection, DELETE, |_| {})
    }

    /// Sets the bits of `mark` in a connection's mark and leaves the others. No error if the connection no longer
    /// exists.
    pub(super) fn set_mark(&mut self, connection: &Connection, mark: u32) -> Result<(), KernelError> {
        // CTA_MARK_MASK: the bits that may change; the kernel keeps the others (ctnetlink_change_mark).
        self.change("mark a connection", connection, NEW, |request| {
            request.put(MARK, &mark.to_be_bytes());
            request.put(MARK_MASK, &mark.to_be_bytes());
        })
    }

    /// Clears the bits of `mark` in a connection's mark and leaves the others. No error if the connection no longer
    /// exists.
    pub(super) fn clear_mark(&mut self, connection: &Connection, mark: u32) -> Result<(), KernelError> {
        self.change("take our bit out of a connection's mark", connection, NEW, |request| {
            request.put(MARK, &0_u32.to_be_bytes());
            request.put(MARK_MASK, &mark.to_be_bytes());
        })
    }

    fn change(
        &mut self,
        act: &'static str,
        connection: &Connection,
        verb: u8,
        more: impl Fn(&mut Message),
    ) -> Result<(), KernelError> {
        let family = Family::of(connection.source);
        // A delete request without a tuple would delete all connections.
        if find(&connection.tuple, ORIGINAL).and_then(tuple).is_none() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it has no conntrack tuple");
            return Err(KernelError::Netlink { act, source });
        }
        let mut request = Message::new(SUBSYSTEM, verb, ACKNOWLEDGE, family_number(family));
        request.append(&connection.tuple);
        more(&mut request);
        self.writes += 1;
        match self.netlink.ask(request, |_| {}) {
            Ok(()) => {
                self.cut += 1;
                Ok(())
            }
            Err(Failure::Refused { code: libc::ENOENT, .. }) => Ok(()),
            Err(failure) => Err(refused(act, failure)),
        }
    }
}

fn refused(act: &'static str, failure: Failure) -> KernelError {
    let source = match failure {
        Failure::Refused { code: libc::EINVAL, .. } => io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel knows no conntrack, or not this request; load it: modprobe nf_conntrack_netlink",
        ),
        Failure::Refused { code: libc::EBUSY, .. } => io::Error::new(
            io::ErrorKind::ResourceBusy,
            "a flowtable carries it past the packet filter; take the bridge out of the flowtable",
        ),
        Failure::Refused { .. } | Failure::Overrun | Failure::System(_) => failure.into(),
    };
    KernelError::Netlink { act, source }
}

/// One direction of a connection.
struct Tuple {
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    destination_port: u16,
}

/// The original tuple and that of the reply in one message of a dump.
fn ends(entry: &[u8]) -> Option<[Tuple; 2]> {
    Some([tuple(find(entry, ORIGINAL)?)?, tuple(find(entry, REPLY)?)?])
}

/// The connection in one message of a dump, with these tuples.
fn connection(entry: &[u8], [original, reply]: [Tuple; 2]) -> Connection {
    Connection {
        protocol: original.protocol,
        source: original.source,
        source_port: original.source_port,
        dialled: original.destination,
        dialled_port: original.destination_port,
        destination: reply.source,
        destination_port: reply.source_port,
        is_of_this_host: false,
        mark: find(entry, MARK).and_then(exact).map_or(0, u32::from_be_bytes),
        tuple: identity(entry),
    }
}

/// What a delete request must contain so that it deletes this entry and no other: its tuple, its zone and its id.
fn identity(entry: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(96);
    for attribute in attributes(entry) {
        if matches!(attribute.kind, ORIGINAL | ZONE | ID) {
            bytes.extend_from_slice(attribute.bytes);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let addresses = find(bytes, TUPLE_ADDRESSES)?;
    let transport = find(bytes, TUPLE_PROTOCOL)?;
    let [protocol] = find(transport, NUMBER).and_then(exact)?;
    let port = |kind| match Protocol::from_number(protocol) {
        Some(_) => find(transport, kind).and_then(exact).map_or(0, u16::from_be_bytes),
        None => 0,
    };
    Some(Tuple {
        protocol,
        source: address(addresses, V4_SOURCE, V6_SOURCE)?,
        destination: address(addresses, V4_DESTINATION, V6_DESTINATION)?,
        source_port: port(SOURCE_PORT),
        destination_port: port(DESTINATION_PORT),
    })
}

fn address(bytes: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    let octets = find(bytes, v4).and_then(exact::<4>);
    let long = find(bytes, v6).and_then(exact::<16>);
    octets.map(|octets| Ipv4Addr::from(octets).into()).or(long.map(|octets| Ipv6Addr::from(octets).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put_tuple(message: &mut Message, kind: u16, ends: [(IpAddr, u16); 2], protocol: u8) {
        message.nest(kind, |tuple| {
            tuple.nest(TUPLE_ADDRESSES, |addresses| {
                let kinds = [(V4_SOURCE, V6_SOURCE), (V4_DESTINATION, V6_DESTINATION)];
                for ((address, _), (v4, v6)) in ends.into_iter().zip(kinds) {
                    match address {
                        IpAddr::V4(address) => addresses.put(v4, &address.octets()),
                        IpAddr::V6(address) => addresses.put(v6, &address.octets()),
                    }
                }
            });
            tuple.nest(TUPLE_PROTOCOL, |transport| {
                transport.put(NUMBER, &[protocol]);
                transport.put(SOURCE_PORT, &ends[0].1.to_be_bytes());
                transport.put(DESTINATION_PORT, &ends[1].1.to_be_bytes());
            });
        });
    }

    #[test]
    fn connection_through_a_service_tells_who_was_dialled_and_who_answers() {
        let end = |text: &str, port| (text.parse::<IpAddr>().expect("an address"), port);
        for (client, service, pod) in
            [("10.0.0.1", "10.96.0.10", "10.0.0.2"), ("2001:db8::1", "fd00::10", "2001:db8::2")]
        {
            let mut entry = Message::new(SUBSYSTEM, 0, 0, 2);
            put_tuple(&mut entry, ORIGINAL, [end(client, 40000), end(service, 80)], 6);
            put_tuple(&mut entry, REPLY, [end(pod, 8080), end(client, 40000)], 6);
            entry.put(3, &[0, 0, 1, 0x8e]);
            entry.put(ID, &[1, 2, 3, 4]);
            entry.put(ZONE, &[0, 7]);
            let read = connection(entry.attributes(), ends(entry.attributes()).expect("a connection"));
            assert_eq!((read.source, read.source_port), end(client, 40000));
            assert_eq!((read.dialled, read.dialled_port), end(service, 80));
            assert_eq!((read.destination, read.destination_port), end(pod, 8080));
            assert_eq!(read.protocol, 6);
            let kinds: Vec<u16> = attributes(&read.tuple).map(|attribute| attribute.kind).collect();
            assert_eq!(kinds, [ORIGINAL, ID, ZONE]);
            assert_eq!(find(&read.tuple, ZONE), Some(&[0, 7][..]));
        }
    }

    #[test]
    fn protocol_without_ports_has_port_zero() {
        let mut entry = Message::new(SUBSYSTEM, 0, 0, 2);
        let peers = [(IpAddr::from([10, 0, 0, 1]), 9), (IpAddr::from([10, 0, 0, 2]), 9)];
        put_tuple(&mut entry, ORIGINAL, peers, 47);
        put_tuple(&mut entry, REPLY, [peers[1], peers[0]], 47);
        let read = connection(entry.attributes(), ends(entry.attributes()).expect("a connection"));
        assert_eq!((read.source_port, read.dialled_port, read.destination_port), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (ends(&bytes), tuple(&bytes), identity(&bytes));
        }
    }
}
