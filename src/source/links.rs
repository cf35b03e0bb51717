//! The bridge and its ports as the kernel reports them (rtnetlink): first all, and then every change.

use super::tunnel::tunnel_inputs;
use crate::model::{Bridge, BridgePort, LinkChange, TunnelInputs};
use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use thiserror::Error;

/// Why links cannot be watched.
#[derive(Debug, Error)]
pub enum LinkWatchError {
    /// No socket could be opened.
    #[error("cannot open a socket to rtnetlink: {0}")]
    Open(#[from] io::Error),
    /// The kernel did not list links or addresses.
    #[error("cannot list links: {0}")]
    List(#[from] rtnetlink::Error),
    /// The socket ended.
    #[error("the kernel's notifications of link changes have ended")]
    Ended,
}

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Watches the ports of one bridge, in the network namespace of the thread that created it.
pub struct LinkWatch {
    handle: Handle,
    messages: Messages,
    links: Links,
    /// Whether everything must be listed: at first, and when messages were lost.
    must_look: bool,
}

impl LinkWatch {
    /// Watches the bridge of this name, which need not exist yet. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn new(bridge: &str) -> Result<LinkWatch, LinkWatchError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        Ok(LinkWatch { handle, messages, links: Links::new(bridge), must_look: true })
    }

    /// Waits until something changes, and returns the changes. The first call returns everything.
    ///
    /// # Errors
    /// The socket failed; a new watch is needed.
    pub async fn changed(&mut self) -> Result<Vec<LinkChange>, LinkWatchError> {
        loop {
            if self.must_look {
                let changes = self.look().await?;
                self.must_look = false;
                return Ok(changes);
            }
            let mut changes = Vec::new();
            let mut next = Some(self.messages.next().await.ok_or(LinkWatchError::Ended)?);
            while let Some((message, _)) = next {
                if let NetlinkPayload::InnerMessage(message) = &message.payload {
                    self.must_look |= !self.links.take_in(message, &mut changes);
                } else if let NetlinkPayload::Overrun(_) = &message.payload {
                    self.must_look = true;
                }
                next = self.messages.next().now_or_never().flatten();
            }
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// Lists all links and addresses; those that are missing were deleted.
    async fn look(&mut self) -> Result<Vec<LinkChange>, LinkWatchError> {
        let links: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await?;
        let addresses: Vec<AddressMessage> = self.handle.address().get().execute().try_collect().await?;
        Ok(self.links.replace(&links, &addresses))
    }
}

/// The links of a network namespace that concern one bridge.
#[derive(Clone, Debug, Default)]
struct Links {
    name: String,
    index: Option<u32>,
    bridge: Bridge,
    ports: BTreeMap<u32, BridgePort>,
    /// What each tunnel device unpacks, by the device's index.
    tunnels: BTreeMap<u32, TunnelInputs>,
}

impl Links {
    fn new(bridge: &str) -> Links {
        Links { name: bridge.to_owned(), ..Links::default() }
    }

    /// Applies a complete list.
    fn replace(&mut self, links: &[LinkMessage], addresses: &[AddressMessage]) -> Vec<LinkChange> {
        let mut fresh = Links::new(&self.name);
        let is_bridge = |link: &&LinkMessage| name(link) == Some(&self.name);
        if let Some(bridge) = links.iter().find(is_bridge) {
            fresh.index = Some(bridge.header.index);
            fresh.bridge.hardware = hardware(bridge);
        }
        let ports = links.iter().filter(|link| fresh.index.is_some() && master(link) == fresh.index);
        fresh.ports = ports.filter_map(port).map(|port| (port.index, port)).collect();
        let tunnels = links.iter().map(|link| (link.header.index, tunnel_inputs(link)));
        fresh.tunnels = tunnels.filter(|(_, inputs)| *inputs != TunnelInputs::default()).collect();
        fresh.bridge.tunnels = fresh.joined_tunnels();
        let own = addresses.iter().filter(|address| Some(address.header.index) == fresh.index);
        let own: BTreeSet<Ipv6Addr> = own.filter_map(link_local).collect();
        fresh.bridge.link_local = own.into_iter().collect();

        let gone = self.ports.keys().filter(|index| !fresh.ports.contains_key(*index));
        let mut changes: Vec<_> = gone.map(|index| LinkChange::PortGone(*index)).collect();
        if self.bridge != fresh.bridge {
            changes.push(LinkChange::Bridge(fresh.bridge.clone()));
        }
        let new = fresh.ports.values().filter(|port| self.ports.get(&port.index) != Some(port));
        changes.extend(new.cloned().map(LinkChange::Port));
        *self = fresh;
        changes
    }

    /// Applies one message. Returns false if everything must be listed to interpret it.
    fn take_in(&mut self, message: &RouteNetlinkMessage, changes: &mut Vec<LinkChange>) -> bool {
        if let RouteNetlinkMessage::NewLink(link) = message {
            return link.header.interface_family == AddressFamily::Bridge || self.set_link(link, changes);
        }
        if let RouteNetlinkMessage::DelLink(link) = message {
            self.remove_port(link.header.index, changes);
            if link.header.interface_family == AddressFamily::Bridge {
                return true;
            }
            self.set_tunnel(link.header.index, TunnelInputs::default(), changes);
            return self.index != Some(link.header.index);
        }
        if let RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) = message {
            let comes = matches!(message, RouteNetlinkMessage::NewAddress(_));
            self.set_address(address, comes, changes);
        }
        true
    }

    fn set_link(&mut self, link: &LinkMessage, changes: &mut Vec<LinkChange>) -> bool {
        let is_bridge = name(link) == Some(&self.name);
        if is_bridge != (self.index == Some(link.header.index)) {
            return false;
        }
        if is_bridge && self.bridge.hardware != hardware(link) {
            self.bridge.hardware = hardware(link);
            changes.push(LinkChange::Bridge(self.bridge.clone()));
        }
        self.set_tunnel(link.header.index, tunnel_inputs(link), changes);
        if self.index.is_some() && master(link) == self.index {
            self.add_port(link, changes);
        } else {
            self.remove_port(link.header.index, changes);
        }
        true
    }

    fn add_port(&mut self, link: &LinkMessage, changes: &mut Vec<LinkChange>) {
        let Some(port) = port(link) else { return };
        if self.ports.get(&port.index) != Some(&port) {
            self.ports.insert(port.index, port.clone());
            changes.push(LinkChange::Port(port));
        }
    }

    fn remove_port(&mut self, index: u32, changes: &mut Vec<LinkChange>) {
        if self.ports.remove(&index).is_some() {
            changes.push(LinkChange::PortGone(index));
        }
    }

    fn set_tunnel(&mut self, index: u32, inputs: TunnelInputs, changes: &mut Vec<LinkChange>) {
        let old = match inputs == TunnelInputs::default() {
            true => self.tunnels.remove(&index),
            false => self.tunnels.insert(index, inputs.clone()),
        };
        if old.unwrap_or_default() != inputs {
            let tunnels = self.joined_tunnels();
            if self.bridge.tunnels != tunnels {
                self.bridge.tunnels = tunnels;
                changes.push(LinkChange::Bridge(self.bridge.clone()));
            }
        }
    }

    fn joined_tunnels(&self) -> TunnelInputs {
        let mut joined = TunnelInputs::default();
        self.tunnels.values().for_each(|inputs| joined.join(inputs));
        joined
    }

    fn set_address(&mut self, address: &AddressMessage, comes: bool, changes: &mut Vec<LinkChange>) {
        let Some(own) = link_local(address).filter(|_| Some(address.header.index) == self.index) else {
            return;
        };
        let mut all: BTreeSet<Ipv6Addr> = self.bridge.link_local.iter().copied().collect();
        let changed = if comes { all.insert(own) } else { all.remove(&own) };
        if changed {
            self.bridge.link_local = all.into_iter().collect();
            changes.push(LinkChange::Bridge(self.bridge.clone()));
        }
    }
}

/// The name of a link.
pub(super) fn name(link: &LinkMessage) -> Option<&String> {
    link.attributes
        .iter()
        .find_map(|attribute| if let LinkAttribute::IfName(name) = attribute { Some(name) } else { None })
}

fn master(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Controller(index) = attribute { Some(*index) } else { None }
    })
}

fn hardware(link: &LinkMessage) -> Option<[u8; 6]> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Address(address) = attribute {
            address.as_slice().try_into().ok()
        } else {
            None
        }
    })
}

fn port(link: &LinkMessage) -> Option<BridgePort> {
    let mut infos = link.attributes.iter().filter_map(|attribute| {
        if let LinkAttribute::LinkInfo(infos) = attribute { Some(infos) } else { None }
    });
    let is_veth = infos.any(|infos| infos.contains(&LinkInfo::Kind(InfoKind::Veth)));
    Some(BridgePort { index: link.header.index, name: name(link)?.as_str().into(), is_veth })
}

fn link_local(address: &AddressMessage) -> Option<Ipv6Addr> {
    address.attributes.iter().find_map(|attribute| {
        let AddressAttribute::Address(IpAddr::V6(own)) = attribute else { return None };
        Some(*own).filter(Ipv6Addr::is_unicast_link_local)
    })
}
