//! What the main loop knows of the cluster, read in parts between its other work, so that no event waits for more than one part.
//!
//! A change between two parts may be in one and not in the other. The next page has all of it.

use crate::daemon::status::StatusReporter;
use crate::model::{Cluster, NamespaceName, Peers, Policy, PolicyKey, PolicyOrigin, Snapshot};

/// Of how many pods a matrix is made at most.
const MOST_PODS: usize = 20_000;
/// How many policies, and peers in their rules, there may be for a matrix.
const MOST_PEERS: usize = 100_000;
/// How many pods or namespaces one query copies at most, and how many policies and peers: some hundred microseconds.
const PER_QUERY: usize = 256;

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSnapshot {
    /// The agent is about to end.
    Ends,
    /// There are more than [`MOST_PODS`].
    Pods(usize),
    /// There are more than [`MOST_PEERS`].
    Peers,
}

/// All pods that have an address, all namespaces and all policies, also those of other nodes.
pub(super) async fn snapshot(reporter: &StatusReporter) -> Result<Snapshot, NoSnapshot> {
    let count = reporter.ask(|enforcer| enforcer.cluster().pod_count()).await.ok_or(NoSnapshot::Ends)?;
    if count > MOST_PODS {
        return Err(NoSnapshot::Pods(count));
    }
    let mut snapshot = Snapshot::default();
    let (mut peers, mut last) = (0, None);
    loop {
        let after = last.take();
        let part = reporter.ask(move |enforcer| policies_part(enforcer.cluster(), after.as_ref()));
        let part = part.await.ok_or(NoSnapshot::Ends)?;
        let Some(policy) = part.last() else { break };
        last = Some(policy.key.clone());
        peers += part.iter().map(weight).sum::<usize>();
        if peers > MOST_PEERS {
            return Err(NoSnapshot::Peers);
        }
        snapshot.origins.extend(part.iter().filter_map(origin));
        snapshot.policies.extend(part.into_iter().map(|policy| (policy.key.clone(), policy)));
    }
    let mut last: Option<NamespaceName> = None;
    loop {
        let after = last.take();
        let part = reporter.ask(move |enforcer| -> Vec<_> {
            enforcer.cluster().namespaces_after(after.as_ref()).take(PER_QUERY).collect()
        });
        let part = part.await.ok_or(NoSnapshot::Ends)?;
        let Some(namespace) = part.last() else { break };
        last = Some(namespace.name.clone());
        snapshot.namespaces.extend(part.into_iter().map(|namespace| (namespace.name.clone(), namespace)));
    }
    let mut next = Some(0);
    while let Some(first) = next {
        let part = reporter.ask(move |enforcer| enforcer.cluster().pods_part(first, PER_QUERY));
        let part = part.await.ok_or(NoSnapshot::Ends)?;
        next = part.next;
        snapshot.pods.extend(part.pods.into_iter().map(|pod| (pod.key.clone(), pod)));
    }
    Ok(snapshot)
}

/// The next policies, fewer if they are large.
fn policies_part(cluster: &Cluster, after: Option<&PolicyKey>) -> Vec<Policy> {
    let mut room = PER_QUERY;
    let fits = |policy: &&Policy| {
        let had_room = room > 0;
        room = room.saturating_sub(weight(policy));
        had_room
    };
    cluster.policies_after(after).take_while(fits).cloned().collect()
}

/// The version that is known, if its source gives it one.
fn origin(policy: &Policy) -> Option<(PolicyKey, PolicyOrigin)> {
    let resource_version = policy.version.resource.clone()?;
    Some((policy.key.clone(), PolicyOrigin::Server { resource_version }))
}

/// How much a policy costs to copy: itself, and the peers of its rules.
fn weight(policy: &Policy) -> usize {
    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
    let peers = rules.map(|rule| match &rule.peers {
        Peers::Anywhere => 1,
        Peers::Listed(peers) => 1 + peers.len(),
    });
    1 + peers.sum::<usize>()
}

impl NoSnapshot {
    /// The reason, for who looks at the page.
    pub(super) fn why(self) -> String {
        match self {
            NoSnapshot::Ends => "The agent is stopping.".to_owned(),
            NoSnapshot::Pods(count) => format!(
                "The cluster has {count} pods, and an agent makes a matrix of up to {MOST_PODS}. \
                 `bridgewarden reach -n NAMESPACE -o html` makes one outside of the agent."
            ),
            NoSnapshot::Peers => format!(
                "The cluster's policies have more than {MOST_PEERS} peers, of which an agent makes no matrix. \
                 `bridgewarden reach -n NAMESPACE -o html` makes one outside of the agent."
            ),
        }
    }
}
