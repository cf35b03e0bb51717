//! What each policy has allowed, as the kernel's rules count it. Read only after metrics were requested, and rarely: a reading
//! starts a program for each family, in a thread for which nothing else waits.

use crate::controller::{Enforcer, Query};
use crate::kernel::{CountedRules, Counters};
use crate::model::{Direction, PolicyKey};
use crate::net::Family;
use crate::netfilter::iptables::Count;
use crate::netfilter::{BackendName, ChainName};
use crate::observe::{Metrics, PolicyLabels};
use crate::render::iptables::allowed;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The least time between two readings.
const PAUSE: Duration = Duration::from_secs(2);

/// The policy and direction of each chain.
type Owners = BTreeMap<Box<str>, (PolicyKey, Direction)>;

/// Reads for as long as the agent runs: once when the controller has a complete cluster, and then after each request for metrics.
/// So the values are as old as the previous request.
pub(super) async fn watch(backend: BackendName, metrics: Metrics, queries: mpsc::Sender<Query>) {
    let mut counters = Counters::new(backend);
    let mut history = CounterHistory::default();
    let mut logged = None;
    while let Some(owners) = ask(&queries).await {
        let before = counters.started();
        let reading = tokio::task::spawn_blocking(move || (counters.read(), counters)).await;
        let (counted, returned) = reading.expect("a reading does not panic");
        counters = returned;
        metrics.programs_run(counters.started() - before);
        let problem = counted.as_ref().err().map(ToString::to_string);
        if let Some(problem) = problem.as_ref().filter(|_| problem != logged) {
            tracing::warn!(
                problem,
                "cannot read the counters of policies; the metrics keep their last values"
            );
        }
        logged = problem;
        if let Ok(counted) = counted {
            record(&metrics, &owners, history.growth(&counted, &owners));
        }
        sleep(PAUSE).await;
        metrics.asked().await;
    }
}

async fn ask(queries: &mpsc::Sender<Query>) -> Option<Owners> {
    let (query, owners) = Query::new(Enforcer::policy_counters);
    queries.send(query).await.ok()?;
    owners.await.ok()
}

fn record(metrics: &Metrics, owners: &Owners, growth: BTreeMap<Box<str>, Count>) {
    let labels = |(policy, direction): &(PolicyKey, Direction)| PolicyLabels {
        direction: direction.to_string(),
        namespace: policy.namespace.to_string(),
        policy: policy.name.to_string(),
    };
    metrics.per_policy().in_force(&owners.values().map(labels).collect());
    for (chain, Count { packets, bytes }) in growth {
        if let Some(owner) = owners.get(&chain) {
            metrics.per_policy().allowed(&labels(owner), packets, bytes);
        }
    }
}

/// What counts for a policy: with iptables a jump to its chain, by the family and the chain that jumps; with nftables its counter. And
/// the name of the policy's chain or counter.
type CounterKey = (Option<(Family, ChainName)>, Box<str>);

/// What each of them has counted.
fn by_policy(counted: &CountedRules) -> BTreeMap<CounterKey, Count> {
    match counted {
        CountedRules::Iptables(families) => {
            let jumps = families.iter().flat_map(|(family, chains)| {
                allowed(chains).map(move |(asking, policy, count)| {
                    ((Some((*family, asking.clone())), policy.as_str().into()), count)
                })
            });
            jumps.collect()
        }
        CountedRules::Nftables(counters) => {
            counters.iter().map(|(name, count)| ((None, name.clone()), *count)).collect()
        }
    }
}

/// The counters as last read. A rewritten chain counts from 0, so growth is reported.
#[derive(Debug, Default)]
struct CounterHistory(Option<BTreeMap<CounterKey, Count>>);

impl CounterHistory {
    /// By how much the count of each policy's chain has grown since the last reading. The first reading returns nothing, as earlier
    /// packets were counted by the previous process. The whole count of a rewritten chain is growth, and so is that of a chain
    /// whose policy was not known until now.
    fn growth(&mut self, counted: &CountedRules, owners: &Owners) -> BTreeMap<Box<str>, Count> {
        let mut growth: BTreeMap<Box<str>, Count> = BTreeMap::new();
        let mut current = BTreeMap::new();
        for (key, count) in by_policy(counted) {
            if let Some(last) = &self.0 {
                let (_, policy) = &key;
                if !owners.contains_key(policy) {
                    continue;
                }
                let more = count.since(last.get(&key).copied().unwrap_or_default());
                let sum = growth.entry(policy.clone()).or_default();
                (sum.packets, sum.bytes) = (sum.packets + more.packets, sum.bytes + more.bytes);
            }
            current.insert(key, count);
        }
        self.0 = Some(current);
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Enforcer;
    use crate::model::{Change, Pod, PodKey, Policy, Selector};
    use crate::netfilter::iptables::{CountedChains, Match, Rule, Target};
    use crate::render::Options;

    fn chain(name: &str) -> ChainName {
        ChainName::new(name).unwrap()
    }

    /// A pod's chain that jumps to one policy, which has allowed this many packets.
    fn counted(packets: u64) -> CountedRules {
        let jump = Rule::new(Target::Jump(chain("KUBE-NWPLCY-WEB")));
        let yes = Rule::new(Target::Return).matching(Match::Mark { value: 1, mask: 1 });
        let asked = Count { packets: packets + 5, bytes: 60 * packets + 300 };
        let rules = vec![(jump, asked), (yes, Count { packets, bytes: 60 * packets })];
        let chains = BTreeMap::from([(chain("KUBE-POD-SPECIFIC-FW-A"), rules)]);
        CountedRules::Iptables(BTreeMap::from([(Family::V4, chains)]))
    }

    fn owners() -> Owners {
        BTreeMap::from([("KUBE-NWPLCY-WEB".into(), (PolicyKey::new("shop", "web"), Direction::Ingress))])
    }

    fn grown(history: &mut CounterHistory, packets: u64) -> u64 {
        history.growth(&counted(packets), &owners()).values().map(|count| count.packets).sum()
    }

    #[test]
    fn first_reading_returns_nothing_and_each_later_one_the_growth() {
        let mut history = CounterHistory::default();
        let growth = [7, 7, 10, 12].map(|packets| grown(&mut history, packets));
        assert_eq!(growth, [0, 0, 3, 2]);
    }

    #[test]
    fn first_reading_may_come_before_the_controller_names_any_chain() {
        let mut history = CounterHistory::default();
        history.growth(&counted(7), &Owners::new());
        assert_eq!(grown(&mut history, 9), 2);
    }

    #[test]
    fn rewritten_or_new_chain_counts_from_0() {
        let mut history = CounterHistory::default();
        assert_eq!([7, 2].map(|packets| grown(&mut history, packets)), [0, 2]);
        history.growth(&CountedRules::Nftables(BTreeMap::new()), &owners());
        assert_eq!(grown(&mut history, 4), 4);
    }

    #[test]
    fn policy_unknown_to_the_controller_is_counted_once_it_is_known() {
        let mut history = CounterHistory::default();
        history.growth(&CountedRules::Nftables(BTreeMap::new()), &owners());
        assert_eq!(history.growth(&counted(3), &Owners::new()), BTreeMap::new());
        assert_eq!(grown(&mut history, 4), 4);
    }

    #[test]
    fn every_counter_of_a_policy_is_found_in_the_rendered_rules() {
        let mut enforcer = Enforcer::new("node-a", Options::default());
        enforcer.apply(Change::Pod(Pod {
            node: Some("node-a".into()),
            addresses: vec![[10, 244, 1, 10].into()],
            ..Pod::new(PodKey::new("shop", "web"))
        }));
        for name in ["one", "two", "three"] {
            enforcer.apply(Change::Policy(Policy {
                key: PolicyKey::new("shop", name),
                uid: None,
                version: Default::default(),
                subject: Selector::everything(),
                ingress: Some(Vec::new()),
                egress: Some(Vec::new()),
                invalid_parts: Vec::new(),
                audit: Default::default(),
            }));
        }
        let table = enforcer.ruleset().tables.remove(&Family::V4).unwrap();
        let count = Count { packets: 1, bytes: 60 };
        let counted: CountedChains = table
            .chains
            .into_iter()
            .map(|(name, rules)| (name, rules.into_iter().map(|rule| (rule, count)).collect()))
            .collect();
        let owners = enforcer.policy_counters();
        let found = allowed(&counted).map(|(_, policy, _)| Box::<str>::from(policy.as_str()));
        let mut found: Vec<_> = found.filter(|chain| owners.contains_key(chain)).collect();
        found.sort();
        assert_eq!(found, owners.into_keys().collect::<Vec<_>>());
        assert_eq!(found.len(), 6);
    }
}
