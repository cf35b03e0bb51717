//! Whether a frame may pass a port, in or out.

use super::{Behind, Carried, Message, Ports, Protected, Sent};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Reports of listeners, not queries.
const REPORTS: [u8; 3] = [131, 132, 143];
const QUERY: u8 = 130;

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn is_for_one(sent: &Sent) -> bool {
    sent.to[0] & 1 == 0
}

/// DHCP from a client without address "in its exact form".
fn is_dhcp(carries: &Carried) -> bool {
    let [from, to] = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST].map(IpAddr::V4);
    matches!(carries, Carried::Ip { source, destination, message: Message::DhcpRequest, .. }
        if (*source, *destination) == (from, to))
}

fn is_igmp(carries: &Carried) -> bool {
    matches!(carries, Carried::Ip { message: Message::Igmp, hops: 1, .. })
}

/// The sender and target of a neighbour solicitation or advertisement.
fn finds_neighbours(carries: &Carried) -> bool {
    matches!(
        carries,
        Carried::Ip {
            message: Message::Discovery { kind: NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT, .. },
            ..
        }
    )
}

fn is_exact_discovery(carries: &Carried) -> bool {
    matches!(carries, Carried::Ip { hops: 255, message: Message::Discovery { is_long: false, .. }, .. })
}

impl Ports {
    /// Whether a frame that arrives at a port is accepted.
    pub fn lets_in(&self, port: u32, sent: &Sent) -> bool {
        match self.behind.get(&port) {
            None | Some(Behind::Network | Behind::Exempt) => true,
            Some(Behind::NoPod) => self.may_be_of_unknown_pod(sent),
            Some(Behind::Pod(pod)) => {
                pod.hardware.is_none_or(|own| own == sent.from) && self.may_be_of(pod, sent)
            }
        }
    }

    /// Whether a frame that was accepted at `from` may leave by `to`.
    pub fn lets_out(&self, from: u32, to: u32, sent: &Sent) -> bool {
        match self.behind.get(&to) {
            None | Some(Behind::Network | Behind::Exempt) => true,
            Some(Behind::NoPod) => is_for_isolated(&self.portless, sent),
            Some(Behind::Pod(pod)) if pod.ingress => is_for_isolated(&pod.addresses, sent),
            Some(Behind::Pod(pod)) => {
                let is_to_it = matches!(&sent.carries, Carried::Ip { destination, .. }
                    if pod.addresses.contains(destination));
                let is_open = match self.behind.get(&from) {
                    Some(Behind::Pod(pod)) => !pod.egress,
                    Some(Behind::NoPod) => false,
                    Some(Behind::Network | Behind::Exempt) | None => true,
                };
                // "An isolated pod exchanges only ARP, neighbour discovery and what policies allow with its neighbours".
                is_to_it
                    || is_open
                    || matches!(sent.carries, Carried::Arp { .. })
                    || finds_neighbours(&sent.carries)
            }
        }
    }

    fn is_nodes_link_local(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V6(address) if self.bridge.link_local.contains(&address))
    }

    /// Whether a pod may send this neighbour discovery. `claims` returns whether the pod may announce an address.
    fn may_say(&self, carries: &Carried, claims: impl Fn(Ipv6Addr) -> bool) -> bool {
        if let Carried::Ip { message: Message::Listener(QUERY), .. } = carries {
            return false;
        }
        let Carried::Ip { source, hops, message: Message::Discovery { kind, target, .. }, .. } = carries
        else {
            return true;
        };
        let may_claim = !self.is_nodes_link_local((*target).into()) && claims(*target);
        match *kind {
            ROUTER_SOLICITATION => *hops == 255,
            // One without a source asks whether an address is free.
            NEIGHBOUR_SOLICITATION => *hops == 255 && (!source.is_unspecified() || may_claim),
            NEIGHBOUR_ADVERTISEMENT => *hops == 255 && may_claim,
            // Pods are no routers.
            _ => false,
        }
    }

    /// "ARP, neighbour discovery with hop limit 255, listener reports and DHCP, each only in its exact form and length; and
    /// traffic to the node's link-local addresses."
    fn is_needed_by_a_link(&self, sent: &Sent) -> bool {
        let Carried::Ip { destination, hops, message, .. } = &sent.carries else { return false };
        let to_node = Some(sent.to) == self.bridge.hardware && is_link_local(*destination);
        to_node
            || match message {
                Message::Discovery { kind: ROUTER_SOLICITATION, .. } => {
                    destination.is_multicast() && is_exact_discovery(&sent.carries)
                }
                Message::Discovery { .. } => {
                    finds_neighbours(&sent.carries) && is_exact_discovery(&sent.carries)
                }
                Message::Listener(kind) => REPORTS.contains(kind) && destination.is_multicast() && *hops == 1,
                Message::Dhcpv6Request => destination.is_multicast(),
                Message::Datagram | Message::Syn | Message::DhcpRequest | Message::Igmp | Message::Echo => {
                    false
                }
            }
    }

    /// Whether it may come from a known pod, or from an unknown one whose port is known: "only under its own
    /// addresses".
    fn may_be_of(&self, pod: &Protected, sent: &Sent) -> bool {
        let own = |address: IpAddr| pod.addresses.contains(&address);
        match &sent.carries {
            Carried::Arp { sender, is_long } => {
                (own((*sender).into()) || sender.is_unspecified()) && !(pod.egress && *is_long)
            }
            Carried::Tagged(..) => false,
            Carried::Other(_) => !pod.egress,
            carries @ Carried::Ip { source: source @ IpAddr::V4(_), destination, .. } => {
                let igmp_without_address =
                    pod.egress && source.is_unspecified() && destination.is_multicast() && is_igmp(carries);
                is_dhcp(carries)
                    || igmp_without_address
                    || own(*source) && (!pod.egress || is_for_one(sent) || is_igmp(carries))
            }
            carries @ Carried::Ip { source: source @ IpAddr::V6(_), destination, message, .. } => {
                let claims = |target: Ipv6Addr| target.is_unicast_link_local() || own(target.into());
                let discovers = matches!(message, Message::Discovery { .. });
                let to_all = destination.is_multicast() || is_link_local(*destination);
                self.may_say(carries, claims)
                    && !self.is_nodes_link_local(*source)
                    && match () {
                        () if own(*source) => {
                            !pod.egress || !discovers && !to_all || self.is_needed_by_a_link(sent)
                        }
                        () if is_link_local(*source) => !pod.egress || self.is_needed_by_a_link(sent),
                        () => source.is_unspecified() && self.is_needed_by_a_link(sent),
                    }
            }
        }
    }

    /// Whether it may come from a port whose pod is not known: "source is an address of a local pod without a port".
    /// CNI announces an address before its result names it, so announcements must only not be of an address whose port
    /// is known.
    fn may_be_of_unknown_pod(&self, sent: &Sent) -> bool {
        let portless = |address: &IpAddr| self.portless.contains(address);
        match &sent.carries {
            Carried::Arp { sender, is_long } => !is_long && !self.taken.contains(&(*sender).into()),
            Carried::Tagged(..) | Carried::Other(_) => false,
            carries @ Carried::Ip { source: source @ IpAddr::V4(_), .. } => {
                is_dhcp(carries) || portless(source) && (is_for_one(sent) || is_igmp(carries))
            }
            carries @ Carried::Ip { source: source @ IpAddr::V6(_), destination, message, .. } => {
                let discovers = matches!(message, Message::Discovery { .. });
                let to_all = destination.is_multicast() || is_link_local(*destination);
                let of_link = is_link_local(*source) || source.is_unspecified();
                self.may_say(carries, |target| !self.taken.contains(&target.into()))
                    && !self.is_nodes_link_local(*source)
                    && !self.taken.contains(source)
                    && if of_link || to_all {
                        self.is_needed_by_a_link(sent)
                    } else {
                        portless(source) && (!discovers || self.is_needed_by_a_link(sent))
                    }
            }
        }
    }
}

/// "A pod isolated for ingress may receive ARP, neighbour discovery and listener queries", and packets to its own addresses, to which
/// policies apply.
fn is_for_isolated(own: &BTreeSet<IpAddr>, sent: &Sent) -> bool {
    match &sent.carries {
        Carried::Arp { is_long, .. } => !is_long,
        Carried::Tagged(..) | Carried::Other(_) => false,
        Carried::Ip { source: IpAddr::V4(_), destination, .. } => {
            own.contains(destination) && is_for_one(sent)
        }
        carries @ Carried::Ip { source: source @ IpAddr::V6(_), destination, hops, message } => match message
        {
            Message::Discovery { .. } if finds_neighbours(carries) => is_exact_discovery(carries),
            Message::Discovery { kind: ROUTER_SOLICITATION, .. } => false,
            Message::Listener(QUERY) if *hops == 1 => true,
            Message::Listener(_) if *hops == 1 => false,
            Message::Discovery { .. }
            | Message::Listener(_)
            | Message::Datagram
            | Message::Syn
            | Message::DhcpRequest
            | Message::Dhcpv6Request
            | Message::Igmp
            | Message::Echo => !is_link_local(*source) && own.contains(destination),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridgewarden::model::Bridge;
    use std::collections::BTreeMap;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 10));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 11));

    fn datagram(source: IpAddr, to: u8) -> Sent {
        let carries = Carried::Ip { source, destination: OTHER, hops: 64, message: Message::Datagram };
        Sent { to: [to, 0, 0, 0, 0, 2], from: [2, 0, 0, 0, 0, 1], carries }
    }

    #[test]
    fn pod_sends_under_its_own_name_and_an_isolated_one_to_no_group() {
        for isolated in [false, true] {
            let addresses = BTreeSet::from([OWN]);
            let pod = Protected {
                addresses: addresses.clone(),
                hardware: None,
                egress: isolated,
                ingress: isolated,
            };
            let ports = Ports {
                behind: BTreeMap::from([(1, Behind::Pod(pod)), (2, Behind::NoPod), (3, Behind::Network)]),
                taken: addresses,
                portless: BTreeSet::from([OTHER]),
                bridge: Bridge::default(),
            };
            assert!(ports.lets_in(1, &datagram(OWN, 2)) && !ports.lets_in(1, &datagram(OTHER, 2)));
            assert_eq!(ports.lets_in(1, &datagram(OWN, 1)), !isolated);
            assert!(!ports.lets_in(2, &datagram(OWN, 2)) && ports.lets_in(2, &datagram(OTHER, 2)));
            assert!(ports.lets_in(3, &datagram(OWN, 1)));
            assert_eq!(ports.lets_out(3, 1, &datagram(OWN, 2)), !isolated, "it is not to its address");
        }
    }
}
