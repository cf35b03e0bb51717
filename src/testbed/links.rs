//! Links, addresses and routes of one namespace, over one rtnetlink connection.

use super::{Netns, TestbedError};
use crate::net::{Family, IpNet};
use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, State};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The loopback device's index in every namespace.
const LOOPBACK: u32 = 1;
/// How long to wait for something to work.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The polling interval.
const ONE_LOOK: Duration = Duration::from_millis(1);

/// A link to create: a bridge, or one end of a veth pair.
#[derive(Clone, Debug)]
pub(super) struct LinkSpec {
    /// Its name.
    pub(super) name: String,
    /// Its index, chosen in advance so that it need not be queried.
    pub(super) index: u32,
    /// Its hardware address, if the kernel is not to choose one.
    pub(super) hardware: Option<[u8; 6]>,
}

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub(super) enum WaitFor {
    /// A link that is up can send. A veth or bridge cannot until the kernel's link watch worker has noticed its
    /// carrier; since Linux 6.8, a query of the link makes it notice.
    Link(u32),
    /// Every address of the namespace answers. An IPv6 address can neither be bound nor be resolved by neighbours until
    /// a kernel worker has joined its solicited-node group; until then it is tentative, even without duplicate address
    /// detection.
    Addresses,
}

impl fmt::Display for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitFor::Link(index) => write!(f, "link {index}"),
            WaitFor::Addresses => f.write_str("the addresses"),
        }
    }
}

/// An rtnetlink connection into one namespace.
#[derive(Clone, Debug)]
pub(super) struct NetnsLinks {
    handle: Handle,
    namespace: String,
}

impl NetnsLinks {
    /// Opens a connection. Must run on the testbed's thread, and leaves that thread in the namespace.
    pub(super) fn open(namespace: &Netns) -> Result<NetnsLinks, TestbedError> {
        namespace.hop()?;
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| TestbedError::Link {
            act: "open a netlink socket".to_owned(),
            namespace: namespace.name().to_owned(),
            source,
        })?;
        // The task ends when the last handle is dropped.
        tokio::spawn(connection);
        Ok(NetnsLinks { handle, namespace: namespace.name().to_owned() })
    }

    fn check(
        &self,
        done: Result<(), rtnetlink::Error>,
        act: impl FnOnce() -> String,
    ) -> Result<(), TestbedError> {
        done.map_err(|error| {
            let source = if let rtnetlink::Error::NetlinkError(message) = &error {
                message.to_io()
            } else {
                io::Error::other(error.to_string())
            };
            self.failed(act(), source)
        })
    }

    fn failed(&self, act: String, source: io::Error) -> TestbedError {
        TestbedError::Link { act, namespace: self.namespace.clone(), source }
    }

    /// Brings the loopback device up.
    pub(super) async fn loopback(&self) -> Result<(), TestbedError> {
        self.up(LOOPBACK).await
    }

    /// Brings a link up.
    pub(super) async fn up(&self, link: u32) -> Result<(), TestbedError> {
        let up = LinkUnspec::new_with_index(link).up().build();
        self.check(self.handle.link().change(up).execute().await, || format!("bring link {link} up"))
    }

    /// Waits until a link or the addresses work.
    pub(super) async fn wait(&self, work: WaitFor) -> Result<(), TestbedError> {
        let act = || format!("see {work} working");
        let working = async {
            while !self.works(work).await? {
                sleep(ONE_LOOK).await;
            }
            Ok(())
        };
        match timeout(LONGEST_WAIT, working).await {
            Ok(working) => self.check(working, act),
            Err(late) => Err(self.failed(act(), late.into())),
        }
    }

    async fn works(&self, work: WaitFor) -> Result<bool, rtnetlink::Error> {
        match work {
            WaitFor::Link(index) => self.sends(index).await,
            WaitFor::Addresses => self.answers().await,
        }
    }

    async fn sends(&self, index: u32) -> Result<bool, rtnetlink::Error> {
        let found = self.handle.link().get().match_index(index).execute().try_next().await?;
        let up = LinkAttribute::OperState(State::Up);
        Ok(found.is_some_and(|link| link.attributes.contains(&up)))
    }

    async fn answers(&self) -> Result<bool, rtnetlink::Error> {
        let mut addresses = self.handle.address().get().execute();
        let mut answers = true;
        while let Some(address) = addresses.try_next().await? {
            answers &= !address.header.flags.contains(AddressHeaderFlags::Tentative);
        }
        Ok(answers)
    }

    /// Creates a bridge that is up. It should have a hardware address, which would otherwise change with its ports.
    pub(super) async fn bridge(&self, end: &LinkSpec) -> Result<(), TestbedError> {
        let bridge = addressed(LinkBridge::new(&end.name).index(end.index), end).build();
        self.check(self.handle.link().add(bridge).execute().await, || format!("make bridge {}", end.name))
    }

    /// Creates a veth pair, with the peer in another namespace. This end is up; the kernel accepts bringing the peer up
    /// only afterwards.
    pub(super) async fn veth(
        &self,
        end: &LinkSpec,
        peer: &LinkSpec,
        inside: &Netns,
    ) -> Result<(), TestbedError> {
        let pair = self.pair(end, peer, inside).build();
        self.made(end, self.handle.link().add(pair).execute().await)
    }

    /// Creates a veth pair like `veth`, with this end as a port in hairpin mode of the bridge with index `bridge`.
    pub(super) async fn port(
        &self,
        bridge: u32,
        end: &LinkSpec,
        peer: &LinkSpec,
        inside: &Netns,
    ) -> Result<(), TestbedError> {
        let pair = self.pair(end, peer, inside).controller(bridge).build();
        self.made(end, self.handle.link().add(pair).execute().await)?;
        let hairpin = LinkBridgePort::new(end.index).hairpin(true).build();
        self.check(self.handle.link().change(hairpin).execute().await, || {
            format!("turn hairpin mode on for {}", end.name)
        })
    }

    fn pair(&self, end: &LinkSpec, peer: &LinkSpec, inside: &Netns) -> LinkMessageBuilder<LinkVeth> {
        let far =
            LinkUnspec::new_with_name(&peer.name).index(peer.index).setns_by_fd(inside.file().as_raw_fd());
        let far = addressed(far, peer).build();
        LinkVeth::new(&end.name, &peer.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .index(end.index)
            .up()
    }

    fn made(&self, end: &LinkSpec, done: Result<(), rtnetlink::Error>) -> Result<(), TestbedError> {
        self.check(done, || format!("make veth {}", end.name))
    }

    /// Removes a link, and with a veth its peer.
    pub(super) async fn remove(&self, link: u32) -> Result<(), TestbedError> {
        self.check(self.handle.link().del(link).execute().await, || format!("remove link {link}"))
    }

    /// Gives an address, with its network's prefix length, to the link with index `link`.
    pub(super) async fn address(&self, link: u32, address: IpNet) -> Result<(), TestbedError> {
        let add = self.handle.address().add(link, address.addr(), address.prefix_len());
        self.check(add.execute().await, || format!("add address {address}"))
    }

    /// Adds a permanent neighbour entry, which the kernel neither removes nor counts as learned.
    pub(super) async fn neighbour(
        &self,
        link: u32,
        address: IpAddr,
        hardware: [u8; 6],
    ) -> Result<(), TestbedError> {
        let add = self.handle.neighbours().add(link, address).link_layer_address(&hardware).replace();
        self.check(add.execute().await, || format!("add neighbour {address}"))
    }

    /// Routes `to` over `via`.
    pub(super) async fn route(&self, to: IpNet, via: IpAddr) -> Result<(), TestbedError> {
        let add = self.handle.route().add(route(to, via, None));
        self.check(add.execute().await, || format!("add route {to} via {via}"))
    }

    /// Sets the default route of a family to `via` with the source `source`, and replaces an existing one.
    pub(super) async fn default_route(
        &self,
        via: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<(), TestbedError> {
        let set = self.handle.route().add(route(everything(Family::of(via)), via, source)).replace();
        self.check(set.execute().await, || format!("set the default route via {via}"))
    }
}

fn addressed<T>(builder: LinkMessageBuilder<T>, end: &LinkSpec) -> LinkMessageBuilder<T> {
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
