//! The way of a frame or packet through a table with every rule that it came to, also those that do not match it.

use super::trace::Walk;
use super::{Frame, HookPoint, Packet, Table, TableFamily, Traced};

/// A rule that a frame or packet came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitedRule {
    /// The chain.
    pub chain: Box<str>,
    /// The rule's position in it, from 0.
    pub position: usize,
    /// The position of its first statement that does not match; `None` if all match.
    pub missed: Option<usize>,
}

/// Traces a frame as [`trace`](super::trace()) does, and returns every rule that it came to.
pub fn visit(table: &Table, point: HookPoint, frame: &Frame) -> (Traced, Vec<VisitedRule>) {
    let mut visited = Vec::new();
    let mut walk = Walk::of_frame(table, frame);
    walk.visited = Some(&mut visited);
    (walk.hook(point, TableFamily::Bridge), visited)
}

/// Traces a packet as [`trace_packet`](super::trace_packet()) does, and returns every rule that it came to.
pub fn visit_packet(table: &Table, point: HookPoint, packet: &Packet) -> (Traced, Vec<VisitedRule>) {
    let mut visited = Vec::new();
    let mut walk = Walk::of_packet(table, packet);
    walk.visited = Some(&mut visited);
    (walk.hook(point, TableFamily::Inet), visited)
}
