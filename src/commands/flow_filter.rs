//! Which denied flows `bridgewarden flows` prints.

use crate::flow::{FlowEnd, Reason, Record};
use crate::net::IpNet;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use std::str::FromStr;

/// Conditions that a flow must meet, all of them.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct FlowFilter {
    /// Print only flows with one end in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Print only flows with this pod at one end: NAMESPACE/POD, or a pod's name in any namespace
    #[arg(long, value_name = "POD")]
    pod: Option<EndFilter>,
    /// Print only flows from this end: NAMESPACE/POD, a pod's name, an address, or a block such as 10.0.0.0/8
    #[arg(long, value_name = "END")]
    from: Option<EndFilter>,
    /// Print only flows to this end, written in the same way
    #[arg(long, value_name = "END")]
    to: Option<EndFilter>,
    /// Print only flows to this port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Print only flows with a packet since then: for how long, such as 90s, 5m or 2h, or a time such as 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Print only flows that were denied for this reason, as -o json writes it, such as no-rule-allows
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Option<Reason>,
}

impl FlowFilter {
    /// Whether a flow meets all conditions. `now` is the time of the question, from which `--since` counts.
    pub(super) fn admits(&self, record: &Record, now: Timestamp) -> bool {
        let account = &record.account;
        let (source, destination) = (&account.source, &account.destination);
        let either = |holds: &dyn Fn(&FlowEnd) -> bool| holds(source) || holds(destination);
        self.namespace.as_ref().is_none_or(|name| either(&|end| end.namespace.as_ref() == Some(name)))
            && self.pod.as_ref().is_none_or(|pod| either(&|end| pod.admits(end)))
            && self.from.as_ref().is_none_or(|from| from.admits(source))
            && self.to.as_ref().is_none_or(|to| to.admits(destination))
            && self.port.is_none_or(|port| account.port == Some(port))
            && self.since.as_ref().is_none_or(|since| since.admits(&record.last, now))
            && self.reason.is_none_or(|reason| account.reason == reason)
    }
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
enum EndFilter {
    /// A pod of this name; without a namespace, in any.
    Pod { namespace: Option<String>, name: String },
    /// An address in this block.
    Block(IpNet),
}

impl FromStr for EndFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<EndFilter, String> {
        if let Ok(block) = text.parse::<IpNet>() {
            return Ok(EndFilter::Block(block));
        }
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(EndFilter::Block(address.into()));
        }
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, text),
        };
        let is_name = |name: &str| !name.is_empty() && !name.contains(['/', ' ', ':']);
        if !is_name(name) || namespace.as_deref().is_some_and(|namespace| !is_name(namespace)) {
            return Err(format!("{text:?} is no NAMESPACE/POD, pod, address or block"));
        }
        Ok(EndFilter::Pod { namespace, name: name.to_owned() })
    }
}

impl EndFilter {
    fn admits(&self, end: &FlowEnd) -> bool {
        match self {
            EndFilter::Pod { namespace, name } => {
                end.pod.as_ref() == Some(name) && (namespace.is_none() || *namespace == end.namespace)
            }
            EndFilter::Block(block) => block.contains(&end.address),
        }
    }
}

/// The earliest time of a flow's last packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Since {
    /// This long before the question.
    Ago(SignedDuration),
    /// This time.
    Time(Timestamp),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Since, String> {
        if let Ok(time) = text.parse() {
            return Ok(Since::Time(time));
        }
        match text.parse::<SignedDuration>() {
            Ok(ago) if !ago.is_negative() => Ok(Since::Ago(ago)),
            Ok(_) | Err(_) => Err(format!(
                "{text:?} is neither a duration such as 5m nor a time such as 2026-01-02T03:04:05Z"
            )),
        }
    }
}

impl Since {
    /// A time that cannot be read is printed.
    fn admits(&self, last: &str, now: Timestamp) -> bool {
        let earliest = match self {
            Since::Ago(ago) => now.checked_sub(*ago).unwrap_or(Timestamp::MIN),
            Since::Time(time) => *time,
        };
        last.parse::<Timestamp>().map_or(true, |last| last >= earliest)
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|error| format!("it is no reason of a denied flow: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: FlowFilter,
    }

    const RECORD: &str = r#"{"number":1,"time":"2026-01-02T03:04:05Z","last":"2026-01-02T03:05:00Z","count":2,"node":"a",
        "direction":"ingress","source":{"address":"10.0.0.1","namespace":"shop","pod":"web"},
        "destination":{"address":"10.0.0.2","namespace":"data","pod":"db"},"protocol":"TCP","port":5432,
        "reason":"no-rule-allows","policies":["data/db"]}"#;

    fn admits(words: &[&str]) -> bool {
        let record: Record = serde_json::from_str(RECORD).expect("a record");
        let words = ["flows"].iter().chain(words);
        let filter = Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).filter;
        filter.admits(&record, "2026-01-02T03:10:00Z".parse().expect("a time"))
    }

    #[test]
    fn every_condition_admits_what_it_names_and_nothing_else() {
        let pairs: [(&[&str], &[&str]); 11] = [
            (&[], &["--namespace=kube-system"]),
            (&["-n", "shop"], &["-n", "shop", "--to=web"]),
            (&["--pod=data/db"], &["--pod=shop/db"]),
            (&["--pod=web"], &["--pod=we"]),
            (&["--from=shop/web"], &["--from=data/db"]),
            (&["--from=10.0.0.0/24"], &["--from=10.0.0.2"]),
            (&["--to=10.0.0.2"], &["--to=2001:db8::/64"]),
            (&["--port=5432"], &["--port=543"]),
            (&["--since=5m"], &["--since=4m59s"]),
            (&["--since=2026-01-02T03:05:00Z"], &["--since=2026-01-02T03:05:01Z"]),
            (&["--reason=no-rule-allows"], &["--reason=own-node"]),
        ];
        for (admitted, rejected) in pairs {
            assert!(admits(admitted), "{admitted:?}");
            assert!(!admits(rejected), "{rejected:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for wrong in
            ["--pod=a/b/c", "--from=", "--since=yesterday", "--since=-5m", "--reason=because", "--port=0x10"]
        {
            assert!(Line::try_parse_from(["flows", wrong]).is_err(), "{wrong}");
        }
    }
}
