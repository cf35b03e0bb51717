//! A pod whose object has bytes that are not UTF-8, written in protocol buffers, because JSON cannot hold them.

use super::PROMISED;
use crate::cluster::OutageCluster;
use crate::test::OutageTest;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::{Duration, Instant};
use support::control_plane::PORT;

const NAME: &str = "no-text";
const PODS: &str = "bridgewarden_pods";
/// Bytes that are not UTF-8: the API server takes them in the value of an annotation, and JSON cannot hold them.
const NOT_TEXT: &[u8] = &[0xff, 0xfe, b'x'];

pub(crate) fn show(test: &mut OutageTest) -> Result<()> {
    test.watch(PORT)?;
    let pods = test.agents[0].metric(PODS)? + 1.0;
    test.control_plane.objects()?.create_encoded_pod("shop", NAME, object("v1", "Pod", &pod()))?;
    is_known(test, pods)?;
    // The watch of pods and everything else continues.
    let relabelled = |app: &str| {
        let mut after = test.cluster.clone();
        after.relabel("shop/far", app);
        after
    };
    let changes = |after: &OutageCluster| !after.compare(&test.cluster).1.is_empty();
    let after = ["stranger", "client"].map(relabelled).into_iter().find(changes);
    let after = after.context("no label of shop/far changes who reaches whom")?;
    test.apply(&after)?;
    let written = Instant::now();
    let enforced = test.settle(&test.cluster.questions(), PROMISED)?.duration_since(written);
    // So does an agent that finds the pod in its first list.
    test.watch(PORT)?;
    is_known(test, pods)?;
    let lists: Vec<_> = test.agents.iter().map(|agent| agent.lists()).collect::<Result<_>>()?;
    ensure!(lists.iter().flatten().all(|count| *count <= 1.0), "resources were listed again: {lists:?}");
    let gone = json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": NAME}});
    test.control_plane.objects()?.delete(&[gone])?;
    test.note(&format!(
        "beside a pod with bytes that are no text, a change was enforced {} ms after it was written",
        enforced.as_millis()
    ))
}

/// Waits until every agent knows this many pods, and all of them are readable.
fn is_known(test: &OutageTest, pods: f64) -> Result<()> {
    let begun = Instant::now();
    for agent in &test.agents {
        while agent.metric(PODS)? != pods {
            ensure!(begun.elapsed() < PROMISED, "{} pods are known and not {pods}", agent.metric(PODS)?);
            std::thread::sleep(Duration::from_millis(20));
        }
        let unreadable = agent.metric("bridgewarden_unreadable_objects{resource=\"pods\"}")?;
        ensure!(unreadable == 0.0, "the agent read fields that it does not need");
        let page = agent.readiness().context("readiness")?;
        ensure!(page.status == 200, "not ready: {}", page.body);
    }
    Ok(())
}

/// A v1.Pod on node-a with such an annotation.
fn pod() -> Vec<u8> {
    let annotation = [field(1, b"note"), field(2, NOT_TEXT)].concat();
    let metadata = [field(1, NAME.as_bytes()), field(3, b"shop"), field(12, &annotation)].concat();
    let container = [field(1, b"main"), field(2, b"image")].concat();
    let spec = [field(2, &container), field(10, b"node-a")].concat();
    let address = b"10.244.1.99";
    let status = [field(1, b"Running"), field(6, address), field(12, &field(1, address))].concat();
    [field(1, &metadata), field(2, &spec), field(3, &status)].concat()
}

/// An object as the API server takes it: k8s.io/apimachinery/pkg/runtime/generated.proto, message Unknown.
fn object(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let kind = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &kind), field(2, raw)].concat()
}

/// A field of bytes. Everything here is shorter than the 128 bytes up to which its length is one byte.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128).expect("a short field");
    [&[number << 3 | 2, length], bytes].concat()
}
