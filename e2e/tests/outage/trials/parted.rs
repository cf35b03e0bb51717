//! Nodes and control plane do not hear each other while much changes, the API server is killed and etcd forgets.

use super::PROMISED;
use crate::guard::Guard;
use crate::stage::Stage;
use crate::town::{CROWD, crowd_pod, place};
use anyhow::{Result, ensure};
use bridgewarden::model::PodKey;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::control_plane::PORT;
use support::worlds::Random;

/// The shortest partition.
const PARTED: Duration = Duration::from_secs(15);
/// How many pods of the crowd go, how many come, and how many get another role.
const MOVED: usize = 300;

pub(crate) fn show(stage: &mut Stage) -> Result<()> {
    stage.watch(PORT)?;
    let before = stage.town.clone();
    let mut after = before.clone();
    after.relabel("bank/clerk", "visitor");
    after.relabel("bank/till", "clerk");
    after.remove_pod("shop/cache");
    after.add_pod("shop/late", "node-a", 40, "client");
    // The address of one passes on to another, who is nobody's client.
    after.remove_pod("shop/near");
    after.add_pod("bank/heir", "node-a", 11, "heir");
    after.remove_policy("bank/guest");
    after.add_policy(
        "shop/db-too",
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"]}),
    );
    let (steady, changed) = after.compare(&before);
    let guard = Guard::over(&stage.testbed, steady)?;
    let memory = memory(stage)?;

    let parted = stage.part()?;
    let begun = Instant::now();
    for gone in ["shop/cache", "shop/near"] {
        let (namespace, name) = gone.split_once('/').unwrap_or_default();
        stage.testbed.remove_pod(&PodKey::new(namespace, name))?;
    }
    stage.tell(&after)?;
    let come = after.pods.iter().filter(|(key, _)| !before.pods.contains_key(*key));
    let come: Vec<_> = come.map(|(key, pod)| place(key, pod)).collect();
    stage.testbed.add_pods(&come)?;
    move_the_crowd(stage)?;
    stage.control_plane.kill_server();
    stage.control_plane.compact()?;
    stage.control_plane.start_server()?;
    stage.control_plane.wait_until_ready()?;
    std::thread::sleep(PARTED.saturating_sub(begun.elapsed()));
    let length = begun.elapsed();

    let joined = parted.join();
    let right = stage.settle(&changed, 4 * PROMISED)?.duration_since(joined);
    let listed = stage.listed([2.0; 3], 4 * PROMISED)?.duration_since(joined);
    let right_after_lists = stage.settle(&stage.town.questions(), PROMISED)?.duration_since(joined);
    let asked = guard.end()?;
    let now = self::memory(stage)?;
    stage.note(&format!(
        "parted for {:.1} s: joined, and {} ms later enforced, {} ms later listed, {} ms later everything right; {asked} \
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
    stage.is_as_the_server_says()
}

fn move_the_crowd(stage: &Stage) -> Result<()> {
    let mut random = Random::new(2);
    let mut pods = |from: usize| -> Vec<Value> {
        (from..from + MOVED).map(|index| crowd_pod(&mut random, index)).collect()
    };
    let (gone, other, come) = (pods(0), pods(MOVED), pods(CROWD));
    let role = json!({"metadata": {"labels": {"role": "client"}}});
    let other: Vec<(Value, Value)> = other.into_iter().map(|pod| (pod, role.clone())).collect();
    let objects = stage.control_plane.objects()?;
    objects.delete(&gone)?;
    objects.patch(&other)?;
    objects.create(&come)
}

fn memory(stage: &Stage) -> Result<Vec<f64>> {
    stage.daemons.iter().map(|daemon| daemon.memory()).collect()
}
