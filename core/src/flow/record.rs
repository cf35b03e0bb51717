//! The report of a denied flow.

use crate::model::Direction;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// One denied flow. As JSON, a line of `bridgewarden flows -o json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// Its number since the daemon started. A later record with the same number is the same flow with a higher count.
    pub number: u64,
    /// When its first packet was seen (RFC 3339).
    pub time: String,
    /// When its last packet was seen (RFC 3339).
    pub last: String,
    /// How many of its packets were seen. At most ten packets a second of one pod and direction are looked at.
    pub count: u64,
    /// The node that denied it.
    pub node: String,
    /// What is known about it.
    #[serde(flatten)]
    pub account: Account,
}

/// What is known about a denied flow, besides when and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Account {
    /// Whether it was denied.
    #[serde(default)]
    pub verdict: FlowVerdict,
    /// `ingress` if the destination's policies denied it, `egress` if the source's did.
    #[serde(with = "direction_word")]
    pub direction: Direction,
    /// The sender.
    pub source: FlowEnd,
    /// The receiver.
    pub destination: FlowEnd,
    /// `TCP`, `UDP`, `SCTP`, `ICMP` by type and code, or the protocol's number.
    pub protocol: String,
    /// Its destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Why it was denied.
    pub reason: Reason,
    /// The policies that isolate the pod in this direction (`namespace/name`); none of them allows it. If it would have been denied:
    /// the audited policies among them.
    pub policies: Vec<String>,
    /// The rule that differs from the flow in one thing only, and would allow it otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<NearestRecord>,
    /// The name of the bridge port at which it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_port: Option<String>,
    /// The uid of the pod whose policies denied it, if it is known.
    #[serde(skip)]
    pub uid: Option<String>,
}

/// Whether a flow was denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowVerdict {
    /// It was.
    #[default]
    Denied,
    /// It was allowed, and would have been denied if the audited policies of the pod were enforced.
    WouldBeDenied,
}

impl fmt::Display for FlowVerdict {
    /// `denied` or `would be denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FlowVerdict::Denied => "denied",
            FlowVerdict::WouldBeDenied => "would be denied",
        })
    }
}

impl Account {
    /// The end whose policies denied it.
    pub fn refuser(&self) -> &FlowEnd {
        match self.direction {
            Direction::Ingress => &self.destination,
            Direction::Egress => &self.source,
        }
    }
}

/// Writes a direction as `ingress` or `egress`.
mod direction_word {
    use crate::model::Direction;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(direction)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Direction, D::Error> {
        let word = String::deserialize(deserializer)?;
        let direction = Direction::BOTH.into_iter().find(|direction| direction.to_string() == word);
        direction.ok_or_else(|| D::Error::custom(format!("{word:?} is no direction")))
    }
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FlowEnd {
    /// Its address.
    pub address: IpAddr,
    /// The namespace of the pod that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name of the pod that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The object that controls that pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerRecord>,
}

/// The controller of a pod, in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct OwnerRecord {
    /// Its kind, such as `ReplicaSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for OwnerRecord {
    /// `ReplicaSet/web-5d9c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl fmt::Display for FlowEnd {
    /// `namespace/pod`, or the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.namespace, &self.pod) {
            (Some(namespace), Some(pod)) => write!(f, "{namespace}/{pod}"),
            (Some(_) | None, _) => write!(f, "{}", self.address),
        }
    }
}

/// Why a flow was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Policies isolate the pod, and none of their rules allows it.
    NoRuleAllows,
    /// The API server has not reported the pod yet (`--unknown-pods=reject`).
    PodNotYetKnown,
    /// The pod is isolated for egress, and must not reach its own node (`--pod-to-node=drop`).
    OwnNode,
    /// Pods or policies have changed since it was denied: it would be allowed now.
    AllowedByNow,
    /// The source is not an address of the pod that sent it (`--bind-addresses`).
    SpoofedSource,
    /// In neighbour discovery, the pod claimed an address that it does not have, or the role of a router.
    ForgedDiscovery,
    /// The destination is not an address of the pod to which it would have been sent, or of any pod of this node.
    NotAnAddressOfItsOwn,
    /// Link-local traffic of a pod that policies isolate.
    LinkLocalUnderIsolation,
    /// Broadcast or multicast of a pod that policies isolate.
    GroupUnderIsolation,
    /// A protocol that policies cannot name, from or to a pod that policies isolate, or a VLAN tag.
    ProtocolUnderIsolation,
    /// To a tunnel of the nodes, which would unpack a packet from any address (`--bind-addresses`).
    ToTunnel,
    /// In a frame to an Ethernet address that bridges keep for themselves, 01:80:c2:00:00:0x (`--bind-addresses`).
    ReservedAddress,
}

/// The rule that differs from a flow in one thing only, and would allow it otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NearestRecord {
    /// The policy, as `namespace/name`.
    pub policy: String,
    /// The rule, as `spec.ingress[0]`.
    pub rule: String,
    /// The difference: `port`, `protocol`, `pod-label`, `namespace-label`, `namespace`, `except` or `address`.
    pub differs: String,
    /// The difference in words.
    pub note: String,
}

impl fmt::Display for Record {
    /// Two lines for people: the two ends and the policies, then the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { verdict, direction, source, destination, protocol, port, .. } = &self.account;
        // The fraction of the second is left out; the rest can be given to `--since`.
        match self.time.split_once('.') {
            Some((time, _)) => write!(f, "{time}Z")?,
            None => f.write_str(&self.time)?,
        }
        write!(f, "  {source} -> {destination} ")?;
        match port {
            Some(port) => write!(f, "{port}/{protocol}")?,
            None => write!(f, "{protocol}")?,
        }
        write!(f, "  {verdict} by {direction} of {}", self.account.refuser())?;
        if self.count > 1 {
            write!(f, ", {} packets", self.count)?;
        }
        write!(f, "\n    {}", self.account.why())
    }
}

impl Account {
    fn at_port(&self, why: &str) -> String {
        match &self.bridge_port {
            Some(port) => format!("{why} (port {port})"),
            None => why.to_owned(),
        }
    }

    /// The reason, in a sentence.
    pub fn why(&self) -> String {
        match self.reason {
            Reason::NoRuleAllows => {
                let all = self.policies.join(", ");
                let word = match (self.verdict, self.policies.len()) {
                    (FlowVerdict::Denied, 1) => "policy",
                    (FlowVerdict::Denied, _) => "policies",
                    (FlowVerdict::WouldBeDenied, 1) => "audited policy",
                    (FlowVerdict::WouldBeDenied, _) => "audited policies",
                };
                match &self.nearest {
                    Some(nearest) => {
                        format!(
                            "{word} {all}; nearest: {} of {} {}",
                            nearest.rule, nearest.policy, nearest.note
                        )
                    }
                    None => format!("{word} {all}; no rule is close to allowing it"),
                }
            }
            Reason::PodNotYetKnown => "pod not yet known: the API server has not reported it".to_owned(),
            Reason::OwnNode => "--pod-to-node=drop denies connections to the pod's own node".to_owned(),
            Reason::AllowedByNow => "pods or policies have changed since: it would be allowed now".to_owned(),
            Reason::SpoofedSource => {
                self.at_port(&format!("spoofed source: {} is not the sender's address", self.source.address))
            }
            Reason::ForgedDiscovery => self.at_port(
                "forged neighbour discovery: the pod announces an address or a router that it is not",
            ),
            Reason::NotAnAddressOfItsOwn => self.at_port(&format!(
                "not an address of its own: no pod at that port has {}",
                self.destination.address
            )),
            Reason::LinkLocalUnderIsolation => {
                self.at_port("link-local under isolation: no policy can allow it")
            }
            Reason::GroupUnderIsolation => {
                self.at_port("broadcast or multicast under isolation: no policy can allow it")
            }
            Reason::ProtocolUnderIsolation => {
                self.at_port("a VLAN tag, or a protocol that policies do not cover, under isolation")
            }
            Reason::ReservedAddress => {
                self.at_port("packet in a frame to an address that bridges keep for themselves (LLDP)")
            }
            Reason::ToTunnel => self.at_port(
                "encapsulated packet for a tunnel of the nodes: policies could not see what is in it",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        let end = |host: u8, pod: Option<&str>| FlowEnd {
            address: [10, 244, 1, host].into(),
            namespace: pod.map(|_| "shop".to_owned()),
            pod: pod.map(str::to_owned),
            owner: pod.map(|pod| OwnerRecord { kind: "ReplicaSet".into(), name: format!("{pod}-5d9c") }),
        };
        let nearest = NearestRecord {
            policy: "shop/web".into(),
            rule: "spec.ingress[0]".into(),
            differs: "port".into(),
            note: "would allow it except for the port: 80/TCP, not 8080/TCP".into(),
        };
        let account = Account {
            verdict: FlowVerdict::Denied,
            direction: Direction::Ingress,
            source: end(1, None),
            destination: end(2, Some("web")),
            protocol: "TCP".into(),
            port: Some(8080),
            reason: Reason::NoRuleAllows,
            policies: vec!["shop/web".into()],
            nearest: Some(nearest),
            bridge_port: None,
            uid: None,
        };
        let time = "2026-01-02T03:04:05.678Z".to_owned();
        Record { number, time: time.clone(), last: time, count: 1, node: "node-a".into(), account }
    }

    #[test]
    fn record_reads_as_who_and_by_whom_and_why() {
        assert_eq!(
            record(0).to_string(),
            "2026-01-02T03:04:05Z  10.244.1.1 -> shop/web 8080/TCP  denied by ingress of shop/web\n    policy shop/web; \
             nearest: spec.ingress[0] of shop/web would allow it except for the port: 80/TCP, not 8080/TCP"
        );
        let mut other = record(0);
        other.count = 3;
        other.account.reason = Reason::PodNotYetKnown;
        other.account.port = None;
        other.account.protocol = "ICMP 8/0".into();
        let text = other.to_string();
        assert!(text.contains(" ICMP 8/0  denied by ingress of shop/web, 3 packets\n"), "{text}");
        assert!(text.ends_with("pod not yet known: the API server has not reported it"), "{text}");
        let mut audited = record(0);
        audited.account.verdict = FlowVerdict::WouldBeDenied;
        let text = audited.to_string();
        assert!(text.contains(" 8080/TCP  would be denied by ingress of shop/web\n"), "{text}");
        assert!(text.contains("audited policy shop/web; nearest: "), "{text}");
    }

    #[test]
    fn record_survives_the_way_through_json() {
        let record = record(7);
        let json = serde_json::to_string(&record).unwrap();
        assert!(
            json.contains(r#""reason":"no-rule-allows""#) && json.contains(r#""direction":"ingress""#),
            "{json}"
        );
        assert!(json.contains(r#""owner":{"kind":"ReplicaSet","name":"web-5d9c"}"#), "{json}");
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        let mut audited = record.clone();
        audited.account.verdict = FlowVerdict::WouldBeDenied;
        let json = serde_json::to_string(&audited).unwrap();
        assert!(json.contains(r#""verdict":"would-be-denied""#), "{json}");
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), audited);
    }
}
