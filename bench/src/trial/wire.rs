//! The cost of a watch of pods for the API server, by the requested encoding.

use crate::figure::{Figures, Unit};
use crate::process;
use crate::setup::BenchSetup;
use anyhow::{Context, Result};
use bridgewarden_bench::cluster::GeneratedPod;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::control_plane::{PORT, Watchers, Who};

/// The encodings of objects.
const FORMS: [(&str, &str); 2] =
    [("JSON", "application/json"), ("protobuf", "application/vnd.kubernetes.protobuf;stream=watch")];
/// The number of concurrent watches, and of events.
const WATCHERS: usize = 100;
const EVENTS: usize = 300;
/// Once nothing has arrived for this long, everything has.
const QUIET: Duration = Duration::from_millis(400);

/// Measures the bytes that one watcher is sent for a pod's event, and the API server's processor time for it.
pub(crate) fn measure(setup: &BenchSetup, pods: &[GeneratedPod], figures: &mut Figures) -> Result<()> {
    let server = setup.control_plane.server_process()?;
    let pods: Vec<Value> = pods.iter().map(GeneratedPod::object).collect();
    setup.objects()?.create(&pods)?;
    let mut turn = 0;
    let mut write = || -> Result<Duration> {
        let before = process::cpu(server)?;
        for index in 0..EVENTS {
            turn += 1;
            let change =
                json!({"metadata": {"annotations": {"example.org/restarted-at": format!("turn {turn}")}}});
            setup.objects()?.patch(&[(pods[index % pods.len()].clone(), change)])?;
        }
        std::thread::sleep(QUIET);
        Ok(process::cpu(server)? - before)
    };
    let unwatched = write()?;
    let kubeconfig = setup.control_plane.kubeconfig(Who::Admin, PORT)?;
    for (word, accept) in FORMS {
        let list: Value = serde_json::from_str(&setup.objects()?.page("/api/v1/pods?limit=1")?)?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list has no version")?;
        let path = format!("/api/v1/pods?watch=1&resourceVersion={version}&timeoutSeconds=600");
        let from = setup.control_plane.namespace();
        let watchers = Watchers::begin(from, &kubeconfig, &path, accept, WATCHERS)?;
        wait_until_idle(&watchers);
        let before = watchers.received();
        let watched = write()?;
        wait_until_idle(&watchers);
        let sent = (WATCHERS * EVENTS) as f64;
        let bytes = (watchers.received() - before) as f64 / sent;
        let name = &setup.own.name;
        figures.add(name, &format!("a pod's event to one watcher, {word}"), Unit::Bytes, bytes);
        let cpu = watched.saturating_sub(unwatched).as_secs_f64() * 1e6 / sent;
        let what = format!("the API server's CPU for a pod's event to one watcher, {word}");
        figures.add(name, &what, Unit::Microseconds, cpu);
    }
    setup.objects()?.delete(&pods)
}

/// Waits until nothing more is received.
fn wait_until_idle(watchers: &Watchers) {
    let (mut received, mut since) = (watchers.received(), Instant::now());
    while since.elapsed() < QUIET {
        std::thread::sleep(QUIET / 10);
        let now = watchers.received();
        if now != received {
            (received, since) = (now, Instant::now());
        }
    }
}
