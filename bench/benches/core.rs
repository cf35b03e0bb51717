//! The pure parts of the way from an event's bytes to the kernel's steps: decoding, the index and the plan, and rendering.

use bridgewarden::api;
use bridgewarden::apply::{Actual, Fake, PacketFilter};
use bridgewarden::controller::Enforcer;
use bridgewarden::model::{Change, PodKey};
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::Options;
use bridgewarden::source::convert;
use bridgewarden::verify::{Evidence, VerificationOutcome, verify};
use bridgewarden_bench::cluster::{GeneratedCluster, GeneratedPod, LOCAL_NODE, Size};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use std::hint::black_box;

const SIZES: [(&str, usize, usize, usize); 3] =
    [("1k", 1_000, 100, 10), ("10k", 10_000, 1_000, 50), ("100k", 100_000, 1_000, 50)];

fn cluster((_, pods, policies, namespaces): (&str, usize, usize, usize)) -> GeneratedCluster {
    let size = Size { pods, policies, local_pods: 100, namespaces, seed: 1 };
    GeneratedCluster::new(&size).expect("a cluster that fits")
}

fn change(object: &Value) -> Change {
    let text = object.to_string();
    match object["kind"].as_str() {
        Some("Pod") => Change::Pod(convert::pod(&serde_json::from_str(&text).expect("a pod")).0),
        Some("Namespace") => {
            Change::Namespace(convert::namespace(&serde_json::from_str(&text).expect("a namespace")))
        }
        _ => Change::Policy(convert::policy(&serde_json::from_str(&text).expect("a policy"))),
    }
}

fn changes(cluster: &GeneratedCluster) -> Vec<Change> {
    cluster.objects().expect("a cluster that is well written").iter().map(change).collect()
}

fn enforcer(changes: &[Change]) -> Enforcer {
    let mut enforcer = Enforcer::new(LOCAL_NODE, Options::default());
    changes.iter().cloned().for_each(|change| enforcer.apply(change));
    enforcer
}

/// An event of a watch, from its bytes to the fact.
fn decode(criterion: &mut Criterion) {
    let pod = cluster(SIZES[0]).newcomers(1).remove(0);
    let text = pod.object().to_string();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("pod", |bencher| {
        bencher.iter(|| {
            let read: api::Pod = serde_json::from_str(black_box(&text)).expect("a pod");
            convert::pod(&read)
        });
    });
    group.finish();
}

/// One fact about a pod of another node, and all facts at a start.
fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    for size in SIZES {
        let cluster = cluster(size);
        let changes = changes(&cluster);
        let mut enforcer = enforcer(&changes);
        enforcer.adopt(&Actual::default());
        let pods: Vec<Change> = cluster.newcomers(100).iter().map(|pod| change(&pod.object())).collect();
        let gone: Vec<Change> = cluster
            .newcomers(100)
            .iter()
            .map(|GeneratedPod { namespace, name, .. }| Change::PodGone(PodKey::new(namespace, name)))
            .collect();
        group.throughput(Throughput::Elements(200));
        group.bench_function(format!("100 pods come and go/{}", size.0), |bencher| {
            bencher.iter_batched(
                || (pods.clone(), gone.clone()),
                |(pods, gone)| {
                    for change in pods.into_iter().chain(gone) {
                        enforcer.apply(change);
                        black_box(enforcer.flush());
                    }
                },
                BatchSize::SmallInput,
            );
        });
        group.sample_size(10);
        group.throughput(Throughput::Elements(changes.len() as u64));
        group.bench_function(format!("everything/{}", size.0), |bencher| {
            bencher.iter(|| self::enforcer(&changes));
        });
    }
    group.finish();
}

/// Everything that must be in the kernel.
fn render(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("render");
    group.sample_size(10);
    for size in SIZES {
        let mut enforcer = enforcer(&changes(&cluster(size)));
        group.bench_function(format!("everything/{}", size.0), |bencher| bencher.iter(|| enforcer.ruleset()));
    }
    group.finish();
}

/// Every decision of a node compared with policies: what the main loop does for it, and what a thread does.
fn verification(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify");
    group.sample_size(10);
    for (size, backend) in SIZES
        .into_iter()
        .flat_map(|size| [BackendName::IptablesNft, BackendName::Nftables].map(|name| (size, name)))
    {
        let options = Options { backend, ..Options::default() };
        let mut enforcer = Enforcer::new(LOCAL_NODE, options.clone());
        changes(&cluster(size)).into_iter().for_each(|change| enforcer.apply(change));
        let mut kernel = Fake::default();
        kernel.switch_backend(backend);
        for step in enforcer.adopt(&Actual::default()).steps {
            kernel.commit(&step).expect("a kernel in memory takes it");
        }
        let actual = Actual::read(&mut kernel).expect("a kernel in memory is read");
        let evidence = Evidence { options, actual, sees_bridged: [true, true] };
        let expectation = enforcer.expectation();
        let verification = verify(&evidence, &expectation);
        assert_eq!(verification.finding, VerificationOutcome::Verified);
        let name = format!("{}/{}", backend.name(), size.0);
        group.bench_function(format!("snapshot/{name}"), |bencher| bencher.iter(|| enforcer.expectation()));
        group.bench_function(format!("everything/{name}"), |bencher| {
            bencher.iter(|| verify(&evidence, &expectation));
        });
    }
    group.finish();
}

criterion_group!(core, decode, index, render, verification);
criterion_main!(core);
