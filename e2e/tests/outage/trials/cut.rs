//! Connections are cut in mid-stream, again and again, while much changes.

use super::PROMISED;
use crate::guard::Guard;
use crate::stage::{RELAY, Stage};
use crate::town::{CROWD, Town, crowd_pod};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::worlds::Random;

/// For how long things change.
const DURATION: Duration = Duration::from_secs(15);
/// How many pods are relabelled at a time, and how often.
const AT_ONCE: usize = 20;
const EVERY: Duration = Duration::from_millis(100);
/// After how many bytes a connection is cut: a greeting and a few events, or a few hundred events.
const BYTES: std::ops::Range<usize> = 8_000..160_000;

pub(crate) fn show(stage: &mut Stage) -> Result<()> {
    stage.watch(RELAY)?;
    let before = stage.town.clone();
    let after = turned(&before, true);
    let (steady, _) = after.compare(&before);
    let guard = Guard::over(&stage.testbed, steady)?;
    let lists = lists(stage)?;
    let (begun, cut_before) = (Instant::now(), stage.relay.cuts());
    let mut random = Random::new(3);
    let (mut changes, mut turns) = (0, 0);

    stage.relay.cut_after(BYTES);
    while begun.elapsed() < DURATION {
        let round = Instant::now();
        let role = if turns % 2 == 0 { "client" } else { "server" };
        let change = json!({"metadata": {"labels": {"role": role}}});
        let pods =
            (0..AT_ONCE).map(|_| crowd_pod(&mut Random::new(0), MOVING + random.below(CROWD - MOVING)));
        let changed: Vec<(Value, Value)> = pods.map(|pod| (pod, change.clone())).collect();
        stage.control_plane.objects()?.patch(&changed)?;
        // Those who are there change to and fro, too.
        turns += 1;
        stage.tell(&turned(&before, turns % 2 == 1))?;
        changes += AT_ONCE + 2;
        std::thread::sleep(EVERY.saturating_sub(round.elapsed()));
    }
    let length = begun.elapsed();
    let asked = guard.end()?;
    // A watch tells in order: once these are enforced on both nodes, whatever was changed before has been learnt.
    let last = Instant::now();
    let mut marked = turned(&before, false);
    marked.relabel("shop/db", "client");
    marked.relabel("bank/vault", "till");
    stage.tell(&marked)?;
    let (_, changed) = marked.compare(&before);
    let right = stage.settle(&changed, PROMISED)?.duration_since(last);
    stage.relay.spare();
    let cuts = stage.relay.cuts() - cut_before;
    ensure!(cuts >= 10, "connections were cut only {cuts} times");
    ensure!(
        lists == self::lists(stage)?,
        "something was listed anew: {lists:?} and {:?}",
        self::lists(stage)?
    );
    stage.note(&format!(
        "cut {cuts} times during {changes} changes in {:.1} s: all of it enforced {} ms after the last; {asked} answers were \
         right meanwhile; nothing was listed anew",
        length.as_secs_f64(),
        right.as_millis(),
    ))?;
    stage.is_as_the_server_says()
}

/// Pods below this number may be gone.
const MOVING: usize = 1_000;

/// The town with two of its pods turned into others, or not.
fn turned(town: &Town, turned: bool) -> Town {
    let mut town = town.clone();
    if turned {
        town.relabel("bank/teller", "turned");
        town.relabel("shop/other", "turned");
    }
    town
}

fn lists(stage: &Stage) -> Result<Vec<[f64; 3]>> {
    stage.daemons.iter().map(|daemon| daemon.lists()).collect()
}
