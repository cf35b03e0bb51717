//! One line for an attempt that was denied in both families: a client with two addresses tries both.

use crate::flow::{FlowEnd, FlowVerdict, Record};
use crate::model::Direction;
use crate::net::Family;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// How far the first packets of both families may be apart. Clients begin the second after a quarter of a second (RFC 8305), or when the
/// first has failed.
const APART: SignedDuration = SignedDuration::from_secs(10);

/// What is the same of an attempt in both families.
type Attempt = ([String; 3], Option<u16>, String, FlowVerdict, Direction, String);

/// A line to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FlowLine {
    record: Record,
    /// Whether the other family's is the same, and is in this line.
    is_of_both: bool,
}

/// Finds the flows of both families of one attempt.
#[derive(Debug, Default)]
pub(super) struct FamilyPairs {
    /// The last flow of each attempt that has no other yet: its place, its family and its time.
    last: BTreeMap<Attempt, (usize, Family, Timestamp)>,
    lines: Vec<FlowLine>,
}

impl FamilyPairs {
    /// Adds a flow; one of which the other family is there joins its line.
    pub(super) fn add(&mut self, record: Record) {
        let found = attempt(&record).zip(record.time.parse::<Timestamp>().ok());
        let Some((attempt, time)) = found else { return self.push(record) };
        let family = Family::of(record.account.source.address);
        let other = self.last.get(&attempt).copied();
        match other.filter(|(_, of, at)| *of != family && time.duration_since(*at).abs() <= APART) {
            Some((place, _, _)) => {
                self.last.remove(&attempt);
                if let Some(line) = self.lines.get_mut(place) {
                    line.record.count += record.count;
                    line.is_of_both = true;
                }
            }
            None => {
                self.last.insert(attempt, (self.lines.len(), family, time));
                self.push(record);
            }
        }
    }

    /// The lines in the order in which their first flows came.
    pub(super) fn into_lines(self) -> Vec<FlowLine> {
        self.lines
    }

    fn push(&mut self, record: Record) {
        self.lines.push(FlowLine { record, is_of_both: false });
    }
}

/// What is the same in both families; `None` if an end is only an address, which is of one.
fn attempt(record: &Record) -> Option<Attempt> {
    let account = &record.account;
    let pod = |end: &FlowEnd| Some(format!("{}/{}", end.namespace.as_ref()?, end.pod.as_ref()?));
    let names = [record.node.clone(), pod(&account.source)?, pod(&account.destination)?];
    Some((names, account.port, account.protocol.clone(), account.verdict, account.direction, account.why()))
}

impl FlowLine {
    /// The node that denied it.
    pub(super) fn node(&self) -> &str {
        &self.record.node
    }
}

impl std::fmt::Display for FlowLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.record.to_string();
        match text.split_once('\n').filter(|_| self.is_of_both) {
            Some((line, rest)) => write!(f, "{line}, IPv4 and IPv6\n{rest}"),
            None => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Account, Reason};
    use std::net::IpAddr;

    fn record(source: &str, seconds: u32, port: u16) -> Record {
        let end = |pod: &str, address: IpAddr| FlowEnd {
            address,
            namespace: Some("shop".to_owned()),
            pod: Some(pod.to_owned()),
            owner: None,
        };
        let source: IpAddr = source.parse().unwrap();
        let destination = if source.is_ipv4() { [10, 0, 0, 9].into() } else { "fd00::9".parse().unwrap() };
        let time = format!("2026-01-02T03:04:{seconds:02}.5Z");
        let account = Account {
            verdict: FlowVerdict::Denied,
            direction: Direction::Ingress,
            source: end("client", source),
            destination: end("web", destination),
            protocol: "TCP".to_owned(),
            port: Some(port),
            reason: Reason::NoRuleAllows,
            policies: vec!["shop/web".to_owned()],
            nearest: None,
            bridge_port: None,
            uid: None,
        };
        Record { number: 0, time: time.clone(), last: time, count: 2, node: "node-a".to_owned(), account }
    }

    fn lines(records: impl IntoIterator<Item = Record>) -> Vec<String> {
        let mut pairs = FamilyPairs::default();
        records.into_iter().for_each(|record| pairs.add(record));
        pairs.into_lines().iter().map(|line| line.to_string().lines().next().unwrap().to_owned()).collect()
    }

    #[test]
    fn attempt_in_both_families_is_one_line_that_says_so() {
        let both = [record("fd00::1", 5, 80), record("10.0.0.1", 6, 80)];
        assert_eq!(
            lines(both),
            [
                "2026-01-02T03:04:05Z  shop/client -> shop/web 80/TCP  denied by ingress of shop/web, 4 packets, IPv4 and IPv6"
            ]
        );
    }

    #[test]
    fn flows_of_one_family_of_other_ports_or_far_apart_keep_their_lines() {
        let twice = [record("10.0.0.1", 5, 80), record("10.0.0.1", 6, 80)];
        let ports = [record("fd00::1", 5, 80), record("10.0.0.1", 5, 81)];
        let apart = [record("fd00::1", 5, 80), record("10.0.0.1", 16, 80)];
        for records in [twice, ports, apart] {
            let lines = lines(records.clone());
            assert!(lines.len() == 2 && !lines.iter().any(|line| line.contains("and")), "{lines:?}");
        }
        let mut outside = [record("fd00::1", 5, 80), record("10.0.0.1", 5, 80)];
        outside.iter_mut().for_each(|record| record.account.source.pod = None);
        assert_eq!(lines(outside).len(), 2, "addresses are of one family");
    }

    #[test]
    fn second_attempt_of_both_families_is_a_line_of_its_own() {
        let records =
            [5, 7].into_iter().flat_map(|at| [record("fd00::1", at, 80), record("10.0.0.1", at, 80)]);
        assert_eq!(lines(records).len(), 2);
    }
}
