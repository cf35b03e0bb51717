//! What the kernel does with the connections of an answer, for people.

use super::compared::{BridgeEnd, ComparedFlow, EndOnNode, FlowAgreement, LiveReport, TrackedFlow};
use crate::commands::explain::text::TextStyle;
use crate::net::{Family, Flow, Protocol};
use crate::verify::{FollowedRule, FollowedStage};
use std::io::{self, Write};

/// How many rules are printed that a packet does not match, for each table.
const MOST_MISSED: usize = 12;
/// The beginning of the condition that is false for rules of the other family.
const OF_A_FAMILY: &str = "meta nfproto ";
/// How many connections are printed that the kernel tracks.
const MOST_TRACKED: usize = 5;

/// Prints a report.
pub(in crate::commands::explain) fn print_live(
    report: &LiveReport,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "\nThe kernel of {}, {}", report.node, report.backend.name())?;
    report.remarks.iter().try_for_each(|remark| writeln!(out, "  note: {remark}"))?;
    for flow in &report.flows {
        writeln!(out)?;
        FlowPage { report, flow, style }.print(out)?;
    }
    if report.left_out {
        writeln!(out, "\nThere are more connections; only the first {} were followed", report.flows.len())?;
    }
    let (count, differing) = (report.flows.len(), report.flows.iter().filter(|flow| !flow.agrees()).count());
    match (count, differing) {
        (0 | 1, _) => Ok(()),
        (_, 0) => writeln!(out, "\n{}: kernel and policies agree about all {count}", style.good("AGREE")),
        _ if !report.disagrees() => {
            writeln!(out, "\n{}: about {differing} of {count}", style.bad("NOT KNOWN"))
        }
        _ => writeln!(out, "\n{}: about {differing} of {count}", style.bad("DISAGREE")),
    }
}

struct FlowPage<'a> {
    report: &'a LiveReport,
    flow: &'a ComparedFlow,
    style: TextStyle,
}

impl FlowPage<'_> {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let local = &self.flow.flow;
        let Flow { source, destination, port } = local.followed.flow;
        let port = port.map(|(protocol, port)| format!(" on {port}/{protocol}")).unwrap_or_default();
        let way = self.flow.followed.as_ref().ok().and_then(Option::as_ref).map(|followed| followed.way);
        let way = way.map(|way| format!(", {way}")).unwrap_or_default();
        writeln!(
            out,
            "{} → {}{port}{way}",
            named(&local.source, source),
            named(&local.destination, destination)
        )?;
        self.flow.ends.iter().try_for_each(|end| print_end(end, out))?;
        local.elsewhere.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        if let Ok(Some(followed)) = &self.flow.followed {
            followed.stages.iter().try_for_each(|stage| self.stage(stage, out))?;
        }
        self.tracked(out)?;
        let sentence = self.flow.sentence();
        if self.flow.agrees() {
            return writeln!(out, "  {}: {sentence}", self.style.good("AGREE"));
        }
        let word = if self.flow.agreement() == FlowAgreement::Unjudged { "NOT KNOWN" } else { "DISAGREE" };
        writeln!(out, "  {}: {sentence}", self.style.bad(word))?;
        match self.flow.differences.is_empty() {
            true => writeln!(
                out,
                "    nothing on its way differs from what an agent with these flags would write; bridgewarden verify \
                 compares all of it"
            )?,
            false => writeln!(out, "    what differs from what an agent would write:")?,
        }
        self.flow.differences.iter().try_for_each(|line| writeln!(out, "      {line}"))
    }

    fn stage(&self, stage: &FollowedStage, out: &mut impl Write) -> io::Result<()> {
        let end = if stage.passes { self.style.good(stage.end) } else { self.style.bad(stage.end) };
        writeln!(out, "  {}: {end}", stage.place)?;
        if let Some(absence) = &stage.absence {
            writeln!(out, "    {absence}")?;
        }
        for rule in &stage.not_understood {
            writeln!(out, "    not understood; may decide before: {rule}")?;
        }
        let mut left = MOST_MISSED;
        let mut skipped = 0;
        for rule in &stage.rules {
            match (&rule.missed, rule.is_telling) {
                (None, _) => self.rule(rule, out)?,
                (Some(missed), _) if missed.starts_with(OF_A_FAMILY) => {}
                (Some(_), true) if left > 0 => {
                    left -= 1;
                    self.rule(rule, out)?;
                }
                (Some(_), true) => skipped += 1,
                (Some(_), false) => {}
            }
        }
        if skipped > 0 {
            writeln!(out, "    and {skipped} more rules that do not match; -o json has them")?;
        }
        Ok(())
    }

    fn rule(&self, rule: &FollowedRule, out: &mut impl Write) -> io::Result<()> {
        let family = Family::of(self.flow.flow.followed.flow.source);
        let count = self.report.count(family, rule);
        let count = count.map(|count| format!("  [packets: {}, bytes: {}]", count.packets, count.bytes));
        let count = count.unwrap_or_default();
        writeln!(out, "    {} {}: {}{count}", rule.chain, rule.number, rule.text)?;
        for lookup in &rule.lookups {
            let is = if lookup.is_member { "is" } else { "is not" };
            let leads_to = lookup.leads_to.as_ref().map(|verdict| format!(": {verdict}")).unwrap_or_default();
            writeln!(out, "      {} {is} in {}{leads_to}", lookup.value, lookup.set)?;
        }
        match &rule.missed {
            Some(missed) => writeln!(out, "      does not match: {missed}"),
            None => Ok(()),
        }
    }

    fn tracked(&self, out: &mut impl Write) -> io::Result<()> {
        let tracked = match &self.flow.tracked {
            Ok(tracked) => tracked,
            Err(why) => return writeln!(out, "  conntrack: {why}"),
        };
        if tracked.is_empty() {
            return writeln!(out, "  conntrack: no such connection");
        }
        for one in tracked.iter().take(MOST_TRACKED) {
            writeln!(out, "  conntrack: {}", tracked_text(one))?;
        }
        match tracked.len().checked_sub(MOST_TRACKED) {
            None | Some(0) => Ok(()),
            Some(more) => writeln!(out, "  conntrack: and {more} more"),
        }
    }
}

/// A name with its address, unless it is the address.
fn named(name: &str, address: std::net::IpAddr) -> String {
    let address = address.to_string();
    if name == address { address } else { format!("{name} ({address})") }
}

fn tracked_text(tracked: &TrackedFlow) -> String {
    let TrackedFlow { connection, is_cut, passes } = tracked;
    let protocol = Protocol::from_number(connection.protocol);
    let protocol = protocol.map_or_else(|| connection.protocol.to_string(), |known| known.to_string());
    let dialled = (connection.dialled, connection.dialled_port);
    let by_service = match dialled == (connection.destination, connection.destination_port) {
        true => String::new(),
        false => format!(", dialled as {} port {}", dialled.0, dialled.1),
    };
    let cut = if *is_cut { ", marked as cut" } else { "" };
    let passes = match passes {
        Some(true) => "its packets pass without being evaluated again",
        Some(false) => "its packets are denied",
        None => "it is not known whether its packets pass",
    };
    format!(
        "{protocol} {} port {} → {} port {}{by_service}{cut}: {passes}",
        connection.source, connection.source_port, connection.destination, connection.destination_port
    )
}

fn print_end(end: &EndOnNode, out: &mut impl Write) -> io::Result<()> {
    let EndOnNode { pod, port, .. } = end;
    let Some(BridgeEnd { index, name, binding, problem }) = port else {
        return writeln!(
            out,
            "  {pod}: its port of the bridge is not known, because no CNI result names it (--cni-results-dir)"
        );
    };
    let place = format!("{pod}: port {name} (index {index})");
    match (problem, binding) {
        (Some(problem), _) => writeln!(out, "  {place} {problem}"),
        (None, Ok(binding)) => match &binding.chain {
            None => writeln!(out, "  {place} is not bound"),
            Some(chain) => {
                let mut bound: Vec<String> = binding.addresses.iter().map(ToString::to_string).collect();
                bound.extend(binding.hardware.map(hardware_text));
                let bound = if bound.is_empty() { "no address".to_owned() } else { bound.join(", ") };
                writeln!(out, "  {place} is bound to {bound} (chain {chain})")
            }
        },
        (None, Err(why)) => writeln!(out, "  {place} has a binding that cannot be read: {why}"),
    }
}

/// An Ethernet address.
pub(super) fn hardware_text(hardware: [u8; 6]) -> String {
    hardware.map(|byte| format!("{byte:02x}")).join(":")
}
