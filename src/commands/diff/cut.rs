//! The live connections that are allowed in the old state and denied in the new one.

use crate::commands::connections::ConnectionAnswers;
use crate::explain::{AskedPort, Case, CaseEnd, SnapshotJudge};
use crate::flow::{FlowEnd, LiveFlow, OwnerRecord};
use crate::model::{Labels, NamespaceName, Owner, Pod, PodKey, Snapshot, Workload};
use crate::net::{Family, Protocol, Verdict};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What becomes of the live connections that agents reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CutConnections {
    /// Those that would be cut, in the order of their addresses.
    pub(super) cut: Vec<LiveFlow>,
    /// How many connections were judged.
    pub(super) judged: u64,
    /// How many were not, because a pod at an end is not in both states.
    pub(super) unjudged: u64,
    /// How many the agents did not report, because they have too many.
    pub(super) left_out: u64,
    /// The nodes whose agents did not answer, and why.
    pub(super) silent: Vec<(String, String)>,
}

impl CutConnections {
    /// Judges what agents answered in both states.
    pub(super) fn between(old: &Snapshot, new: &Snapshot, answers: ConnectionAnswers) -> CutConnections {
        let left_out = answers.nodes.iter().map(|node| node.left_out).sum();
        let flows = distinct(answers.nodes.into_iter().flat_map(|node| node.flows));
        let [old, new] = [StateEnds::of(old, &flows), StateEnds::of(new, &flows)];
        let judges = [SnapshotJudge::new(&old.snapshot), SnapshotJudge::new(&new.snapshot)];
        let mut all = CutConnections { left_out, silent: answers.silent, ..CutConnections::default() };
        for flow in flows {
            let verdicts = [old.judge(&judges[0], &flow), new.judge(&judges[1], &flow)];
            let [Some(before), Some(after)] = verdicts else {
                all.unjudged += flow.connections;
                continue;
            };
            all.judged += flow.connections;
            if (before, after) == (Verdict::Allowed, Verdict::Denied) {
                all.cut.push(flow);
            }
        }
        all
    }
}

/// The same connections, each once: those between pods of two nodes are reported by both. An end that an agent knows as a pod is one.
fn distinct(flows: impl Iterator<Item = LiveFlow>) -> Vec<LiveFlow> {
    let mut all: BTreeMap<(IpAddr, IpAddr, String, u16), LiveFlow> = BTreeMap::new();
    for flow in flows {
        let key = (flow.source.address, flow.destination.address, flow.protocol.clone(), flow.port);
        match all.get_mut(&key) {
            None => drop(all.insert(key, flow)),
            Some(known) => {
                known.connections = known.connections.max(flow.connections);
                for (known, own) in
                    [(&mut known.source, flow.source), (&mut known.destination, flow.destination)]
                {
                    if known.pod.is_none() {
                        *known = own;
                    }
                }
            }
        }
    }
    all.into_values().collect()
}

/// A state of the cluster in which the pods have the addresses that agents report.
struct StateEnds {
    snapshot: Snapshot,
    /// The pod of this state at each address that agents report as a pod's; `None` if it has none.
    pods: BTreeMap<IpAddr, Option<PodKey>>,
}

impl StateEnds {
    fn of(snapshot: &Snapshot, flows: &[LiveFlow]) -> StateEnds {
        let mut snapshot = snapshot.clone();
        let by_workload: BTreeMap<Workload, PodKey> =
            snapshot.pods.values().map(|pod| (Workload::of(pod), pod.key.clone())).collect();
        let mut pods = BTreeMap::new();
        for end in flows.iter().flat_map(|flow| [&flow.source, &flow.destination]) {
            if let (Some(namespace), Some(pod)) = (&end.namespace, &end.pod) {
                let key = PodKey::new(namespace, pod);
                pods.entry(end.address).or_insert_with(|| find(&snapshot, &by_workload, &key, end));
            }
        }
        for pod in snapshot.pods.values_mut() {
            // Manifests of pods have no addresses, and a state of the past may have those of pods that are gone.
            let stays = |address: &IpAddr| pods.get(address).is_none_or(|own| own.as_ref() == Some(&pod.key));
            pod.addresses.retain(stays);
        }
        for (address, key) in &pods {
            if let Some(pod) = key.as_ref().and_then(|key| snapshot.pods.get_mut(key))
                && !pod.addresses.contains(address)
            {
                pod.addresses.push(*address);
            }
        }
        StateEnds { snapshot, pods }
    }

    /// What policies say of a connection; `None` if a pod at an end is not in this state.
    fn judge(&self, judge: &SnapshotJudge<'_>, flow: &LiveFlow) -> Option<Verdict> {
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == flow.protocol)?;
        let case = Case {
            source: self.end(flow.source.address)?,
            destination: self.end(flow.destination.address)?,
            family: Family::of(flow.source.address),
            port: AskedPort::One(protocol, flow.port),
            replicas: false,
        };
        Some(judge.judge(&case).verdict())
    }

    fn end(&self, address: IpAddr) -> Option<CaseEnd> {
        if let Some(pod) = self.pods.get(&address) {
            return Some(CaseEnd::Pod { key: pod.clone()?, address: Some(address) });
        }
        let node = self.snapshot.nodes.iter().find(|(_, addresses)| addresses.contains(&address));
        Some(match node {
            Some((name, _)) => CaseEnd::Node { name: Some(name.clone()), address: Some(address) },
            None => CaseEnd::Address(address),
        })
    }
}

/// The pod of a state that an end is: the one of its name, or one of its workload.
fn find(
    snapshot: &Snapshot,
    by_workload: &BTreeMap<Workload, PodKey>,
    key: &PodKey,
    end: &FlowEnd,
) -> Option<PodKey> {
    let named = snapshot.pods.contains_key(key).then(|| key.clone());
    let of_workload = || {
        let owner = end.owner.as_ref()?;
        workloads(&key.namespace, owner).iter().find_map(|workload| by_workload.get(workload)).cloned()
    };
    let found = named.or_else(of_workload)?;
    snapshot.pods.get(&found).is_some_and(|pod| pod.networked).then_some(found)
}

/// The workloads that a pod with this owner may belong to. Agents do not report the label that distinguishes a ReplicaSet of a Deployment from
/// any other.
fn workloads(namespace: &NamespaceName, owner: &OwnerRecord) -> [Workload; 2] {
    let hash = owner.name.rsplit_once('-').map(|(_, hash)| hash.to_owned()).unwrap_or_default();
    let of = |labels: Labels| {
        let record = Owner { kind: owner.kind.as_str().into(), name: owner.name.as_str().into() };
        let key = PodKey { namespace: namespace.clone(), name: "".into() };
        Workload::of(&Pod { owner: Some(Arc::new(record)), labels, ..Pod::new(key) })
    };
    let label = BTreeMap::from([("pod-template-hash".to_owned(), hash)]);
    [of(Labels::new(&BTreeMap::new())), of(Labels::new(&label))]
}
