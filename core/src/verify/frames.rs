//! Whether each port of the bridge carries the frames of its pod, and no others.

use super::kernel_rules::{bridge_table, met_rules};
use super::verification::EarlyEnd;
use super::{CounterExample, Evidence, Expectation};
use crate::compile::{Bound, PortBinding, Subject, UnknownPods};
use crate::model::Hardware;
use crate::net::Family;
use crate::netfilter::nftables::{Base, Field, Frame, HookPoint, KeyPart, Statement, Table, trace};
use crate::render::Binding;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// An Ethernet address for one receiver.
const SOMEBODY: Hardware = [2, 0, 0, 0, 0xff, 1];
const SOMEBODY_ELSE: Hardware = [2, 0, 0, 0, 0xff, 2];
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The comparison of what ports of the bridge carry with what they must carry.
pub(super) struct FrameCheck<'a> {
    evidence: &'a Evidence,
    expectation: &'a Expectation,
    /// The addresses of pods whose port is known.
    taken: BTreeSet<IpAddr>,
    /// Addresses that a pod could pretend to have.
    addresses: BTreeSet<IpAddr>,
}

/// What a frame is.
#[derive(Clone, Copy, Debug)]
enum Carries {
    Datagram { source: IpAddr, destination: IpAddr },
    Arp(Ipv4Addr),
    Advertisement { source: Ipv6Addr, target: Ipv6Addr },
}

impl<'a> FrameCheck<'a> {
    pub(super) fn new(evidence: &'a Evidence, expectation: &'a Expectation) -> FrameCheck<'a> {
        let bound = expectation.ports.values().filter_map(|binding| match binding {
            PortBinding::Bound(bound) => Some(&bound.addresses),
            PortBinding::Unbound => None,
        });
        let taken: BTreeSet<IpAddr> = bound.flatten().copied().collect();
        let of_no_pod: [IpAddr; 2] =
            [Ipv4Addr::new(192, 0, 2, 9).into(), Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9).into()];
        let local = Family::BOTH.into_iter().flat_map(|family| expectation.local(family));
        let addresses = local.chain(taken.iter().copied()).chain(of_no_pod).collect();
        FrameCheck { evidence, expectation, taken, addresses }
    }

    pub(super) fn run(mut self, agreed: &mut u64) -> Result<(), EarlyEnd> {
        if self.evidence.options.binding != Binding::Ports || self.expectation.ports.is_empty() {
            return Ok(());
        }
        let (table, absence) = bridge_table(self.evidence)?;
        self.addresses.extend(table.into_iter().flat_map(named_addresses));
        for (index, binding) in &self.expectation.ports {
            match binding {
                PortBinding::Bound(bound) => self.bound(table, &absence, *index, bound, agreed)?,
                PortBinding::Unbound => self.unbound(table, &absence, *index, agreed)?,
            }
        }
        Ok(())
    }

    fn bound(
        &self,
        table: Option<&Table>,
        absence: &str,
        index: u32,
        bound: &Bound,
        agreed: &mut u64,
    ) -> Result<(), EarlyEnd> {
        let own_hardware = bound.hardware.unwrap_or(SOMEBODY_ELSE);
        let mut ask = |from: Hardware, carries, is_in: bool, must_pass: bool, reason: &dyn Fn() -> String| {
            let asked = FrameQuestion { index, is_in, from, carries, must_pass };
            asked.compare(table, absence, Some(&bound.subject), reason, agreed)
        };
        for &address in &self.addresses {
            let is_own = bound.addresses.contains(&address);
            let datagram = Carries::Datagram { source: address, destination: elsewhere(address) };
            ask(own_hardware, datagram, true, is_own, &|| match is_own {
                true => format!("{address} is an address of {}", bound.subject),
                false => format!("{address} is no address of {}", bound.subject),
            })?;
            match address {
                IpAddr::V4(address) => ask(own_hardware, Carries::Arp(address), true, is_own, &|| {
                    format!("{} may {}announce {address}", bound.subject, if is_own { "" } else { "not " })
                })?,
                IpAddr::V6(target) => {
                    let own = bound.addresses.iter().find_map(|own| match own {
                        IpAddr::V6(own) => Some(*own),
                        IpAddr::V4(_) => None,
                    });
                    if let Some(source) = own {
                        let advertisement = Carries::Advertisement { source, target };
                        ask(own_hardware, advertisement, true, is_own, &|| {
                            format!(
                                "{} may {}announce {target}",
                                bound.subject,
                                if is_own { "" } else { "not " }
                            )
                        })?;
                    }
                }
            }
            if is_own {
                let to = Carries::Datagram { source: elsewhere(address), destination: address };
                ask(SOMEBODY, to, false, true, &|| format!("{address} is an address of {}", bound.subject))?;
                if bound.hardware.is_some() {
                    ask(SOMEBODY, datagram, true, false, &|| {
                        format!("the Ethernet address is not that of {}", bound.subject)
                    })?;
                }
            } else if bound.ingress_isolated {
                let to = Carries::Datagram { source: elsewhere(address), destination: address };
                ask(SOMEBODY, to, false, false, &|| {
                    format!("{} is isolated, and {address} is none of its addresses", bound.subject)
                })?;
            }
        }
        Ok(())
    }

    /// By a port whose pod is not known comes nothing under the address of a pod whose port is known.
    fn unbound(
        &self,
        table: Option<&Table>,
        absence: &str,
        index: u32,
        agreed: &mut u64,
    ) -> Result<(), EarlyEnd> {
        for &address in &self.addresses {
            let is_taken = self.taken.contains(&address);
            let is_open = self.expectation.unknown_pods == UnknownPods::Allow;
            let must_pass = !is_taken && (is_open || self.expectation.is_local(address));
            let carries = Carries::Datagram { source: address, destination: elsewhere(address) };
            let asked = FrameQuestion { index, is_in: true, from: SOMEBODY_ELSE, carries, must_pass };
            let reason = || match (is_taken, must_pass) {
                (true, _) => format!("{address} is bound to another port"),
                (false, true) => "the pod behind the port is not known, and may have this address".to_owned(),
                (false, false) => format!("no pod of this node has {address}"),
            };
            asked.compare(table, absence, None, &reason, agreed)?;
        }
        Ok(())
    }
}

/// One frame at one port.
struct FrameQuestion {
    index: u32,
    /// Whether it comes in by the port, or goes out.
    is_in: bool,
    from: Hardware,
    carries: Carries,
    must_pass: bool,
}

impl FrameQuestion {
    fn compare(
        &self,
        table: Option<&Table>,
        absence: &str,
        subject: Option<&Subject>,
        reason: &dyn Fn() -> String,
        agreed: &mut u64,
    ) -> Result<(), EarlyEnd> {
        let (point, input, output) = match self.is_in {
            true => (HookPoint::Prerouting, self.index, 0),
            false => (HookPoint::Forward, 0, self.index),
        };
        let frame = Frame { bytes: self.bytes(), input, output, mark: 0 };
        let traced = table.map(|table| trace(table, point, &frame));
        if traced.as_ref().is_none_or(|traced| traced.is_accepted()) == self.must_pass {
            *agreed += 1;
            return Ok(());
        }
        let path = match (&traced, table) {
            (Some(traced), Some(table)) => {
                let end = if traced.is_accepted() { "passed" } else { "dropped" };
                met_rules(table, traced).chain([end.to_owned()]).collect()
            }
            _ => vec![absence.to_owned(), "passed".to_owned()],
        };
        let packet = format!(
            "{} {} port {} of the bridge ({})",
            self.words(),
            if self.is_in { "that comes by" } else { "that goes out by" },
            self.index,
            subject.map_or_else(|| "its pod is not known".to_owned(), ToString::to_string)
        );
        let (must_pass, reason) = (self.must_pass, reason());
        Err(EarlyEnd::Differs(Box::new(CounterExample { packet, must_pass, reason, path })))
    }

    fn words(&self) -> String {
        match self.carries {
            Carries::Datagram { source, destination } => format!("a frame from {source} to {destination}"),
            Carries::Arp(sender) => format!("an ARP frame that announces {sender}"),
            Carries::Advertisement { target, .. } => {
                format!("a neighbour advertisement that announces {target}")
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [SOMEBODY, self.from].concat();
        match self.carries {
            Carries::Datagram { source: IpAddr::V4(source), destination: IpAddr::V4(destination) } => {
                bytes.extend(IPV4);
                bytes.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, UDP, 0, 0]);
                bytes.extend([source.octets(), destination.octets()].concat());
                bytes.extend(DATAGRAM);
            }
            Carries::Datagram { source, destination } => {
                bytes.extend(IPV6);
                bytes.extend([0x60, 0, 0, 0, 0, 8, UDP, 64]);
                [source, destination].into_iter().for_each(|address| bytes.extend(sixteen(address)));
                bytes.extend(DATAGRAM);
            }
            Carries::Arp(sender) => {
                bytes.extend(ARP);
                bytes.extend([0, 1, 8, 0, 6, 4, 0, 1]);
                bytes.extend(self.from);
                bytes.extend(sender.octets());
                bytes.extend([0; 6]);
                bytes.extend(sender.octets());
            }
            Carries::Advertisement { source, target } => {
                bytes.extend(IPV6);
                bytes.extend([0x60, 0, 0, 0, 0, 24, ICMPV6, 255]);
                let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                [source, all_nodes].into_iter().for_each(|address| bytes.extend(address.octets()));
                bytes.extend([NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0]);
                bytes.extend(target.octets());
            }
        }
        // The shortest frame of Ethernet, without its checksum.
        let length = bytes.len().max(60);
        bytes.resize(length, 0);
        bytes
    }
}

/// From port 40000 to port 80, without data.
const DATAGRAM: [u8; 8] = [0x9c, 0x40, 0, 80, 0, 8, 0, 0];

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// An address of the same family that is of no pod.
fn elsewhere(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 200).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xc8, 0, 0, 0, 0, 0xc8).into(),
    }
}

/// The addresses that the rules of a table of family bridge compare with, and that its sets hold.
fn named_addresses(table: &Table) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    for rule in table.chains.values().flat_map(|chain| &chain.rules) {
        for statement in rule.statements() {
            if let Statement::Compare {
                field: Field::Payload { base: Base::Network, length: 4 | 16, .. },
                mask: None,
                value,
                ..
            } = statement
            {
                found.extend(super::address_sets::address(value));
            }
        }
    }
    for set in table.sets.values() {
        for key in set.elements.keys() {
            let address = match set.kind.key.as_slice() {
                [_, KeyPart::Ipv4 | KeyPart::Ipv6] => key.get(4..),
                [KeyPart::Ipv4 | KeyPart::Ipv6] => Some(key),
                _ => None,
            };
            found.extend(address.and_then(super::address_sets::address));
        }
    }
    found.retain(|address| !address.is_unspecified() && !is_link(*address));
    found
}

/// Whether an address is one of a link or a group, of which other rules decide.
fn is_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}
