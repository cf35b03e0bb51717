//! What the demo prints.

use super::matrix::{LEGEND, Matrix, Paint};
use super::question::Finding;
use crate::explain::oracle::Ruling;
use crate::net::{Family, Protocol};
use crate::testbed::{Endpoint, ProbeOutcome, Testbed};
use std::io::{self, Write};
use std::path::Path;

/// The width of a table if the screen's width is not known.
const WIDTH: usize = 120;

/// The destination of the report, and whether it is coloured.
pub(super) struct Output<'a, W: Write> {
    out: &'a mut W,
    paint: Paint,
}

impl<'a, W: Write> Output<'a, W> {
    /// Writes to `out`.
    pub(super) fn new(out: &'a mut W, paint: Paint) -> Output<'a, W> {
        Output { out, paint }
    }

    /// Prints one or more lines under a heading word.
    pub(super) fn report(&mut self, word: &str, text: &str) -> io::Result<()> {
        for (place, line) in text.lines().enumerate() {
            let word = if place == 0 { word } else { "" };
            writeln!(self.out, "{word:<12} {line}")?;
        }
        self.out.flush()
    }

    /// The table with its legend, in a paragraph of its own.
    pub(super) fn matrix(&mut self, findings: &[Finding]) -> io::Result<()> {
        writeln!(self.out, "\n{}\n{LEGEND}\n", Matrix::of(findings).text(WIDTH, self.paint))
    }

    /// A line for each mismatch, and the totals.
    pub(super) fn result(&mut self, findings: &[Finding]) -> io::Result<()> {
        for line in mismatches(findings) {
            writeln!(self.out, "{line}")?;
        }
        self.report("result", &totals(findings))
    }

    /// Prints commands to inspect the demo with.
    pub(super) fn look_around(&mut self, commands: &[String]) -> io::Result<()> {
        writeln!(self.out, "\nlook around")?;
        for command in commands {
            writeln!(self.out, "  {command}")?;
        }
        writeln!(self.out)?;
        self.out.flush()
    }
}

/// A line for each finding that is not as expected.
pub(super) fn mismatches(findings: &[Finding]) -> Vec<String> {
    let wrong = findings.iter().filter(|finding| !finding.is_as_expected());
    wrong.map(|finding| format!("! {finding}")).collect()
}

/// `648 connections measured, 648 as expected, 0 not`.
pub(super) fn totals(findings: &[Finding]) -> String {
    let right = findings.iter().filter(|finding| finding.is_as_expected()).count();
    let (all, wrong) = (findings.len(), findings.len() - right);
    format!("{all} connections measured, {right} as expected, {wrong} not")
}

/// The values for the suggested commands.
pub(super) struct InspectCommands<'a> {
    /// The network.
    pub(super) testbed: &'a Testbed,
    /// Its first node.
    pub(super) node: &'a str,
    /// The commands that print the rules, each with its program.
    pub(super) print_rules: Vec<(&'static str, String)>,
    /// The address at which the agents serve HTTP.
    pub(super) http: String,
    /// The directory that may be edited.
    pub(super) directory: &'a Path,
    /// What was measured.
    pub(super) findings: &'a [Finding],
}

impl InspectCommands<'_> {
    /// The commands.
    pub(super) fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        if let Some(node) = self.testbed.node_namespace(self.node) {
            let metrics = [("curl", format!("curl -s {}/metrics", self.http))];
            let on_node = self.print_rules.iter().chain(&metrics);
            let there = on_node.filter(|(program, _)| is_there(program));
            commands.extend(there.map(|(_, command)| format!("ip netns exec {} {command}", node.name())));
        }
        commands.extend(self.connections());
        commands.push(format!("ls {}", self.directory.display()));
        if !is_there("ip") {
            commands.iter_mut().for_each(|command| {
                *command = command.replace("ip netns exec ", "nsenter --net=/run/netns/");
            });
        }
        commands
    }

    /// Commands that try an open connection and a denied one, both between pods.
    fn connections(&self) -> Vec<String> {
        let verdicts =
            [|verdict: &Ruling| *verdict == Ruling::Allowed, |verdict: &Ruling| *verdict != Ruling::Allowed];
        let commands = verdicts.into_iter().filter_map(|is_it| {
            let mut findings = self.findings.iter();
            let finding = findings.find(|finding| {
                let connection = &finding.question.connection;
                connection.protocol == Protocol::Tcp
                    && connection.family == Family::V4
                    && matches!(connection.from, Endpoint::Pod(_))
                    && matches!(connection.to, Endpoint::Pod(_))
                    && is_it(&finding.question.expected)
                    && finding.is_as_expected()
            })?;
            let connection = &finding.question.connection;
            let namespace = self.testbed.namespace(&connection.from)?.name();
            let (address, port) = (connection.address, connection.port);
            let command = if is_there("nc") {
                format!("printf '?' | ip netns exec {namespace} nc -w 1 {address} {port}")
            } else {
                // The listener answers this question with its name.
                let ask = format!("exec 3<>/dev/tcp/{address}/{port} && printf ? >&3 && head -n 1 <&3");
                format!("ip netns exec {namespace} bash -c '{ask}'")
            };
            let outcome = if finding.measured == ProbeOutcome::Open { "answers" } else { "is refused" };
            Some(format!("{command}   # {outcome}"))
        });
        commands.collect()
    }
}

/// Whether a program can be started by its name.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::demo::question::tests::{TWO, findings};

    #[test]
    fn result_lists_each_mismatch_and_adds_up() {
        let mut findings = findings(TWO);
        findings[0].measured = ProbeOutcome::Open;
        let mut out = Vec::new();
        Output::new(&mut out, Paint::Plain).result(&findings).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("! outside → shop/db:5432/TCP over IPv4: expected refused"), "{text}");
        assert!(text.ends_with("result       10 connections measured, 9 as expected, 1 not\n"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn text_of_several_lines_stands_under_its_word() {
        let mut out = Vec::new();
        Output::new(&mut out, Paint::Plain).report("latency", "one\ntwo").unwrap();
        assert_eq!(out, b"latency      one\n             two\n");
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(is_there("sh"));
        assert!(!is_there("no-such-program-anywhere"));
    }
}
