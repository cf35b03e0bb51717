//! What it costs to read a cluster from manifests for `explain` and `reach`, in counts that do not depend on the machine: allocations,
//! and the most bytes that are allocated at once.
//!
//! Each is asked for with a thousand pods and with four thousand: the cost of a pod must be the same.

use bridgewarden::source::{ManifestInput, read_snapshot};
use bridgewarden_bench::cluster::{GeneratedCluster, Size};
use bridgewarden_bench::manifests::ClusterFiles;
use std::fs;
use std::path::Path;

/// What is allocated for a pod on average.
#[derive(Clone, Copy, Debug)]
struct PodCost {
    allocations: u64,
    /// At the moment when most is allocated.
    bytes: u64,
}

/// The most that a pod may cost in each form. A list's text is read at once: 4 KiB of YAML for a pod, 9 KiB of JSON.
const BOUNDS: [(&str, PodCost); 3] = [
    ("directory", PodCost { allocations: 800, bytes: 1_800 }),
    ("yaml", PodCost { allocations: 800, bytes: 36_000 }),
    ("json", PodCost { allocations: 800, bytes: 220_000 }),
];

/// The cost in each form, in a cluster with so many pods.
fn costs(pods: usize) -> [PodCost; 3] {
    let root = std::env::temp_dir().join(format!("bridgewarden-answers-{}-{pods}", std::process::id()));
    let size = Size { pods, policies: pods / 10, local_pods: 100, namespaces: 10, seed: 1 };
    let cluster = GeneratedCluster::new(&size).expect("a cluster that fits");
    fs::create_dir_all(&root).expect("a directory for manifests");
    let files = ClusterFiles::write(&root, &cluster).expect("the manifests are written");
    let cost = |path: &Path| {
        let input = [ManifestInput::Path(path.to_owned())];
        let read = allocation_counter::measure(|| {
            assert_eq!(read_snapshot(&input).expect("the manifests are read").snapshot.pods.len(), pods);
        });
        PodCost { allocations: read.count_total / pods as u64, bytes: read.bytes_max / pods as u64 }
    };
    let costs = [&*files.directory, &*files.yaml, &*files.json].map(cost);
    fs::remove_dir_all(&root).expect("the manifests are removed");
    costs
}

/// What is beyond a bound, or grows with the cluster.
fn problems(form: &str, bound: PodCost, small: PodCost, large: PodCost) -> Vec<String> {
    let mut problems = Vec::new();
    for (what, may, small, large) in [
        ("allocations", bound.allocations, small.allocations, large.allocations),
        ("bytes at once", bound.bytes, small.bytes, large.bytes),
    ] {
        if large > may {
            problems.push(format!("{form}: {large} {what} for a pod, and not at most {may}"));
        }
        // A list that grows just then may have twice its length.
        if large > small + small / 4 + 8 {
            problems
                .push(format!("{form}: {large} {what} for a pod of four thousand, {small} of a thousand"));
        }
    }
    problems
}

#[test]
fn pod_in_manifests_costs_little_and_the_same_in_a_cluster_four_times_as_large() {
    let (small, large) = (costs(1_000), costs(4_000));
    let mut found = Vec::new();
    for (((form, bound), small), large) in BOUNDS.into_iter().zip(small).zip(large) {
        eprintln!("{form}: {small:?}, four times as large: {large:?}");
        found.extend(problems(form, bound, small, large));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn cost_beyond_its_bound_or_growing_with_the_cluster_is_noticed() {
    let cost = |allocations, bytes| PodCost { allocations, bytes };
    let bound = cost(100, 1_000);
    assert!(problems("yaml", bound, cost(100, 1_000), cost(100, 1_000)).is_empty());
    assert_eq!(problems("yaml", bound, cost(101, 1_001), cost(101, 1_001)).len(), 2);
    assert_eq!(problems("yaml", bound, cost(50, 500), cost(80, 800)).len(), 2);
}
