//! The way of one connection through what was read from a kernel, rule by rule.

use super::followed_rules::{bridge_stage, filter_stage};
use super::question::{Question, Way};
use super::{Evidence, KernelRules, OthersAhead, Unjudged};
use crate::model::Hardware;
use crate::net::Flow;
use crate::netfilter::iptables::{Packet, State};
use crate::netfilter::nftables::{self, Frame, HookPoint};
use std::net::IpAddr;

/// Where an end of a connection is, seen from the node whose kernel was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndPlace {
    /// A pod of this node.
    LocalPod {
        /// The index of its port of the bridge, if it is known.
        port: Option<u32>,
        /// Its Ethernet address, if it is known.
        hardware: Option<Hardware>,
    },
    /// This node itself.
    ThisNode,
    /// Another node, a pod there, or any other address.
    Elsewhere,
}

/// A connection to follow through the rules that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedFlow {
    /// Its addresses, protocol and port, after a Service's address was translated.
    pub flow: Flow,
    /// Where its source is.
    pub source: EndPlace,
    /// Where its destination is.
    pub destination: EndPlace,
    /// Whether it was sent to a Service.
    pub by_service: bool,
}

/// What the rules that were read do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedPacket {
    /// How the packet comes to the rules, in words.
    pub way: &'static str,
    /// The tables that it meets, in order, up to the one that ends it.
    pub stages: Vec<FollowedStage>,
}

impl FollowedPacket {
    /// Whether it passes all of them, as far as their rules are understood.
    pub fn passes(&self) -> bool {
        self.stages.iter().all(|stage| stage.passes)
    }

    /// The rules of other programs, each with its chain, that may deny it before ours and are not understood.
    pub fn not_understood(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().flat_map(|stage| &stage.not_understood).map(String::as_str)
    }
}

/// What the rules of one hook of one table do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedStage {
    /// The table and the hook.
    pub place: String,
    /// Why no rule sees the packet, if so.
    pub absence: Option<String>,
    /// The rules that it comes to, in order. Of those that it does not match, the first few hundred.
    pub rules: Vec<FollowedRule>,
    /// The rules of other programs in chains that it comes to, before ours, that may drop or reject it and are not understood.
    pub not_understood: Vec<String>,
    /// Its end: `passed`, `accepted`, `dropped` or `rejected`.
    pub end: &'static str,
    /// Whether it goes on.
    pub passes: bool,
}

/// A rule that a packet comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedRule {
    /// The chain.
    pub chain: Box<str>,
    /// Its number in the chain, from 1.
    pub number: usize,
    /// Its text.
    pub text: String,
    /// The part that the packet does not match; `None` if it matches the rule.
    pub missed: Option<String>,
    /// Whether it tells something even if the packet does not match it: it is of a pod, a profile or a policy, or its sets were
    /// asked about the packet.
    pub is_telling: bool,
    /// The sets and maps that the packet was looked up in.
    pub lookups: Vec<SetAnswer>,
    /// The counter of the table that counts what matches it.
    pub counter: Option<Box<str>>,
}

/// What a set or map says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAnswer {
    /// The set or map.
    pub set: Box<str>,
    /// What of the packet was looked up.
    pub value: String,
    /// Whether it is there.
    pub is_member: bool,
    /// The verdict of the element of a map, such as `goto to-7`.
    pub leads_to: Option<String>,
}

/// The rules that were read, in a form in which many connections can be followed through them.
pub struct FollowedRules<'a> {
    evidence: &'a Evidence,
    rules: Result<KernelRules<'a>, Unjudged>,
}

impl<'a> FollowedRules<'a> {
    /// The rules of this kernel.
    pub fn of(evidence: &'a Evidence) -> FollowedRules<'a> {
        FollowedRules { evidence, rules: KernelRules::of(evidence, OthersAhead::All) }
    }

    /// Follows the first packet of a connection. `None` if it meets no rule, because neither end is a pod of this node.
    ///
    /// # Errors
    /// Something that it meets cannot be evaluated.
    pub fn follow(&self, flow: &FollowedFlow) -> Result<Option<FollowedPacket>, String> {
        let Some(way) = way(flow) else { return Ok(None) };
        let mut stages = Vec::new();
        let followed = self.follow_stages(flow, way, &mut stages);
        followed.map_err(|Unjudged(what)| what)?;
        Ok(Some(FollowedPacket { way: way.words(), stages }))
    }

    /// What becomes of a later packet of a connection that the kernel tracks with this mark.
    ///
    /// # Errors
    /// Something that it meets cannot be evaluated.
    pub fn follow_established(&self, flow: &FollowedFlow, mark: u32) -> Result<Option<bool>, String> {
        let Some(way) = way(flow) else { return Ok(None) };
        let packet = Packet {
            state: State::Established,
            connection_mark: mark,
            ..question(flow, way).packet(&self.evidence.options.bridge)
        };
        let passage = self.rules.as_ref().map_err(Clone::clone);
        let passage = passage.and_then(|rules| rules.pass(way.point(), &packet, false));
        passage.map(|passage| Some(passage.passes)).map_err(|Unjudged(what)| what)
    }

    fn follow_stages(
        &self,
        flow: &FollowedFlow,
        way: Way,
        stages: &mut Vec<FollowedStage>,
    ) -> Result<(), Unjudged> {
        let packet = question(flow, way).packet(&self.evidence.options.bridge);
        if let EndPlace::LocalPod { port: Some(port), hardware } = flow.source {
            let points: &[HookPoint] = match way {
                Way::Bridged => &[HookPoint::Prerouting, HookPoint::Forward],
                Way::RoutedBack | Way::Out | Way::In | Way::Relayed | Way::FromNode | Way::ToNode => {
                    &[HookPoint::Prerouting, HookPoint::Input]
                }
            };
            for point in points {
                let output = match (point, flow.destination) {
                    (HookPoint::Forward, EndPlace::LocalPod { port: Some(port), .. }) => port,
                    // Without its port, what the bridge says of it is not known.
                    (HookPoint::Forward, _) => continue,
                    _ => 0,
                };
                let frame = Frame { bytes: frame_bytes(&packet, hardware), input: port, output, mark: 0 };
                stages.extend(bridge_stage(self.evidence, *point, &frame, &packet)?);
                if stages.last().is_some_and(|stage| !stage.passes) {
                    return Ok(());
                }
            }
        }
        let rules = self.rules.as_ref().map_err(Clone::clone)?;
        stages.push(filter_stage(rules, way.point(), &packet)?);
        Ok(())
    }
}

fn question(flow: &FollowedFlow, way: Way) -> Question {
    let Flow { source, destination, port } = flow.flow;
    Question { source, destination, port, way }
}

fn way(flow: &FollowedFlow) -> Option<Way> {
    match (flow.source, flow.destination) {
        (EndPlace::LocalPod { .. }, EndPlace::LocalPod { .. }) if flow.by_service => Some(Way::RoutedBack),
        (EndPlace::LocalPod { .. }, EndPlace::LocalPod { .. }) => Some(Way::Bridged),
        (EndPlace::LocalPod { .. }, EndPlace::ThisNode) => Some(Way::ToNode),
        (EndPlace::LocalPod { .. }, EndPlace::Elsewhere) => Some(Way::Out),
        (EndPlace::ThisNode, EndPlace::LocalPod { .. }) => Some(Way::FromNode),
        (EndPlace::Elsewhere, EndPlace::LocalPod { .. }) => Some(Way::In),
        (EndPlace::ThisNode | EndPlace::Elsewhere, EndPlace::ThisNode | EndPlace::Elsewhere) => None,
    }
}

/// The frame that carries a packet to one receiver.
fn frame_bytes(packet: &Packet, source: Option<Hardware>) -> Vec<u8> {
    const RECEIVER: Hardware = [2, 0, 0, 0, 0xff, 1];
    const SENDER: Hardware = [2, 0, 0, 0, 0xff, 2];
    let kind: [u8; 2] = match packet.source {
        IpAddr::V4(_) => [0x08, 0x00],
        IpAddr::V6(_) => [0x86, 0xdd],
    };
    let mut bytes = [RECEIVER, source.unwrap_or(SENDER)].concat();
    bytes.extend(kind);
    bytes.extend(nftables::Packet::from(packet).bytes);
    // The shortest frame of Ethernet, without its checksum.
    bytes.resize(bytes.len().max(60), 0);
    bytes
}
