//! A row: which pod sends which frames, and which must not receive them; legitimate traffic has the same form.

use crate::hosts::{FrameHost, Hosts};
use crate::setup::{BypassTest, Mode};
use bridgewarden::net::Family;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};
use support::frame::*;

/// The least privilege that a process needs to send these frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// User 65534 without capabilities.
    Unprivileged,
    /// CAP_NET_RAW alone, which container runtimes give by default.
    NetRaw,
}

/// What becomes of it in each [`Mode`], as three letters:
///
/// - `-` it doesn't arrive, as it must not
/// - `+` it arrives, as it must
/// - `!` it arrives, though it should not: a known limit
/// - `i` the same with iptables; with nftables it doesn't arrive, as it must not
/// - `x` it doesn't arrive, though it is harmless: what the fallback costs
pub(crate) type Fates = &'static str;

type Frames = Box<dyn Fn(&Shot) -> Vec<Bytes>>;
type Then = Box<dyn Fn(&Shot) -> (&'static str, Bytes)>;

/// A row of the table.
pub(crate) struct Way {
    who: Privilege,
    how: String,
    families: &'static [Family],
    frames: Frames,
    then: Option<Then>,
    tries: Vec<(&'static str, &'static str, Fates)>,
}

/// A way by each family of IP; the frames are built for [`Shot::family`].
pub(crate) fn by_ip(
    who: Privilege,
    how: impl Into<String>,
    frames: impl Fn(&Shot) -> Bytes + 'static,
) -> Way {
    Way::new(who, how.into(), &Family::BOTH, Box::new(move |shot| vec![frames(shot)]))
}

/// A way by IPv4 or ARP.
pub(crate) fn by_ipv4(
    who: Privilege,
    how: impl Into<String>,
    frames: impl Fn(&Shot) -> Bytes + 'static,
) -> Way {
    Way::new(who, how.into(), &[Family::V4], Box::new(move |shot| vec![frames(shot)]))
}

/// A way by IPv6.
pub(crate) fn by_ipv6(
    who: Privilege,
    how: impl Into<String>,
    frames: impl Fn(&Shot) -> Bytes + 'static,
) -> Way {
    Way::new(who, how.into(), &[Family::V6], Box::new(move |shot| vec![frames(shot)]))
}

/// A way by several frames.
pub(crate) fn by_frames(
    who: Privilege,
    how: impl Into<String>,
    families: &'static [Family],
    frames: impl Fn(&Shot) -> Vec<Bytes> + 'static,
) -> Way {
    Way::new(who, how.into(), families, Box::new(frames))
}

impl Way {
    fn new(who: Privilege, how: String, families: &'static [Family], frames: Frames) -> Way {
        Way { who, how, families, frames, then: None, tries: Vec::new() }
    }

    /// From one to another.
    pub(crate) fn sent(mut self, from: &'static str, to: &'static str, fates: Fates) -> Way {
        assert_eq!(fates.len(), Mode::ALL.len(), "{}: a letter for each mode", self.how);
        self.tries.push((from, to, fates));
        self
    }

    /// From a free neighbour into pods that are isolated for ingress.
    pub(crate) fn into_isolated(self, fates: Fates) -> Way {
        self.sent("mallory", "in", fates).sent("mallory", "shut", fates)
    }

    /// From pods that are isolated for egress to a free neighbour.
    pub(crate) fn out_of_isolated(self, fates: Fates) -> Way {
        self.sent("out", "free", fates).sent("shut", "free", fates)
    }

    /// Both.
    pub(crate) fn past_isolation(self, fates: Fates) -> Way {
        self.into_isolated(fates).out_of_isolated(fates)
    }

    /// Past isolation by what the rules excuse where they know only addresses. With iptables both directions excuse it. With nftables
    /// each decides for itself, so a pod that is isolated for ingress does not receive it at its address.
    pub(crate) fn excused(self, to_address: bool) -> Way {
        self.into_isolated(if to_address { "--i" } else { "--!" }).out_of_isolated("--!")
    }

    /// Into an isolated pod from another node, and out of one to another node and to the outside.
    pub(crate) fn routed(self, fates: Fates) -> Way {
        let way = self.sent("far-free", "in", fates).sent("out", "far-free", fates);
        way.sent("out", "outside", fates)
    }

    /// Between two pods that nothing isolates.
    pub(crate) fn among_free(self, fates: Fates) -> Way {
        self.sent("mallory", "free", fates)
    }

    /// What another host sends after it, which is then what must not arrive.
    pub(crate) fn then(mut self, then: impl Fn(&Shot) -> (&'static str, Bytes) + 'static) -> Way {
        self.then = Some(Box::new(then));
        self
    }
}

/// One attempt.
pub(crate) struct Shot<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) from: &'a FrameHost,
    pub(crate) to: &'a FrameHost,
    pub(crate) family: Family,
    /// Eight octets that no other attempt has.
    pub(crate) token: [u8; 8],
}

/// The destination port: without a listener, which does not change what arrives.
pub(crate) const PORTS: [u16; 2] = [40_000, 7777];

impl Shot<'_> {
    /// The node of the sender.
    pub(crate) fn node(&self) -> &FrameHost {
        self.hosts.get(self.from.node)
    }

    /// The Ethernet address that the sender's kernel would send to.
    pub(crate) fn next_hop(&self) -> Mac {
        if self.from.node == self.to.node { self.to.mac } else { self.node().mac }
    }

    pub(crate) fn own(&self) -> IpAddr {
        self.from.address(self.family)
    }

    pub(crate) fn theirs(&self) -> IpAddr {
        self.to.address(self.family)
    }

    pub(crate) fn of(&self, name: &str) -> IpAddr {
        self.hosts.get(name).address(self.family)
    }

    /// A packet in a frame as the sender's kernel would send it.
    pub(crate) fn frame(&self, packet: &[u8]) -> Bytes {
        ethernet(self.next_hop(), self.from.mac, type_of(packet), packet)
    }

    /// A datagram with the token.
    pub(crate) fn udp(&self, source: IpAddr, destination: IpAddr) -> Bytes {
        ip(source, destination, UDP, &udp(source, destination, PORTS, &self.token))
    }

    /// The first packet of a TCP connection, with the token.
    pub(crate) fn syn(&self, source: IpAddr, destination: IpAddr) -> Bytes {
        ip(source, destination, TCP, &tcp(source, destination, PORTS, [1, 0], SYN, &self.token))
    }

    /// A legitimate datagram.
    pub(crate) fn datagram(&self) -> Bytes {
        self.udp(self.own(), self.theirs())
    }

    /// An ICMPv6 message with the token, in a frame to the Ethernet address that goes with its destination.
    pub(crate) fn icmpv6(
        &self,
        [source, destination]: [Ipv6Addr; 2],
        kind: u8,
        hops: u8,
        body: &[u8],
    ) -> Bytes {
        let body = [body, &self.token].concat();
        let message = icmpv6(source, destination, [kind, 0], &body);
        let packet = ipv6(source, destination, ICMPV6, hops, &message);
        let mac = if destination.is_multicast() { group_mac(destination.into()) } else { self.next_hop() };
        ethernet(mac, self.from.mac, IPV6, &packet)
    }
}

impl BypassTest {
    /// Tries every way; returns what became of it otherwise than wanted, one a line.
    pub(crate) fn differing(&mut self, ways: &[Way]) -> Vec<String> {
        let mut differing = Vec::new();
        let index = Mode::ALL.iter().position(|mode| *mode == self.mode).expect("a mode");
        for way in ways {
            for (from, to, fates) in &way.tries {
                let fate = char::from(fates.as_bytes()[index]);
                let arrives = match fate {
                    '+' | '!' => true,
                    '-' | 'x' => false,
                    'i' => self.backend != "nftables",
                    other => panic!("{}: {other} is no fate", way.how),
                };
                for &family in way.families {
                    let said = match self.attempt(way, from, to, family) {
                        Ok(arrived) if arrived == arrives => continue,
                        Ok(true) => "it got past",
                        Ok(false) => "it didn't arrive",
                        Err(said) => said,
                    };
                    let Way { who, how, .. } = way;
                    differing.push(format!("{fate} {who:?} {from} -> {to} {family:?}: {how}: {said}"));
                }
            }
        }
        differing
    }

    /// Whether what a way sends arrives.
    fn attempt(&mut self, way: &Way, from: &str, to: &str, family: Family) -> Result<bool, &'static str> {
        let token = self.token();
        let (frames, then) = {
            let (from, to) = (self.hosts.get(from), self.hosts.get(to));
            let shot = Shot { hosts: &self.hosts, from, to, family, token };
            ((way.frames)(&shot), way.then.as_ref().map(|then| then(&shot)))
        };
        self.drain(to);
        for frame in &frames {
            self.hosts.get_mut(from).socket.send(frame);
        }
        if let Some((host, frame)) = then {
            self.hosts.get_mut(host).socket.send(&frame);
        }
        let own = self.hosts.get(to).mac;
        let forges_receiver = from != to && frames.iter().any(|frame| frame[6..12] == own);
        let arrived = |frame: &[u8]| {
            // What the receiver sends itself is seen as well: it may quote what was denied elsewhere.
            let comes = frame.get(6..12) != Some(&own) || forges_receiver;
            let same = from != to && frames.iter().any(|sent| frame.starts_with(sent));
            comes && (same || contains(frame, &token))
        };
        let node = self.hosts.get(from).node;
        let friend = match (node, to) {
            ("node-b", "far-friend") => "far-free",
            ("node-a", "friend") => "target",
            ("node-b", _) => "far-friend",
            _ => "friend",
        };
        let outcome = self.fence(friend, to, Duration::from_secs(3), arrived);
        self.announce(node);
        outcome.ok_or("what was sent after it didn't arrive")
    }

    fn token(&mut self) -> [u8; 8] {
        self.attempts += 1;
        format!("bw{:06}", self.attempts).into_bytes().try_into().expect("eight octets")
    }

    pub(crate) fn drain(&mut self, host: &str) {
        let socket = &mut self.hosts.get_mut(host).socket;
        while socket.next().is_some() {}
    }

    /// Sends a legitimate datagram after what was sent, and reads until it arrives. True if a frame was what is looked for;
    /// nothing if the datagram didn't arrive.
    pub(crate) fn fence(
        &mut self,
        from: &str,
        to: &str,
        timeout: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Option<bool> {
        let token = self.token();
        let frame = {
            let (from, to) = (self.hosts.get(from), self.hosts.get(to));
            let shot = Shot { hosts: &self.hosts, from, to, family: Family::V4, token };
            shot.frame(&shot.datagram())
        };
        self.hosts.get_mut(from).socket.send(&frame);
        let socket = &mut self.hosts.get_mut(to).socket;
        let start = Instant::now();
        let mut found = false;
        while start.elapsed() < timeout {
            let Some(frame) = socket.next() else { continue };
            found |= wanted(frame);
            if contains(frame, &token) {
                return Some(found);
            }
        }
        None
    }

    pub(crate) fn fence_arrives(&mut self, from: &str, to: &str, timeout: Duration) -> bool {
        self.fence(from, to, timeout, |_| false).is_some()
    }

    /// Every host on a node announces itself, so that the bridge learns again where each Ethernet address is.
    fn announce(&mut self, node: &str) {
        let names: Vec<_> = self.hosts.on(node).map(|host| host.name).filter(|name| *name != node).collect();
        for name in names {
            let host = self.hosts.get_mut(name);
            let announcement = arp(1, (host.mac, host.v4), ([0; 6], host.v4));
            let frame = ethernet(BROADCAST, host.mac, ARP, &announcement);
            host.socket.send(&frame);
        }
    }
}

fn contains(frame: &[u8], token: &[u8]) -> bool {
    frame.windows(token.len()).any(|window| window == token)
}
