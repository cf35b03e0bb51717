//! What each policy has allowed, as the kernel's rules have counted it. Read only when metrics are asked for, and seldom: a
//! reading starts a program for each family, in a thread that nothing else waits for.

use crate::apply::host::{Counters, Variant};
use crate::controller::Inquiry;
use crate::model::{Direction, PolicyKey};
use crate::net::Family;
use crate::netfilter::ChainName;
use crate::netfilter::iptables::{Count, CountedChains};
use crate::observe::{Metrics, PolicyLabels};
use crate::render::allowed;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// How long to wait between two readings, at least.
const PAUSE: Duration = Duration::from_secs(2);

/// Whose each chain is.
type Owners = BTreeMap<ChainName, (PolicyKey, Direction)>;

/// Reads for as long as the program runs: once when the controller knows the cluster, and then after each time that
/// metrics were asked for, so that they are as old as the time before.
pub(super) async fn watch(variant: Variant, metrics: Metrics, inquiries: mpsc::Sender<Inquiry>) {
    let mut counters = Counters::new(variant);
    let mut ledger = Ledger::default();
    let mut told = None;
    while let Some(owners) = ask(&inquiries).await {
        let before = counters.started();
        let reading = tokio::task::spawn_blocking(move || (counters.read(), counters)).await;
        let (counted, returned) = reading.expect("a reading does not panic");
        counters = returned;
        metrics.programs_run(counters.started() - before);
        let problem = counted.as_ref().err().map(ToString::to_string);
        if let Some(problem) = problem.as_ref().filter(|_| problem != told) {
            tracing::warn!(
                problem,
                "cannot read the counters of policies; the metrics keep their last values"
            );
        }
        told = problem;
        if let Ok(counted) = counted {
            tell(&metrics, &owners, ledger.growth(&counted, &owners));
        }
        sleep(PAUSE).await;
        metrics.asked().await;
    }
}

async fn ask(inquiries: &mpsc::Sender<Inquiry>) -> Option<Owners> {
    let (answer, answered) = oneshot::channel();
    inquiries.send(Inquiry::PolicyChains { answer }).await.ok()?;
    answered.await.ok()
}

fn tell(metrics: &Metrics, owners: &Owners, growth: BTreeMap<ChainName, Count>) {
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

/// Where a policy was asked: the family, the chain that asked, and the policy's.
type Asked = (Family, ChainName, ChainName);

/// What was read last. A chain that is written anew counts from nought, so it is growth that is told.
#[derive(Debug, Default)]
struct Ledger(Option<BTreeMap<Asked, Count>>);

impl Ledger {
    /// By how much the count of each policy's chain has grown since the last reading. The first tells nothing: what was
    /// counted before belongs to the process before. Of a chain written anew, all that it has counted since is growth, and
    /// so it is of one whose policy was not known until now.
    fn growth(
        &mut self,
        counted: &BTreeMap<Family, CountedChains>,
        owners: &Owners,
    ) -> BTreeMap<ChainName, Count> {
        let mut growth: BTreeMap<ChainName, Count> = BTreeMap::new();
        let mut current = BTreeMap::new();
        for (family, chains) in counted {
            for (asking, policy, count) in allowed(chains) {
                let asked = (*family, asking.clone(), policy.clone());
                if let Some(last) = &self.0 {
                    if !owners.contains_key(policy) {
                        continue;
                    }
                    let more = count.since(last.get(&asked).copied().unwrap_or_default());
                    let sum = growth.entry(policy.clone()).or_default();
                    (sum.packets, sum.bytes) = (sum.packets + more.packets, sum.bytes + more.bytes);
                }
                current.insert(asked, count);
            }
        }
        self.0 = Some(current);
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Enforcer;
    use crate::model::{Change, Labels, Pod, PodKey, Policy, Selector};
    use crate::netfilter::iptables::{Match, Rule, Target};
    use crate::render::Options;

    fn chain(name: &str) -> ChainName {
        ChainName::new(name).unwrap()
    }

    /// A pod's chain that asks one policy, and has been answered with yes so often.
    fn counted(packets: u64) -> BTreeMap<Family, CountedChains> {
        let jump = Rule::new(Target::Jump(chain("KUBE-NWPLCY-WEB")));
        let yes = Rule::new(Target::Return).matching(Match::Mark { value: 1, mask: 1 });
        let asked = Count { packets: packets + 5, bytes: 60 * packets + 300 };
        let rules = vec![(jump, asked), (yes, Count { packets, bytes: 60 * packets })];
        BTreeMap::from([(Family::V4, BTreeMap::from([(chain("KUBE-POD-SPECIFIC-FW-A"), rules)]))])
    }

    fn owners() -> Owners {
        BTreeMap::from([(chain("KUBE-NWPLCY-WEB"), (PolicyKey::new("shop", "web"), Direction::Ingress))])
    }

    fn grown(ledger: &mut Ledger, packets: u64) -> u64 {
        ledger.growth(&counted(packets), &owners()).values().map(|count| count.packets).sum()
    }

    #[test]
    fn first_reading_tells_nothing_and_each_later_one_what_came_since() {
        let mut ledger = Ledger::default();
        let growth = [7, 7, 10, 12].map(|packets| grown(&mut ledger, packets));
        assert_eq!(growth, [0, 0, 3, 2]);
    }

    #[test]
    fn first_reading_may_come_before_the_controller_has_named_any_chain() {
        let mut ledger = Ledger::default();
        ledger.growth(&counted(7), &Owners::new());
        assert_eq!(grown(&mut ledger, 9), 2);
    }

    #[test]
    fn chain_that_was_written_anew_or_is_new_counts_from_nought() {
        let mut ledger = Ledger::default();
        assert_eq!([7, 2].map(|packets| grown(&mut ledger, packets)), [0, 2]);
        ledger.growth(&BTreeMap::new(), &owners());
        assert_eq!(grown(&mut ledger, 4), 4);
    }

    #[test]
    fn policy_that_the_controller_has_not_told_of_is_counted_once_it_has() {
        let mut ledger = Ledger::default();
        ledger.growth(&BTreeMap::new(), &owners());
        assert_eq!(ledger.growth(&counted(3), &Owners::new()), BTreeMap::new());
        assert_eq!(grown(&mut ledger, 4), 4);
    }

    #[test]
    fn every_answer_of_a_policy_is_found_in_the_rules_as_they_are_rendered() {
        let mut enforcer = Enforcer::new("node-a", Options::default());
        enforcer.apply(Change::Pod(Pod {
            key: PodKey::new("shop", "web"),
            uid: None,
            node: Some("node-a".into()),
            labels: Labels::default(),
            ports: Vec::new(),
            owner: None,
            networked: true,
            finished: false,
            addresses: vec![[10, 244, 1, 10].into()],
        }));
        for name in ["one", "two"] {
            enforcer.apply(Change::Policy(Policy {
                key: PolicyKey::new("shop", name),
                uid: None,
                subject: Selector::everything(),
                ingress: Some(Vec::new()),
                egress: Some(Vec::new()),
                refusals: Vec::new(),
            }));
        }
        let table = enforcer.ruleset().tables.remove(&Family::V4).unwrap();
        let count = Count { packets: 1, bytes: 60 };
        let counted: CountedChains = table
            .chains
            .into_iter()
            .map(|(name, rules)| (name, rules.into_iter().map(|rule| (rule, count)).collect()))
            .collect();
        let owners = enforcer.policy_chains();
        let mut found: Vec<_> = allowed(&counted).map(|(_, policy, _)| policy.clone()).collect();
        found.sort();
        assert_eq!(found, owners.into_keys().collect::<Vec<_>>());
        assert_eq!(found.len(), 4);
    }
}
