//! Which packets the kernel unpacks for a tunnel device, as rtnetlink reports the device.

use crate::model::TunnelInputs;
use rtnetlink::packet_route::link::{
    GreEncapType, InfoBareUdp, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, InfoVxlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, TunnelEncapType,
};

/// IPPROTO_IPIP.
const IPIP: u8 = 4;
/// IPPROTO_IPV6.
const IPV6: u8 = 41;
/// IPPROTO_GRE.
const GRE: u8 = 47;
/// IPPROTO_MPLS.
const MPLS: u8 = 137;
/// The device of Flannel's backend `udp`, whose program unpacks what comes by this port of UDP, and the port by default.
const FLANNEL_UDP: (&str, u16) = ("flannel0", 8285);

/// What a link unpacks: nothing unless it is a tunnel, and is up. What proves its sender (WireGuard, IPsec) is not among it.
pub(super) fn tunnel_inputs(link: &LinkMessage) -> TunnelInputs {
    let mut inputs = TunnelInputs::default();
    if !link.header.flags.contains(LinkFlags::Up) {
        return inputs;
    }
    let infos = link.attributes.iter().filter_map(|attribute| {
        if let LinkAttribute::LinkInfo(infos) = attribute { Some(infos) } else { None }
    });
    for info in infos.flatten() {
        if let LinkInfo::Kind(kind) = info {
            inputs.protocols.extend(protocols(kind));
            let is_flannels =
                *kind == InfoKind::Tun && super::links::name(link).is_some_and(|name| name == FLANNEL_UDP.0);
            inputs.udp_ports.extend(is_flannels.then_some(FLANNEL_UDP.1));
        } else if let LinkInfo::Data(data) = info {
            inputs.udp_ports.extend(udp_port(data));
        }
    }
    inputs
}

/// The protocols that a kind of device may unpack, whichever of them it is set up for.
fn protocols(kind: &InfoKind) -> &'static [u8] {
    match kind.to_string().as_str() {
        "ipip" => &[IPIP, MPLS],
        "sit" | "ip6tnl" => &[IPV6, IPIP, MPLS],
        "gre" | "gretap" | "erspan" | "ip6gre" | "ip6gretap" | "ip6erspan" => &[GRE],
        _ => &[],
    }
}

/// The port of UDP by which packets come to a device. With FOU and GUE the ports by which a host unpacks belong to no device; they
/// are those that the devices of its peers send to, which are its own if all are set up alike.
fn udp_port(data: &InfoData) -> Option<u16> {
    if let InfoData::Vxlan(all) = data {
        return find(all, |one| if let InfoVxlan::Port(port) = one { *port } else { 0 });
    }
    if let InfoData::Geneve(all) = data {
        return find(all, |one| if let InfoGeneve::Port(port) = one { *port } else { 0 });
    }
    if let InfoData::BareUdp(all) = data {
        return find(all, |one| if let InfoBareUdp::Port(port) = one { *port } else { 0 });
    }
    if let InfoData::IpTunnel(all) = data {
        let plain = all.contains(&InfoIpTunnel::EncapType(TunnelEncapType::None));
        let port = |one: &InfoIpTunnel| if let InfoIpTunnel::EncapDPort(port) = one { *port } else { 0 };
        return find(all, port).filter(|_| !plain);
    }
    if let InfoData::GreTun(all) | InfoData::GreTap(all) | InfoData::ErSpan(all) = data {
        let plain = all.contains(&InfoGre::EncapType(GreEncapType::None));
        let port = |one: &InfoGre| if let InfoGre::DestinationPort(port) = one { *port } else { 0 };
        return find(all, port).filter(|_| !plain);
    }
    if let InfoData::GreTun6(all) | InfoData::GreTap6(all) | InfoData::Ip6ErSpan(all) = data {
        let plain = all.contains(&InfoGre6::EncapType(GreEncapType::None));
        let port = |one: &InfoGre6| if let InfoGre6::DestinationPort(port) = one { *port } else { 0 };
        return find(all, port).filter(|_| !plain);
    }
    None
}

/// The first port that is not 0.
fn find<T>(all: &[T], port: impl Fn(&T) -> u16) -> Option<u16> {
    all.iter().map(port).find(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: InfoKind, data: Option<InfoData>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.flags = LinkFlags::Up;
        let infos = [LinkInfo::Kind(kind)].into_iter().chain(data.map(LinkInfo::Data)).collect();
        link.attributes = vec![LinkAttribute::IfName("flannel0".into()), LinkAttribute::LinkInfo(infos)];
        link
    }

    fn inputs(kind: InfoKind, data: Option<InfoData>) -> (Vec<u16>, Vec<u8>) {
        let TunnelInputs { udp_ports, protocols } = tunnel_inputs(&link(kind, data));
        (udp_ports.into_iter().collect(), protocols.into_iter().collect())
    }

    #[test]
    fn tunnel_unpacks_what_comes_by_its_port_or_is_of_its_protocol() {
        let vxlan = InfoData::Vxlan(vec![InfoVxlan::Id(1), InfoVxlan::Port(8472)]);
        assert_eq!(inputs(InfoKind::Vxlan, Some(vxlan)), (vec![8472], vec![]));
        let geneve = InfoData::Geneve(vec![InfoGeneve::Id(1), InfoGeneve::Port(6081)]);
        assert_eq!(inputs(InfoKind::Geneve, Some(geneve)), (vec![6081], vec![]));
        let bare = InfoData::BareUdp(vec![InfoBareUdp::Port(6635)]);
        assert_eq!(inputs(InfoKind::BareUdp, Some(bare)), (vec![6635], vec![]));
        assert_eq!(inputs(InfoKind::Tun, None), (vec![8285], vec![]), "it has the name of Flannel's device");
        for (kind, protocols) in [
            (InfoKind::IpIp, vec![4, 137]),
            (InfoKind::SitTun, vec![4, 41, 137]),
            (InfoKind::Ip6Tnl, vec![4, 41, 137]),
            (InfoKind::GreTap, vec![47]),
            (InfoKind::GreTun6, vec![47]),
            (InfoKind::ErSpan, vec![47]),
        ] {
            assert_eq!(inputs(kind, None), (vec![], protocols));
        }
        for kind in [InfoKind::Wireguard, InfoKind::Veth, InfoKind::Bridge, InfoKind::Xfrm] {
            assert_eq!(inputs(kind, None), (vec![], vec![]));
        }
    }

    #[test]
    fn tunnel_in_udp_unpacks_by_the_port_that_its_peers_have() {
        for (encapsulation, ports) in [
            (TunnelEncapType::Fou, vec![5555]),
            (TunnelEncapType::Gue, vec![5555]),
            (TunnelEncapType::None, vec![]),
        ] {
            let data = vec![InfoIpTunnel::EncapType(encapsulation), InfoIpTunnel::EncapDPort(5555)];
            assert_eq!(inputs(InfoKind::IpIp, Some(InfoData::IpTunnel(data))).0, ports);
        }
        let data = vec![InfoGre::EncapType(GreEncapType::Fou), InfoGre::DestinationPort(5555)];
        assert_eq!(inputs(InfoKind::GreTun, Some(InfoData::GreTun(data))), (vec![5555], vec![47]));
        let data = vec![InfoGre6::EncapType(GreEncapType::Gue), InfoGre6::DestinationPort(5555)];
        assert_eq!(inputs(InfoKind::GreTap6, Some(InfoData::GreTap6(data))), (vec![5555], vec![47]));
    }

    #[test]
    fn tunnel_that_is_down_unpacks_nothing() {
        let mut down = link(InfoKind::Vxlan, Some(InfoData::Vxlan(vec![InfoVxlan::Port(8472)])));
        down.header.flags = LinkFlags::empty();
        assert_eq!(tunnel_inputs(&down), TunnelInputs::default());
    }
}
