//! What rules and sets occupy in the kernel, by backend: slab, vmalloc and per-CPU memory, in eight network namespaces of a node of the
//! generated cluster.

use crate::{in_namespace, print};
use bridgewarden::api;
use bridgewarden::apply::{Actual, PacketFilter};
use bridgewarden::controller::Enforcer;
use bridgewarden::kernel::Host;
use bridgewarden::model::Change;
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::{Binding, Options};
use bridgewarden::source::convert;
use bridgewarden_bench::cluster::{GeneratedCluster, LOCAL_NODE, Size};
use serde_json::Value;
use std::sync::mpsc;

const NAMESPACES: usize = 8;

pub(crate) fn measure() {
    let size = Size { pods: 10_000, policies: 1_000, local_pods: 100, namespaces: 50, seed: 1 };
    let cluster = GeneratedCluster::new(&size).expect("a cluster that fits");
    let changes: Vec<Change> =
        cluster.objects().expect("a cluster that is well written").iter().map(change).collect();
    for backend in
        [BackendName::Nftables, BackendName::IptablesNft, BackendName::Nftables, BackendName::IptablesNft]
    {
        let kib = of_backend(&changes, backend) / NAMESPACES as i64;
        print(format_args!("{}: {kib} KiB in a namespace", backend.name()));
    }
}

/// What all namespaces occupy together, in KiB.
fn of_backend(changes: &[Change], backend: BackendName) -> i64 {
    let options = Options { backend, binding: Binding::Off, ..Options::default() };
    let mut enforcer = Enforcer::new(LOCAL_NODE, options);
    changes.iter().cloned().for_each(|change| enforcer.apply(change));
    let before = occupied();
    let mut ends = Vec::new();
    for _ in 0..NAMESPACES {
        let mut enforcer = enforcer.clone();
        let (written, was_written) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let namespace = std::thread::spawn(move || {
            in_namespace(move || {
                let mut host = Host::new(backend).expect("a host");
                let actual = Actual::read(&mut host).expect("read");
                host.commit_all(&enforcer.adopt(&actual).steps).expect("written");
                written.send(()).expect("it is waited for");
                ended.recv().unwrap_or_default();
            });
        });
        was_written.recv().expect("written");
        ends.push((end, namespace));
    }
    let after = occupied();
    for (end, namespace) in ends {
        drop(end);
        namespace.join().expect("it ends well");
    }
    after - before
}

/// KiB, once the kernel has freed what it frees later.
fn occupied() -> i64 {
    let mut last = 0;
    for _ in 0..20 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let text = std::fs::read_to_string("/proc/meminfo").expect("it is readable");
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("it is there");
            line.split_whitespace().nth(1).and_then(|number| number.parse::<i64>().ok()).expect("a number")
        };
        last = of("SUnreclaim:") + of("VmallocUsed:") + of("Percpu:");
    }
    last
}

fn change(object: &Value) -> Change {
    let text = object.to_string();
    match object["kind"].as_str() {
        Some("Pod") => Change::Pod(convert::pod(&serde_json::from_str::<api::Pod>(&text).expect("a pod")).0),
        Some("Namespace") => {
            Change::Namespace(convert::namespace(&serde_json::from_str(&text).expect("a namespace")))
        }
        _ => Change::Policy(convert::policy(&serde_json::from_str(&text).expect("a policy"))),
    }
}
