//! A partition between nodes and control plane, during which much changes, the API server is killed and etcd compacted.

use super::PROMISED;
use crate::cluster::{BACKGROUND_PODS, background_pod, place};
use crate::continuous_check::ContinuousCheck;
use crate::test::OutageTest;
use anyhow::{Result, ensure};
use bridgewarden::model::PodKey;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::control_plane::PORT;
use support::worlds::Random;

/// The shortest partition.
const PARTITIONED: Duration = Duration::from_secs(15);
/// How many background pods are deleted, how many created, and how many relabelled.
const MOVED: usize = 300;

pub(crate) fn show(test: &mut OutageTest) -> Result<()> {
    test.watch(PORT)?;
    let before = test.cluster.clone();
    let mut after = before.clone();
    after.relabel("bank/clerk", "visitor");
    after.relabel("bank/till", "clerk");
    after.remove_pod("shop/cache");
    after.add_pod("shop/late", "node-a", 40, "client");
    // Another pod takes over an address, without the label that policies allow.
    after.remove_pod("shop/near");
    after.add_pod("bank/heir", "node-a", 11, "heir");
    after.remove_policy("bank/guest");
    after.add_policy(
        "shop/db-too",
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"]}),
    );
    let (steady, changed) = after.compare(&before);
    let guard = ContinuousCheck::over(&test.testbed, steady)?;
    let memory = memory(test)?;

    let partition = test.partition()?;
    let begun = Instant::now();
    for gone in ["shop/cache", "shop/near"] {
        let (namespace, name) = gone.split_once('/').unwrap_or_default();
        test.testbed.remove_pod(&PodKey::new(namespace, name))?;
    }
    test.apply(&after)?;
    let come = after.pods.iter().filter(|(key, _)| !before.pods.contains_key(*key));
    let come: Vec<_> = come.map(|(key, pod)| place(key, pod)).collect();
    test.testbed.add_pods(&come)?;
    change_background_pods(test)?;
    test.control_plane.kill_server();
    test.control_plane.compact()?;
    test.control_plane.start_server()?;
    test.control_plane.wait_until_ready()?;
    std::thread::sleep(PARTITIONED.saturating_sub(begun.elapsed()));
    let length = begun.elapsed();

    let joined = partition.join();
    let right = test.settle(&changed, 4 * PROMISED)?.duration_since(joined);
    let listed = test.listed([2.0; 3], 4 * PROMISED)?.duration_since(joined);
    let right_after_lists = test.settle(&test.cluster.questions(), PROMISED)?.duration_since(joined);
    let asked = guard.end()?;
    let now = self::memory(test)?;
    test.note(&format!(
        "partitioned for {:.1} s: restored, and {} ms later enforced, {} ms later listed, {} ms later everything right; {asked} \
         answers were right meanwhile; MiB of memory before {memory:.0?} and after {now:.0?}",
        length.as_secs_f64(),
        right.as_millis(),
        listed.as_millis(),
        right_after_lists.as_millis(),
    ))?;
    ensure!(
        listed <= PROMISED && right <= PROMISED,
        "enforced only {right:?} after the partition ended, listed {listed:?}"
    );
    test.is_as_the_server_says()
}

fn change_background_pods(test: &OutageTest) -> Result<()> {
    let mut random = Random::new(2);
    let mut pods = |from: usize| -> Vec<Value> {
        (from..from + MOVED).map(|index| background_pod(&mut random, index)).collect()
    };
    let (gone, other, come) = (pods(0), pods(MOVED), pods(BACKGROUND_PODS));
    let role = json!({"metadata": {"labels": {"role": "client"}}});
    let other: Vec<(Value, Value)> = other.into_iter().map(|pod| (pod, role.clone())).collect();
    let objects = test.control_plane.objects()?;
    objects.delete(&gone)?;
    objects.patch(&other)?;
    objects.create(&come)
}

fn memory(test: &OutageTest) -> Result<Vec<f64>> {
    test.agents.iter().map(|agent| agent.memory()).collect()
}
