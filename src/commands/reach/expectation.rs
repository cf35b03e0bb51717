//! Expectations of who can reach whom, from a file, for tests of policies.

use super::picture::escaped;
use crate::commands::API_VERSION;
use crate::matrix::ReachFilter;
use crate::model::Snapshot;
use crate::net::{Family, PortSet};
use crate::reach::{Reach, ReachEnd};
use crate::source::read_document;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::io::{self, Write};
use std::path::Path;

/// How many pairs a failure names.
const SHOWN: usize = 5;

/// A file of expectations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ExpectationFile {
    api_version: String,
    kind: String,
    expectations: Vec<Written>,
}

/// An expectation as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
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
    let ends = reach.ends(snapshot);
    let mut pairs = reach.pairs();
    let taken = |filters: &[ReachFilter]| -> Vec<&ReachEnd> {
        ends.iter().filter(|end| filters.iter().any(|filter| filter.takes(&end.name, &end.pods))).collect()
    };
    let mut verified = Vec::new();
    for expectation in expectations {
        let excepted = taken(&expectation.except);
        let sources: Vec<&ReachEnd> =
            taken(&expectation.from).into_iter().filter(|end| !excepted.contains(end)).collect();
        let destinations = taken(&expectation.to);
        let mut faults = Vec::new();
        for (filters, found) in [(&expectation.from, &sources), (&expectation.to, &destinations)] {
            if found.is_empty() {
                let names: Vec<String> = filters.iter().map(ToString::to_string).collect();
                faults.push(format!("there is no end {}", names.join(", ")));
            }
        }
        for source in &sources {
            for destination in &destinations {
                if source == destination || source.name.is_outside() && destination.name.is_outside() {
                    continue;
                }
                let answer = pairs.between(source.class, destination.class);
                for family in Family::BOTH {
                    let fault = pairs.ports(answer, family).and_then(|open| expectation.wanted.fault(open));
                    let fault =
                        fault.map(|fault| format!("{} to {}: {fault}", source.name, destination.name));
                    faults.extend(fault.filter(|fault| !faults.contains(fault)));
                }
            }
        }
        verified.push(Verified { name: expectation.name.clone(), faults });
    }
    verified
}

/// Prints results in the Test Anything Protocol, version 14.
pub(super) fn print_tap(verified: &[Verified], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "TAP version 14\n1..{}", verified.len())?;
    for (number, result) in (1..).zip(verified) {
        let outcome = if result.holds() { "ok" } else { "not ok" };
        writeln!(out, "{outcome} {number} - {}", result.name.replace('#', "\\#"))?;
        if !result.holds() {
            writeln!(out, "  ---\n  faults:")?;
            for fault in result.shown_faults() {
                writeln!(out, "  - \"{}\"", fault.replace('\\', "\\\\").replace('"', "\\\""))?;
            }
            writeln!(out, "  ...")?;
        }
    }
    Ok(())
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
