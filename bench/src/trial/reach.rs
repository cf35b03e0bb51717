//! The share of a large cluster that each node would receive if it watched only the namespaces that matter to it.

use crate::figure::{Figures, Unit};
use anyhow::Result;
use bridgewarden_bench::cluster::{GeneratedCluster, Size};
use bridgewarden_bench::reach::reach;

/// The maximum size that Kubernetes supports: 5,000 nodes with 30 pods each.
const NODES: usize = 5_000;
const PODS_PER_NODE: usize = 30;
/// The numbers of namespaces and policies of such clusters.
const SIZES: [(usize, usize); 4] = [(50, 1_000), (500, 10_000), (2_000, 20_000), (5_000, 20_000)];
/// The number of nodes that are sampled.
const ASKED: usize = 200;

/// Computes the share for clusters of few and of many namespaces.
pub(crate) fn work_out(name: &str, figures: &mut Figures) -> Result<()> {
    for (namespaces, policies) in SIZES {
        let pods = NODES * PODS_PER_NODE;
        let cluster = GeneratedCluster::new(&Size { pods, policies, local_pods: 100, namespaces, seed: 1 })?;
        let reach = reach(&cluster, PODS_PER_NODE, ASKED)?;
        let of = format!("{NODES} nodes, {namespaces} namespaces, {policies} policies: a node");
        figures.add(name, &format!("{of} would watch of the namespaces"), Unit::Count, reach.namespaces);
        figures.add(name, &format!("{of} would hear of the pods"), Unit::Percent, reach.pods * 100.0);
    }
    Ok(())
}
