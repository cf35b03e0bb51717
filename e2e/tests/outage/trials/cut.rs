//! Connections are cut in mid-stream, again and again, while much changes.

use super::PROMISED;
use crate::cluster::{BACKGROUND_PODS, OutageCluster, background_pod};
use crate::continuous_check::ContinuousCheck;
use crate::test::{OutageTest, RELAY};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::worlds::Random;

/// How long objects change.
const DURATION: Duration = Duration::from_secs(15);
/// How many pods are relabelled at a time, and how often.
const AT_ONCE: usize = 20;
const EVERY: Duration = Duration::from_millis(100);
/// After how many bytes a connection is cut: a greeting and a few events, or a few hundred events.
const BYTES: std::ops::Range<usize> = 8_000..160_000;

pub(crate) fn show(test: &mut OutageTest) -> Result<()> {
    test.watch(RELAY)?;
    let before = test.cluster.clone();
    let after = turned(&before, true);
    let (steady, _) = after.compare(&before);
    let guard = ContinuousCheck::over(&test.testbed, steady)?;
    let lists = lists(test)?;
    let (begun, cut_before) = (Instant::now(), test.relay.cuts());
    let mut random = Random::new(3);
    let (mut changes, mut turns) = (0, 0);

    test.relay.cut_after(BYTES);
    while begun.elapsed() < DURATION {
        let round = Instant::now();
        let role = if turns % 2 == 0 { "client" } else { "server" };
        let change = json!({"metadata": {"labels": {"role": role}}});
        let pods = (0..AT_ONCE)
            .map(|_| background_pod(&mut Random::new(0), MOVING + random.below(BACKGROUND_PODS - MOVING)));
        let changed: Vec<(Value, Value)> = pods.map(|pod| (pod, change.clone())).collect();
        test.control_plane.objects()?.patch(&changed)?;
        // Pods that run change back and forth, too.
        turns += 1;
        test.apply(&turned(&before, turns % 2 == 1))?;
        changes += AT_ONCE + 2;
        std::thread::sleep(EVERY.saturating_sub(round.elapsed()));
    }
    let length = begun.elapsed();
    let asked = guard.end()?;
    // A watch delivers in order: once these changes are enforced on both nodes, all earlier ones have been read.
    let last = Instant::now();
    let mut marked = turned(&before, false);
    marked.relabel("shop/db", "client");
    marked.relabel("bank/vault", "till");
    test.apply(&marked)?;
    let (_, changed) = marked.compare(&before);
    let right = test.settle(&changed, PROMISED)?.duration_since(last);
    test.relay.spare();
    let cuts = test.relay.cuts() - cut_before;
    ensure!(cuts >= 10, "connections were cut only {cuts} times");
    ensure!(
        lists == self::lists(test)?,
        "a resource was listed again: {lists:?} and {:?}",
        self::lists(test)?
    );
    test.note(&format!(
        "cut {cuts} times during {changes} changes in {:.1} s: all of it enforced {} ms after the last; {asked} answers were \
         right meanwhile; nothing was listed again",
        length.as_secs_f64(),
        right.as_millis(),
    ))?;
    test.is_as_the_server_says()
}

/// Pods below this number may have been deleted.
const MOVING: usize = 1_000;

/// The cluster, with two of its pods relabelled or not.
fn turned(cluster: &OutageCluster, turned: bool) -> OutageCluster {
    let mut cluster = cluster.clone();
    if turned {
        cluster.relabel("bank/teller", "turned");
        cluster.relabel("shop/other", "turned");
    }
    cluster
}

fn lists(test: &OutageTest) -> Result<Vec<[f64; 3]>> {
    test.agents.iter().map(|agent| agent.lists()).collect()
}
