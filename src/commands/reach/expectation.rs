//! Expectations of who can reach whom, from a file, for tests of policies.

use super::picture::escaped;
use crate::commands::API_VERSION;
use crate::matrix::ReachFilter;
use crate::model::Snapshot;
use crate::net::{Family, PortSet};
use crate::reach::{Pairs, Reach, ReachEnd};
use crate::source::read_document;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

/// How many pairs a failure names.
const SHOWN: usize = 5;

/// A file of expectations.
#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with apiVersion, kind and expectations"
)]
struct ExpectationFile {
    api_version: String,
    kind: String,
    expectations: Vec<Written>,
}

/// An expectation as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an expectation with from and to")]
struct Written {
    name: Option<String>,
    from: OneOrMore,
    #[serde(default)]
    except: OneOrMore,
    to: OneOrMore,
    allowed: Option<OneOrMore>,
    denied: Option<OneOrMore>,
    exactly: Option<OneOrMore>,
}

/// A text or a list of texts.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> OneOrMore {
        OneOrMore::More(Vec::new())
    }
}

impl OneOrMore {
    fn texts(&self) -> &[String] {
        match self {
            OneOrMore::One(text) => std::slice::from_ref(text),
            OneOrMore::More(texts) => texts,
        }
    }

    fn filters(&self) -> Result<Vec<ReachFilter>> {
        self.texts().iter().map(|text| text.parse().map_err(anyhow::Error::msg)).collect()
    }

    fn ports(&self) -> Result<PortSet> {
        self.texts().iter().try_fold(PortSet::default(), |all, text| {
            let ports: PortSet = text.parse().map_err(anyhow::Error::msg)?;
            Ok(all.union(&ports))
        })
    }
}

/// What must hold of each pair.
#[derive(Debug)]
enum WantedPorts {
    /// These are open, and others may be.
    Allowed(PortSet),
    /// None of these is open.
    Denied(PortSet),
    /// These are open, and no others.
    Exactly(PortSet),
}

impl WantedPorts {
    /// What is wrong with what is open between a pair.
    fn fault(&self, open: &PortSet) -> Option<String> {
        let (wanting, excess) = match self {
            WantedPorts::Allowed(ports) => (ports.difference(open), PortSet::default()),
            WantedPorts::Denied(ports) => (PortSet::default(), open.intersection(ports)),
            WantedPorts::Exactly(ports) => (ports.difference(open), open.difference(ports)),
        };
        let parts = [("not allowed", wanting), ("allowed", excess)];
        let parts: Vec<String> = (parts.iter().filter(|(_, ports)| !ports.is_empty()))
            .map(|(what, ports)| format!("{what}: {ports}"))
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Something that must hold.
#[derive(Debug)]
pub(super) struct ReachExpectation {
    name: String,
    from: Vec<ReachFilter>,
    except: Vec<ReachFilter>,
    to: Vec<ReachFilter>,
    wanted: WantedPorts,
}

/// Whether an expectation holds, and if not, why.
#[derive(Debug)]
pub(super) struct Verified {
    name: String,
    faults: Vec<String>,
}

impl Verified {
    pub(super) fn holds(&self) -> bool {
        self.faults.is_empty()
    }

    fn shown_faults(&self) -> Vec<String> {
        let mut shown: Vec<String> = self.faults.iter().take(SHOWN).cloned().collect();
        if self.faults.len() > SHOWN {
            shown.push(format!("and {} more", self.faults.len() - SHOWN));
        }
        shown
    }
}

/// Reads a file of expectations.
pub(super) fn read(path: &Path) -> Result<Vec<ReachExpectation>> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the expectations in {name}"))?;
    parse(&name.to_string(), &text).with_context(|| format!("cannot use the expectations in {name}"))
}

fn parse(name: &str, text: &str) -> Result<Vec<ReachExpectation>> {
    let file: ExpectationFile = read_document(name, text)?;
    let (version, kind) = (API_VERSION, "ReachExpectations");
    ensure!(
        file.api_version == version && file.kind == kind,
        "it begins with apiVersion: {} and kind: {}; write apiVersion: {version} and kind: {kind}",
        file.api_version,
        file.kind
    );
    let expectations = file.expectations.iter().enumerate();
    expectations
        .map(|(index, written)| written.read().with_context(|| format!("expectations[{index}]")))
        .collect()
}

impl Written {
    fn read(&self) -> Result<ReachExpectation> {
        let wanted = match (&self.allowed, &self.denied, &self.exactly) {
            (Some(ports), None, None) => WantedPorts::Allowed(ports.ports()?),
            (None, Some(ports), None) => WantedPorts::Denied(ports.ports()?),
            (None, None, Some(ports)) => WantedPorts::Exactly(ports.ports()?),
            _ => bail!("it must have exactly one of allowed, denied and exactly"),
        };
        let (from, except, to) = (self.from.filters()?, self.except.filters()?, self.to.filters()?);
        ensure!(!from.is_empty() && !to.is_empty(), "it must name at least one end in `from` and in `to`");
        let name = self.name.clone().unwrap_or_else(|| {
            let (verb, ports) = match &wanted {
                WantedPorts::Allowed(ports) => ("reaches", ports),
                WantedPorts::Denied(ports) => ("does not reach", ports),
                WantedPorts::Exactly(ports) => ("reaches exactly", ports),
            };
            format!("{} {verb} {}: {ports}", self.from.texts().join(", "), self.to.texts().join(", "))
        });
        Ok(ReachExpectation { name, from, except, to, wanted })
    }
}

/// Compares expectations with what policies allow.
pub(super) fn verify(expectations: &[ReachExpectation], snapshot: &Snapshot, reach: &Reach) -> Vec<Verified> {
    let mut comparison = ExpectationComparison { snapshot, ends: reach.ends(snapshot), pairs: reach.pairs() };
    let verified = expectations.iter().map(|expectation| Verified {
        name: expectation.name.clone(),
        faults: comparison.faults(expectation),
    });
    verified.collect()
}

/// A name in an expectation, and the places of the ends that it means.
type NamedEnds<'e> = (&'e ReachFilter, BTreeSet<usize>);

struct ExpectationComparison<'r> {
    snapshot: &'r Snapshot,
    ends: Vec<ReachEnd>,
    pairs: Pairs<'r>,
}

impl ExpectationComparison<'_> {
    /// Why an expectation does not hold; empty if it does. A name that means nothing, or of which no connection could be compared,
    /// is a fault: a misspelt expectation would hold for ever.
    fn faults(&mut self, expectation: &ReachExpectation) -> Vec<String> {
        let mut faults = Vec::new();
        let excepted = self.named(&expectation.except, &mut faults);
        let mut from = self.named(&expectation.from, &mut faults);
        let to = self.named(&expectation.to, &mut faults);
        let all = |names: &[NamedEnds<'_>]| -> BTreeSet<usize> {
            names.iter().flat_map(|(_, ends)| ends.iter().copied()).collect()
        };
        let (excepted, named) = (all(&excepted), all(&from));
        from.iter_mut().for_each(|(_, ends)| ends.retain(|end| !excepted.contains(end)));
        let (sources, destinations) = (all(&from), all(&to));
        if sources.is_empty() && !named.is_empty() {
            faults.push("`except` leaves no end of `from`".to_owned());
        }
        if sources.is_empty() || destinations.is_empty() {
            return faults;
        }
        let mut compared = [BTreeSet::new(), BTreeSet::new()];
        for source in &sources {
            for destination in &destinations {
                if self.compare(*source, *destination, &expectation.wanted, &mut faults) {
                    compared[0].insert(*source);
                    compared[1].insert(*destination);
                }
            }
        }
        for (word, names, compared) in [("from", &from, &compared[0]), ("to", &to, &compared[1])] {
            for (name, ends) in names.iter().filter(|(_, ends)| !ends.is_empty()) {
                if ends.is_disjoint(compared) {
                    faults.push(format!(
                        "no connection {word} {name} to compare: policies restrict none of a pod to itself and none between two \
                         addresses outside, and both ends need addresses of one family"
                    ));
                }
            }
        }
        faults
    }

    fn named<'e>(&self, names: &'e [ReachFilter], faults: &mut Vec<String>) -> Vec<NamedEnds<'e>> {
        let mut found = Vec::new();
        for name in names {
            match name.within(self.snapshot) {
                Ok(filter) => {
                    let ends = (0..self.ends.len()).filter(|place| {
                        let end = &self.ends[*place];
                        filter.takes(&end.name, &end.pods)
                    });
                    let ends: BTreeSet<usize> = ends.collect();
                    if ends.is_empty() {
                        faults.push(format!("there is no end {name}"));
                    }
                    found.push((name, ends));
                }
                Err(fault) => faults.push(fault),
            }
        }
        found
    }

    /// Compares what is open between two ends with what is wanted. Returns whether there is a connection to compare.
    fn compare(
        &mut self,
        source: usize,
        destination: usize,
        wanted: &WantedPorts,
        faults: &mut Vec<String>,
    ) -> bool {
        let [from, to] = [&self.ends[source], &self.ends[destination]];
        let is_outside = [from, to].map(|end| end.name.is_outside());
        if source == destination && !from.meets_itself() || is_outside == [true, true] {
            return false;
        }
        let answer = self.pairs.between(from.class, to.class);
        let families = Family::BOTH.map(|family| self.pairs.ports(answer, family));
        let mut add = |fault: String| {
            let fault = format!("{} to {}: {fault}", from.name, to.name);
            if faults.last() != Some(&fault) {
                faults.push(fault);
            }
        };
        let mut open = families.into_iter().flatten().peekable();
        if open.peek().is_none() {
            // Where a family is missing, the addresses outside of the other one may be meant.
            if is_outside != [false, false] {
                return wanted.fault(&PortSet::none()).is_none();
            }
            let fault = wanted.fault(&PortSet::none());
            fault
                .into_iter()
                .for_each(|fault| add(format!("{fault}; they have no family of addresses in common")));
        }
        open.filter_map(|open| wanted.fault(open)).for_each(add);
        true
    }
}

/// Prints results in the Test Anything Protocol, version 14.
pub(super) fn print_tap(verified: &[Verified], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "TAP version 14\n1..{}", verified.len())?;
    for (number, result) in (1..).zip(verified) {
        let outcome = if result.holds() { "ok" } else { "not ok" };
        writeln!(out, "{outcome} {number} - {}", tap_line(&result.name))?;
        if !result.holds() {
            writeln!(out, "  ---\n  faults:")?;
            for fault in result.shown_faults() {
                writeln!(out, "  - {}", serde_json::Value::from(fault))?;
            }
            writeln!(out, "  ...")?;
        }
    }
    Ok(())
}

/// A text as the description of a result: in one line, and without what begins a directive.
fn tap_line(text: &str) -> String {
    let line = text.trim().replace(char::is_control, " ");
    line.replace('\\', "\\\\").replace('#', "\\#")
}

/// Prints results as JUnit XML.
pub(super) fn print_junit(verified: &[Verified], out: &mut impl Write) -> io::Result<()> {
    let failures = verified.iter().filter(|result| !result.holds()).count();
    let tests = verified.len();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuite name=\"bridgewarden reach\" tests=\"{tests}\" failures=\"{failures}\">")?;
    for result in verified {
        let name = escaped(&result.name);
        if result.holds() {
            writeln!(out, "  <testcase classname=\"reach\" name=\"{name}\"/>")?;
            continue;
        }
        let faults = escaped(&result.shown_faults().join("\n"));
        writeln!(out, "  <testcase classname=\"reach\" name=\"{name}\">")?;
        writeln!(out, "    <failure message=\"policies differ from the expectation\">{faults}</failure>")?;
        writeln!(out, "  </testcase>")?;
    }
    writeln!(out, "</testsuite>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(expectation: &str) -> String {
        let text = format!(
            "{{apiVersion: bridgewarden.io/v1alpha1, kind: ReachExpectations, expectations: [{expectation}]}}"
        );
        format!("{:#}", parse("a.yaml", &text).unwrap_err())
    }

    #[test]
    fn expectation_that_is_not_understood_says_what_is_wrong() {
        for (expectation, part) in [
            ("{from: a, to: b}", "expectations[0]: it must have exactly one of allowed, denied and exactly"),
            ("{from: a, to: b, allowed: '80', denied: '81'}", "exactly one of"),
            ("{from: a, to: b, allowed: http}", "`http` is no port"),
            ("{from: 'a b', to: b, denied: all}", "`a b` names no end"),
            ("{from: [], to: b, denied: all}", "at least one end"),
            ("{from: a, to: b, deny: all}", "unknown field `deny`"),
        ] {
            let found = fault(expectation);
            assert!(found.contains(part), "{expectation}: {found}");
        }
        let other = parse("a.yaml", "{apiVersion: v1, kind: Pod, expectations: []}").unwrap_err().to_string();
        assert!(other.contains("write apiVersion: bridgewarden.io/v1alpha1"), "{other}");
    }

    fn results(names: &[&str]) -> Vec<Verified> {
        let verified =
            |name: &&str| Verified { name: (*name).to_owned(), faults: vec![format!("a \"b\" {name}")] };
        names.iter().map(verified).collect()
    }

    #[test]
    fn name_of_an_expectation_ends_neither_its_line_nor_its_element() {
        let results =
            results(&["database\nok 2 - forged\r\n1..9", "a # b \\", "ctrl \u{1} \u{fffe} <\t\u{85}>"]);
        let mut printed = Vec::new();
        print_tap(&results, &mut printed).unwrap();
        let tap = String::from_utf8(printed).unwrap();
        let of_tests =
            |line: &&str| line.starts_with("ok") || line.starts_with("not ok") || line.starts_with("1..");
        assert_eq!(tap.lines().filter(of_tests).count(), 1 + results.len(), "{tap}");
        assert!(tap.contains("not ok 2 - a \\# b \\\\\n"), "{tap}");
        let mut printed = Vec::new();
        print_junit(&results, &mut printed).unwrap();
        let xml = String::from_utf8(printed).unwrap();
        let is_character =
            |c: char| !c.is_control() && c != '\u{fffe}' || matches!(c, '\n' | '\t' | '\r' | '\u{85}');
        assert!(xml.chars().all(is_character), "{xml:?}");
        assert!(xml.contains("name=\"database&#10;ok 2"), "{xml}");
    }

    #[test]
    fn what_is_wanted_is_compared_port_by_port() {
        let ports =
            |text: &str| OneOrMore::More(text.split(' ').map(str::to_owned).collect()).ports().unwrap();
        let open = ports("80/TCP 53/UDP");
        for (wanted, fault) in [
            (WantedPorts::Allowed(ports("80")), None),
            (WantedPorts::Allowed(ports("79-80/TCP")), Some("not allowed: 79/TCP")),
            (WantedPorts::Denied(ports("443")), None),
            (WantedPorts::Denied(ports("all")), Some("allowed: 80/TCP, 53/UDP")),
            (WantedPorts::Exactly(ports("80 53/UDP")), None),
            (WantedPorts::Exactly(ports("80 443")), Some("not allowed: 443/TCP; allowed: 53/UDP")),
        ] {
            assert_eq!(wanted.fault(&open).as_deref(), fault, "{wanted:?}");
        }
    }
}
