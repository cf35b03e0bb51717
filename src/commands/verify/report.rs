//! What is printed of a verification.

use crate::commands::API_VERSION;
use crate::model::{PodKey, Policy, PolicyKey, PolicyVersion};
use crate::netfilter::BackendName;
use crate::observe::Build;
use crate::verify::{CounterExample, Verification, VerificationOutcome};
use serde_json::{Value, json};
use std::fmt;
use std::net::IpAddr;

/// How many differences are printed for people; of the others, there is a count.
const NAMED: usize = 10;

/// What came of a verification, and of what.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// When the facts were read.
    pub(super) time: jiff::Timestamp,
    pub(super) node: String,
    pub(super) source: String,
    pub(super) backend: BackendName,
    /// The attempt that it came of, from 1.
    pub(super) attempt: u32,
    pub(super) namespaces: usize,
    /// Those with an address.
    pub(super) pods: usize,
    pub(super) policies: usize,
    /// The policies that select pods of this node.
    pub(super) judged_policies: Vec<JudgedPolicy>,
    /// The pods of this node.
    pub(super) judged_pods: Vec<JudgedPod>,
    /// Of what was read from the kernel.
    pub(super) digest: String,
    pub(super) verification: Verification,
    /// What in the kernel differs from what an agent would write.
    pub(super) differences: Vec<String>,
}

/// Which state of a policy was compared.
#[derive(Clone, Debug)]
pub(super) struct JudgedPolicy {
    key: PolicyKey,
    uid: Option<String>,
    version: PolicyVersion,
}

impl JudgedPolicy {
    pub(super) fn of(policy: &Policy) -> JudgedPolicy {
        let uid = policy.uid.as_deref().map(str::to_owned);
        JudgedPolicy { key: policy.key.clone(), uid, version: policy.version.clone() }
    }

    fn json(&self) -> Value {
        json!({
            "namespace": self.key.namespace.to_string(),
            "name": self.key.name.to_string(),
            "uid": self.uid,
            "generation": self.version.generation,
            "resourceVersion": self.version.resource,
        })
    }
}

/// Which pod was compared.
#[derive(Clone, Debug)]
pub(super) struct JudgedPod {
    pub(super) key: PodKey,
    pub(super) uid: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
}

impl JudgedPod {
    fn json(&self) -> Value {
        json!({
            "namespace": self.key.namespace.to_string(),
            "name": self.key.name.to_string(),
            "uid": self.uid,
            "addresses": self.addresses.iter().map(ToString::to_string).collect::<Vec<String>>(),
        })
    }
}

impl Report {
    /// The same for programs, as docs/verify.md describes it.
    pub(super) fn json(&self) -> Value {
        let Verification { decisions, frames, addresses, peer_classes, finding } = &self.verification;
        let (result, counter_example, unjudged) = match finding {
            VerificationOutcome::Verified => ("verified", Value::Null, Value::Null),
            VerificationOutcome::Differs(example) => {
                let CounterExample { packet, must_pass, reason, path } = &**example;
                let example = json!({
                    "packet": packet,
                    "policies": if *must_pass { "allow" } else { "deny" },
                    "kernel": if *must_pass { "denies" } else { "allows" },
                    "reason": reason,
                    "path": path,
                });
                ("differs", example, Value::Null)
            }
            VerificationOutcome::Unjudged(what) => ("unjudged", Value::Null, what.as_str().into()),
        };
        json!({
            "apiVersion": API_VERSION,
            "kind": "Verification",
            "time": self.time.to_string(),
            "version": Build::THIS.version,
            "revision": Build::THIS.revision,
            "node": self.node,
            "source": self.source,
            "backend": self.backend.name(),
            "attempts": self.attempt,
            "result": result,
            "decisions": { "packets": decisions, "frames": frames },
            "addresses": addresses,
            "peerClasses": peer_classes,
            "objects": { "namespaces": self.namespaces, "pods": self.pods, "policies": self.policies },
            "policies": self.judged_policies.iter().map(JudgedPolicy::json).collect::<Vec<Value>>(),
            "pods": self.judged_pods.iter().map(JudgedPod::json).collect::<Vec<Value>>(),
            "rulesDigest": format!("sha256:{}", self.digest),
            "counterExample": counter_example,
            "unjudged": unjudged,
            "differences": self.differences,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verification { decisions, frames, addresses, peer_classes, finding } = &self.verification;
        match finding {
            VerificationOutcome::Verified => {
                return write!(
                    f,
                    "{decisions} decisions verified: {addresses} addresses of pods on {}, {peer_classes} classes of peers, {} \
                     policies; and {frames} about frames at ports of the bridge",
                    self.node, self.policies
                );
            }
            VerificationOutcome::Differs(example) => write!(f, "{example}")?,
            VerificationOutcome::Unjudged(what) => write!(f, "nothing is verified: {what}")?,
        }
        if !self.differences.is_empty() {
            write!(f, "\n  what differs from what an agent would write:")?;
        }
        for difference in self.differences.iter().take(NAMED) {
            write!(f, "\n    {difference}")?;
        }
        match self.differences.len().checked_sub(NAMED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n    and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(value: &Value) -> BTreeSet<&str> {
        value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn json_has_the_fields_of_its_schema() {
        let schema: Value =
            serde_json::from_str(include_str!("../../../docs/verification.schema.json")).unwrap();
        let example = CounterExample {
            packet: "shop/a to shop/b".into(),
            must_pass: false,
            reason: "no rule allows it".into(),
            path: vec!["FORWARD".into()],
        };
        let outcomes = [
            (VerificationOutcome::Verified, "verified"),
            (VerificationOutcome::Differs(Box::new(example)), "differs"),
            (VerificationOutcome::Unjudged("a rule".into()), "unjudged"),
        ];
        for (finding, result) in outcomes {
            let report = Report {
                time: jiff::Timestamp::UNIX_EPOCH,
                node: "node-a".into(),
                source: "cluster".into(),
                backend: BackendName::Nftables,
                attempt: 1,
                namespaces: 1,
                pods: 2,
                policies: 3,
                judged_policies: vec![JudgedPolicy {
                    key: PolicyKey::new("shop", "web"),
                    uid: None,
                    version: PolicyVersion { generation: Some(2), resource: Some("4711".into()) },
                }],
                judged_pods: vec![JudgedPod {
                    key: PodKey::new("shop", "web-0"),
                    uid: Some("u".into()),
                    addresses: vec![IpAddr::from([10, 0, 0, 1])],
                }],
                digest: "00".into(),
                verification: Verification {
                    decisions: 4,
                    frames: 5,
                    addresses: 6,
                    peer_classes: 7,
                    finding,
                },
                differences: Vec::new(),
            };
            let json = report.json();
            assert_eq!(json["result"], result);
            assert_eq!(names(&json), names(&schema["properties"]));
            assert_eq!(json["policies"][0]["resourceVersion"], "4711");
            for part in ["policies", "pods"] {
                let fields = names(&schema["properties"][part]["items"]["properties"]);
                assert_eq!(names(&json[part][0]), fields, "{part}");
            }
            for part in ["decisions", "objects", "counterExample"] {
                let fields = names(&schema["properties"][part]["properties"]);
                assert!(json[part].is_null() || names(&json[part]) == fields, "{part}");
            }
        }
    }
}
