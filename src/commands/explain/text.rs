//! An answer for people.

use super::change::{advice, few, reliance};
use super::words::{end_text, peer_text};
use crate::explain::{
    Answer, AnsweredCase, AskedPort, CaseAnswer, Fix, NoFix, PeerAnswer, PolicyAnswer, PortAnswer,
    RuleAnswer, SideAnswer, found_label, port_text,
};
use crate::model::{Direction, Peers, Policy, PortMatch, Ports, Snapshot};
use crate::net::{Family, Verdict};
use std::collections::BTreeSet;
use std::io::{self, Write};

/// How many rules of a side are shown that do not match.
const MOST_RULES: usize = 20;
/// How many peers of a rule are shown that do not match.
const MOST_PEERS: usize = 5;

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextStyle {
    Plain,
    Colour,
}

impl TextStyle {
    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            TextStyle::Plain => text.to_owned(),
            TextStyle::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    fn verdict(self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Allowed => self.paint("1;32", "ALLOWED"),
            Verdict::Denied => self.paint("1;31", "DENIED"),
        }
    }
}

/// Prints an answer.
pub(super) fn print(
    snapshot: &Snapshot,
    answer: &Answer<'_>,
    fix: &Result<Fix, NoFix>,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    if answer.cases.len() > 1 {
        let verdict = style.verdict(answer.verdict());
        let how = if answer.is_mixed() { " in part" } else { "" };
        writeln!(out, "{verdict}{how}, in {} cases:", answer.cases.len())?;
        for case in &answer.cases {
            writeln!(out, "  {}", headline(snapshot, answer, case, style))?;
        }
        writeln!(out)?;
    }
    for (number, case) in answer.cases.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        let page = CasePage { snapshot, case, style };
        writeln!(out, "{}", headline(snapshot, answer, case, style))?;
        page.print(fix, out)?;
    }
    Ok(())
}

/// `DENIED  shop/web → shop/db on 5432/TCP`.
fn headline(snapshot: &Snapshot, answer: &Answer<'_>, case: &AnsweredCase<'_>, style: TextStyle) -> String {
    let asked = &case.answer.case;
    let verdict = case.answer.verdict();
    let port = match (asked.port, verdict) {
        (AskedPort::One(protocol, port), _) => format!("{port}/{protocol}"),
        (AskedPort::Any, Verdict::Denied) => "any port".to_owned(),
        (AskedPort::Any, Verdict::Allowed) if case.answer.allowed.is_all() => "any port".to_owned(),
        (AskedPort::Any | AskedPort::Of(_), Verdict::Allowed) => case.answer.allowed.to_string(),
        (AskedPort::Of(protocol), Verdict::Denied) => format!("any {protocol}"),
    };
    let families: BTreeSet<Family> = answer.cases.iter().flat_map(|case| &case.families).copied().collect();
    let over = match case.families[..] {
        [family] if families.len() > 1 => format!(" over {family}"),
        _ => String::new(),
    };
    format!(
        "{}  {} → {} on {port}{over}",
        style.verdict(verdict),
        end_text(snapshot, &asked.source, &case.sources),
        end_text(snapshot, &asked.destination, &case.destinations),
    )
}

/// The explanation of one case.
struct CasePage<'a> {
    snapshot: &'a Snapshot,
    case: &'a AnsweredCase<'a>,
    style: TextStyle,
}

impl CasePage<'_> {
    fn print(&self, fix: &Result<Fix, NoFix>, out: &mut impl Write) -> io::Result<()> {
        let answer = &self.case.answer;
        if answer.to_itself {
            return writeln!(
                out,
                "\nboth ends are one pod or node: policies do not restrict its traffic to itself"
            );
        }
        for direction in Direction::BOTH {
            writeln!(out)?;
            let mut sides = answer.sides.iter().filter(|side| side.direction == direction).peekable();
            if sides.peek().is_none() {
                let (end, members) = match direction {
                    Direction::Egress => (&answer.case.source, &self.case.sources),
                    Direction::Ingress => (&answer.case.destination, &self.case.destinations),
                };
                writeln!(
                    out,
                    "{direction} of {}: {}, it is not in the pod network, so no policy applies",
                    end_text(self.snapshot, end, members),
                    self.style.good("allowed"),
                )?;
            }
            sides.try_for_each(|side| self.side(side, out))?;
        }
        self.change(fix, out)
    }

    fn side(&self, side: &SideAnswer<'_>, out: &mut impl Write) -> io::Result<()> {
        let SideAnswer { direction, subject, policies, .. } = side;
        let verdict = match side.verdict {
            Verdict::Allowed => self.style.good("allowed"),
            Verdict::Denied => self.style.bad("denied"),
        };
        let count = match policies.len() {
            1 => "1 policy isolates it".to_owned(),
            count => format!("{count} policies isolate it"),
        };
        let allowing = policies.iter().filter(|policy| policy.allows()).count();
        let why = match (side.own_node, policies.len(), allowing) {
            (true, _, _) => "the other end is its own node, which policies do not restrict".to_owned(),
            (false, 0, _) => "no policy isolates it".to_owned(),
            (false, 1, 0) => format!("{count} and does not allow this"),
            (false, _, 0) => format!("{count}, and none allows this"),
            (false, 1, _) => format!("{count} and allows this"),
            (false, _, 1) => format!("{count}, and one allows this"),
            (false, _, allowing) => format!("{count}, and {allowing} allow this"),
        };
        writeln!(out, "{direction} of {subject}: {verdict}, {why}")?;
        if side.own_node {
            return Ok(());
        }
        let mut left = MOST_RULES;
        policies.iter().try_for_each(|policy| self.policy(*direction, policy, "", &mut left, out))?;
        self.audited(side, &mut left, out)?;
        for bystander in side.bystanders.iter().filter(|_| side.policies.is_empty()) {
            let key = &bystander.policy.key;
            let labels = self.snapshot.pods.get(*subject).map(|pod| &pod.labels);
            let wanted = bystander.wanted;
            let found = found_label(wanted, labels.and_then(|labels| labels.get(&wanted.key)));
            let place = self.policy_place(bystander.policy);
            writeln!(
                out,
                "  NetworkPolicy {key}{place} does not select it: {subject} has {found}, wanted: {wanted}"
            )?;
        }
        Ok(())
    }

    /// The audited policies, and what would become of the connection if they were enforced.
    fn audited(&self, side: &SideAnswer<'_>, left: &mut usize, out: &mut impl Write) -> io::Result<()> {
        let direction = side.direction;
        let mark = ", audited: not enforced";
        side.audited.iter().try_for_each(|policy| self.policy(direction, policy, mark, left, out))?;
        if side.would_deny {
            let count = match side.audited.len() {
                1 => "the audited policy".to_owned(),
                count => format!("the {count} audited policies"),
            };
            writeln!(out, "  {}", self.style.bad(&format!("it would be denied if {count} were enforced")))?;
        }
        Ok(())
    }

    fn policy_place(&self, policy: &Policy) -> String {
        let origin = self.snapshot.origins.get(&policy.key);
        origin.map(|origin| format!(" ({origin})")).unwrap_or_default()
    }

    fn policy(
        &self,
        direction: Direction,
        answer: &PolicyAnswer<'_>,
        mark: &str,
        left: &mut usize,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let PolicyAnswer { policy, rules } = answer;
        let nothing = if rules.is_empty() { format!(": it has no {direction} rules") } else { String::new() };
        writeln!(out, "  NetworkPolicy {}{}{mark}{nothing}", policy.key, self.policy_place(policy))?;
        for part in policy.invalid_parts.iter().take(MOST_PEERS) {
            writeln!(out, "    invalid, so it allows nothing: {part}")?;
        }
        let mut skipped = 0;
        for rule in rules {
            if !rule.allows && *left == 0 {
                skipped += 1;
                continue;
            }
            *left -= usize::from(!rule.allows);
            self.rule(direction, policy, rule, out)?;
        }
        if skipped > 0 {
            writeln!(out, "    and {skipped} more rules that do not match; -o json has all of them")?;
        }
        Ok(())
    }

    fn rule(
        &self,
        direction: Direction,
        policy: &Policy,
        answer: &RuleAnswer<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let index = answer.rule.index;
        let origin = self.snapshot.origins.get(&policy.key).map(|origin| origin.of_rule(direction, index));
        let origin = origin.map(|origin| format!(" ({origin})")).unwrap_or_default();
        let outcome =
            if answer.allows { self.style.good("allows this") } else { self.style.bad("does not match") };
        writeln!(out, "    {direction}[{index}]{origin}: {outcome}")?;
        let word = match direction {
            Direction::Egress => "to",
            Direction::Ingress => "from",
        };
        match &answer.rule.peers {
            Peers::Anywhere => writeln!(out, "      {word} anywhere: {}", self.style.good("matches"))?,
            Peers::Listed(peers) if peers.is_empty() => {
                writeln!(out, "      {word} none: {}", self.style.bad("no peer is valid"))?;
            }
            Peers::Listed(_) => self.peers(word, policy, &answer.peers, out)?,
        }
        match &answer.rule.ports {
            Ports::All => writeln!(out, "      any port: {}", self.style.good("matches")),
            Ports::Listed(ports) if ports.is_empty() => {
                writeln!(out, "      no port: {}", self.style.bad("no port is valid"))
            }
            Ports::Listed(_) => self.ports(answer, out),
        }
    }

    /// The peer that matches, or else those that miss by the least.
    fn peers(
        &self,
        word: &str,
        policy: &Policy,
        peers: &[PeerAnswer<'_>],
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut shown: Vec<&PeerAnswer<'_>> = peers.iter().collect();
        if let Some(matching) = peers.iter().find(|peer| peer.differences.is_empty()) {
            shown = vec![matching];
        } else {
            shown.sort_by_key(|peer| peer.differences.len());
            shown.truncate(MOST_PEERS);
        }
        for peer in &shown {
            let text = peer_text(policy, peer.peer);
            match peer.differences.as_slice() {
                [] => writeln!(out, "      {word} {text}: {}", self.style.good("matches"))?,
                [one] => writeln!(out, "      {word} {text}: {}", self.style.bad(&one.to_string()))?,
                several => {
                    writeln!(out, "      {word} {text}:")?;
                    for difference in several {
                        writeln!(out, "        {}", self.style.bad(&difference.to_string()))?;
                    }
                }
            }
        }
        let more = peers.len() - shown.len();
        if more > 0 && !shown.iter().any(|peer| peer.differences.is_empty()) {
            writeln!(out, "      {word} {more} more peers that do not match")?;
        }
        Ok(())
    }

    fn ports(&self, answer: &RuleAnswer<'_>, out: &mut impl Write) -> io::Result<()> {
        let text = |port: &PortAnswer<'_>| {
            let text = port_text(port.port);
            match port.port {
                PortMatch::Named(..) if port.declared.is_empty() => format!("{text} (not declared there)"),
                PortMatch::Named(..) => format!("{text} ({} there)", few(port.declared.iter())),
                PortMatch::Protocol(_) | PortMatch::Numbered(..) => text,
            }
        };
        let asked = match self.case.answer.case.port {
            AskedPort::One(protocol, port) => format!("not {port}/{protocol}"),
            AskedPort::Of(protocol) => format!("not {protocol}"),
            AskedPort::Any => "no port there".to_owned(),
        };
        let outcome = if answer.port_matches() {
            self.style.good("matches")
        } else if answer.ports.iter().all(|port| is_undeclared(port)) {
            self.style.bad("the destination declares no such port")
        } else {
            self.style.bad(&asked)
        };
        let ports = few(answer.ports.iter().map(text));
        writeln!(out, "      ports {ports}: {outcome}")
    }

    fn change(&self, fix: &Result<Fix, NoFix>, out: &mut impl Write) -> io::Result<()> {
        match self.case.answer.verdict() {
            Verdict::Allowed => {
                let reliance = reliance(self.snapshot, self.case);
                if !reliance.is_empty() {
                    writeln!(out, "\nIt is allowed by")?;
                }
                reliance.iter().try_for_each(|line| writeln!(out, "  {line}"))
            }
            Verdict::Denied => {
                let advice = advice(self.snapshot, self.case);
                if let Some(sides) = nothing_in_common(&self.case.answer) {
                    return writeln!(out, "\nBoth sides allow something, but no port in common: {sides}");
                }
                writeln!(out, "\nTo allow it")?;
                let denied = self.case.answer.sides.iter().filter(|side| side.verdict == Verdict::Denied);
                let every = advice.len() == denied.count();
                for line in &advice {
                    writeln!(out, "  {line}")?;
                }
                if !every && !advice.is_empty() {
                    writeln!(out, "  and let the other side allow it, where no rule comes near")?;
                }
                match fix {
                    Ok(_) => {
                        let or = if advice.is_empty() { "" } else { "or " };
                        writeln!(
                            out,
                            "  {or}add policies that allow this and nothing else, which --fix prints"
                        )
                    }
                    Err(error) => writeln!(out, "  --fix: {error}"),
                }
            }
        }
    }
}

/// What each side allows, if each allows some of the asked ports and both together allow none.
fn nothing_in_common(answer: &CaseAnswer<'_>) -> Option<String> {
    let is_open = answer.sides.iter().all(|side| side.verdict == Verdict::Allowed);
    let text = |side: &SideAnswer<'_>| format!("{} of {} {}", side.direction, side.subject, side.opens);
    is_open.then(|| answer.sides.iter().map(text).collect::<Vec<_>>().join(", "))
}

/// Whether a port is a name that the destination does not declare.
fn is_undeclared(answer: &PortAnswer<'_>) -> bool {
    matches!(&answer.port, PortMatch::Named(..)) && answer.declared.is_empty()
}
