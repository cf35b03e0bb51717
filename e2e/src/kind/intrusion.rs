//! Pods of one node, of which one tries to get past the policies of the others.

use super::agents;
use super::client::Client;
use super::node::KindNode;
use super::waits_for;
use crate::intrusion::{Attempt, Link, Neighbour};
use crate::key::ObjectKey;
use crate::link::packet_socket;
use crate::object;
use anyhow::{Context, Result};
use bridgewarden::flow::Record;
use bridgewarden::testbed::Netns;
use pnet_datalink::DataLinkReceiver;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use support::program::output;

const NAMESPACE: &str = "intrusion";
/// The pods. Policies isolate `receiver`, which allows `friend`, for ingress, and `sender` for egress.
const PODS: [&str; 5] = ["free-sender", "free-receiver", "friend", "receiver", "sender"];
/// The pod whose address is claimed.
const CLAIMED: &str = "friend";
/// How long frames may take after the last was sent.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// How long to wait for a frame at a time.
const MOMENT: Duration = Duration::from_millis(1);

/// The outcome of the attempts of one pod on another.
#[derive(Debug)]
pub struct AttemptOutcome {
    /// The attempts that arrived.
    pub arrived: BTreeSet<Attempt>,
    /// The Ethernet address that the receiver had for the claimed address, before and after.
    pub neighbour: [String; 2],
}

/// The pods, on the worker.
#[derive(Debug)]
pub struct IntrusionTrial {
    client: Client,
    worker: KindNode,
    pods: BTreeMap<&'static str, (Netns, Neighbour)>,
}

impl IntrusionTrial {
    /// How often all attempts are made.
    pub const ROUNDS: u32 = 3;

    /// Starts the pods with this image, under their policies.
    ///
    /// # Errors
    /// The cluster cannot be reached, or pods don't run.
    pub fn open(environment: &Path, image: &str) -> Result<IntrusionTrial> {
        let client = Client::new(environment)?;
        agents::are_ready(&client)?;
        let worker = KindNode::find(&client, "WORKER")?;
        client.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"])?;
        client.apply(&[object::namespace(NAMESPACE, &BTreeMap::new())])?;
        let mut objects: Vec<Value> =
            policies().map(|(name, spec)| object::policy(&ObjectKey::new(NAMESPACE, name), &spec)).into();
        objects.extend(PODS.map(|name| {
            object::idle_pod(&ObjectKey::new(NAMESPACE, name), &worker.name, &json!({"role": name}), image)
        }));
        client.apply(&objects)?;
        let mut pods = BTreeMap::new();
        for name in PODS {
            let (namespace, _) = worker.running(&client, &ObjectKey::new(NAMESPACE, name))?;
            let neighbour = namespace.enter(Neighbour::here)?;
            pods.insert(name, (namespace, neighbour.with_context(|| format!("pod {NAMESPACE}/{name}"))?));
        }
        let trial = IntrusionTrial { client, worker, pods };
        for name in PODS {
            trial.has_link_local(name)?;
        }
        Ok(trial)
    }

    fn pod(&self, name: &str) -> Result<&(Netns, Neighbour)> {
        self.pods.get(name).with_context(|| format!("there is no pod {NAMESPACE}/{name}"))
    }

    /// Waits for duplicate address detection: until then, nothing is sent from a link-local address.
    fn has_link_local(&self, name: &str) -> Result<()> {
        let (namespace, neighbour) = self.pod(name)?;
        waits_for(&format!("pod {NAMESPACE}/{name} may use {}", neighbour.link_local), || {
            let words = ["ip", "-6", "address", "show", "dev", "eth0", "tentative"];
            Ok(output(namespace, &words)?.trim().is_empty())
        })
    }

    /// Makes a pod try everything on another one.
    ///
    /// # Errors
    /// The attempts cannot be made or observed.
    pub fn attempt(&self, from: &str, to: &str) -> Result<AttemptOutcome> {
        let (_, own) = *self.pod(from)?;
        let (namespace, receiver) = self.pod(to)?;
        let (_, claimed) = *self.pod(CLAIMED)?;
        let link = Link { own, receiver: *receiver, claimed };
        let before = place_of(namespace, claimed.v4)?;
        let (_, mut frames) = namespace
            .enter(|| packet_socket("eth0", Some(MOMENT)))?
            .with_context(|| format!("cannot watch the frames of pod {NAMESPACE}/{to}"))?;
        let words = ["-n", NAMESPACE, "exec", from, "--", "/intruder"];
        let options = [
            format!("--receiver={receiver}"),
            format!("--claimed={claimed}"),
            format!("--rounds={}", Self::ROUNDS),
        ];
        let words = [&words[..], &options.each_ref().map(String::as_str)].concat();
        self.client.kubectl(&words)?;
        let arrived = arrived(&mut *frames, &link)?;
        let after = place_of(namespace, claimed.v4)?;
        Ok(AttemptOutcome { arrived, neighbour: [before, after] })
    }

    /// How many frames the node's agent has counted as dropped, by reason.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn dropped(&self) -> Result<BTreeMap<String, f64>> {
        agents::dropped_frames(&self.worker)
    }

    /// The denied flows that the node's agent reports.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn flows(&self) -> Result<Vec<Record>> {
        agents::flows(&self.client, &self.worker)
    }

    /// Reinstalls the agents, with or without binding pods to their ports.
    ///
    /// # Errors
    /// The installation fails.
    pub fn bind(&self, bound: bool) -> Result<()> {
        agents::bind(&self.client, bound)
    }

    /// Removes the pods.
    ///
    /// # Errors
    /// The namespace is not removed.
    pub fn close(self) -> Result<()> {
        self.client.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"]).map(drop)
    }
}

/// The Ethernet address that a network's neighbour table has for an address, after a query for it.
fn place_of(namespace: &Netns, address: Ipv4Addr) -> Result<String> {
    let mut place = String::new();
    let address = address.to_string();
    waits_for(&format!("{} knows where {address} is", namespace.name()), || {
        let ask = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(b"where are you?", (&*address, 9));
        namespace.enter(ask)?.with_context(|| format!("{} cannot send to {address}", namespace.name()))?;
        let listed = output(namespace, &["ip", "-4", "neigh", "show", &address, "dev", "eth0"])?;
        let mut words = listed.split_whitespace().skip_while(|word| *word != "lladdr");
        place = words.nth(1).unwrap_or_default().to_owned();
        Ok(!place.is_empty())
    })?;
    Ok(place)
}

/// The attempts that have arrived so far, or arrive a moment later.
fn arrived(frames: &mut dyn DataLinkReceiver, link: &Link) -> Result<BTreeSet<Attempt>> {
    let mut arrived = BTreeSet::new();
    let start = Instant::now();
    while start.elapsed() < UNDER_WAY {
        match frames.next() {
            Ok(frame) => {
                arrived.extend(Attempt::ALL.into_iter().filter(|attempt| attempt.is_in(frame, link)))
            }
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("cannot read the receiver's frames"),
        }
    }
    Ok(arrived)
}

fn policies() -> [(&'static str, Value); 2] {
    let role = |name: &str| json!({"matchLabels": {"role": name}});
    [
        (
            "receiver",
            json!({"podSelector": role("receiver"), "policyTypes": ["Ingress"],
                   "ingress": [{"from": [{"podSelector": role(CLAIMED)}]}]}),
        ),
        ("sender", json!({"podSelector": role("sender"), "policyTypes": ["Egress"]})),
    ]
}
