//! Links, addresses and routes of one namespace, over one netlink connection.

use super::{Namespace, PlaygroundError};
use crate::net::{Family, IpNet};
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

/// The loopback device's index in every namespace.
const LOOPBACK: u32 = 1;

/// One end of a veth pair that is to be made.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// Its name.
    pub(super) name: String,
    /// Its index, chosen so that nobody has to ask for it afterwards.
    pub(super) index: u32,
    /// Its hardware address, if the kernel is not to choose one.
    pub(super) hardware: Option<[u8; 6]>,
}

/// A netlink connection into one namespace.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    handle: Handle,
    namespace: String,
}

impl Wire {
    /// Opens a connection. Must run on the playground's thread, which it leaves in the namespace.
    pub(super) fn open(namespace: &Namespace) -> Result<Wire, PlaygroundError> {
        namespace.hop()?;
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| PlaygroundError::Link {
                act: "open a netlink socket".to_owned(),
                namespace: namespace.name().to_owned(),
                source,
            })?;
        // It ends by itself once the last handle is dropped.
        tokio::spawn(connection);
        Ok(Wire { handle, namespace: namespace.name().to_owned() })
    }

    fn check(
        &self,
        done: Result<(), rtnetlink::Error>,
        act: impl FnOnce() -> String,
    ) -> Result<(), PlaygroundError> {
        done.map_err(|error| {
            let source = if let rtnetlink::Error::NetlinkError(message) = &error {
                message.to_io()
            } else {
                io::Error::other(error.to_string())
            };
            PlaygroundError::Link { act: act(), namespace: self.namespace.clone(), source }
        })
    }

    /// Brings the loopback device up.
    pub(super) async fn loopback(&self) -> Result<(), PlaygroundError> {
        self.up(LOOPBACK).await
    }

    /// Brings a link up.
    pub(super) async fn up(&self, link: u32) -> Result<(), PlaygroundError> {
        let up = LinkUnspec::new_with_index(link).up().build();
        self.check(self.handle.link().change(up).execute().await, || format!("bring link {link} up"))
    }

    /// Makes a bridge that is up. Give it a hardware address, which would change with its ports otherwise.
    pub(super) async fn bridge(&self, end: &End) -> Result<(), PlaygroundError> {
        let bridge = addressed(LinkBridge::new(&end.name).index(end.index), end).build();
        self.check(self.handle.link().add(bridge).execute().await, || format!("make bridge {}", end.name))
    }

    /// Makes a veth pair, the peer directly inside another namespace. This end is up; the kernel lets the peer be
    /// brought up only afterwards.
    pub(super) async fn veth(
        &self,
        end: &End,
        peer: &End,
        inside: &Namespace,
    ) -> Result<(), PlaygroundError> {
        let pair = self.pair(end, peer, inside).build();
        self.made(end, self.handle.link().add(pair).execute().await)
    }

    /// Makes a veth pair like `veth`, this end a port in hairpin mode of the bridge with index `bridge`.
    pub(super) async fn port(
        &self,
        bridge: u32,
        end: &End,
        peer: &End,
        inside: &Namespace,
    ) -> Result<(), PlaygroundError> {
        let pair = self.pair(end, peer, inside).controller(bridge).build();
        self.made(end, self.handle.link().add(pair).execute().await)?;
        let hairpin = LinkBridgePort::new(end.index).hairpin(true).build();
        self.check(self.handle.link().change(hairpin).execute().await, || {
            format!("turn hairpin mode on for {}", end.name)
        })
    }

    fn pair(&self, end: &End, peer: &End, inside: &Namespace) -> LinkMessageBuilder<LinkVeth> {
        let far =
            LinkUnspec::new_with_name(&peer.name).index(peer.index).setns_by_fd(inside.file().as_raw_fd());
        let far = addressed(far, peer).build();
        LinkVeth::new(&end.name, &peer.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .index(end.index)
            .up()
    }

    fn made(&self, end: &End, done: Result<(), rtnetlink::Error>) -> Result<(), PlaygroundError> {
        self.check(done, || format!("make veth {}", end.name))
    }

    /// Removes a link, and with a veth its peer.
    pub(super) async fn remove(&self, link: u32) -> Result<(), PlaygroundError> {
        self.check(self.handle.link().del(link).execute().await, || format!("remove link {link}"))
    }

    /// Gives an address, with its network's prefix length, to the link with index `link`.
    pub(super) async fn address(&self, link: u32, address: IpNet) -> Result<(), PlaygroundError> {
        let mut add = self.handle.address().add(link, address.addr(), address.prefix_len());
        // Otherwise an IPv6 address is tentative until a kernel worker has looked at it, and cannot be bound.
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        self.check(add.execute().await, || format!("add address {address}"))
    }

    /// Routes `to` over `via`.
    pub(super) async fn route(&self, to: IpNet, via: IpAddr) -> Result<(), PlaygroundError> {
        let add = self.handle.route().add(route(to, via, None));
        self.check(add.execute().await, || format!("add route {to} via {via}"))
    }

    /// Routes everything of a family over `via`, sending from `source`, whatever the default route was.
    pub(super) async fn default_route(
        &self,
        via: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<(), PlaygroundError> {
        let set = self.handle.route().add(route(everything(Family::of(via)), via, source)).replace();
        self.check(set.execute().await, || format!("set the default route via {via}"))
    }
}

fn addressed<T>(builder: LinkMessageBuilder<T>, end: &End) -> LinkMessageBuilder<T> {
    match end.hardware {
        Some(hardware) => builder.address(hardware.to_vec()),
        None => builder,
    }
}

fn route(to: IpNet, via: IpAddr, source: Option<IpAddr>) -> RouteMessage {
    let mut message = match to {
        IpNet::V4(to) => {
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to.addr(), to.prefix_len()).build()
        }
        IpNet::V6(to) => {
            RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(to.addr(), to.prefix_len()).build()
        }
    };
    message.attributes.push(RouteAttribute::Gateway(via.into()));
    message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

/// The prefix that holds every address of a family.
fn everything(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(crate::net::Ipv4Net::default()),
        Family::V6 => IpNet::V6(crate::net::Ipv6Net::default()),
    }
}
