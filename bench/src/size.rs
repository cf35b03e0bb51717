//! The sizes of clusters that are measured.

use anyhow::{Result, bail};
use bridgewarden_bench::cluster::Size;

/// The clusters by name.
pub(crate) const NAMES: [&str; 3] = ["1k", "10k", "100k"];

/// The size of this name, with a hundred of the pods on this node.
pub(crate) fn of(name: &str) -> Result<Size> {
    let (pods, policies, namespaces) = match name {
        "1k" => (1_000, 100, 10),
        "10k" => (10_000, 1_000, 50),
        "100k" => (100_000, 1_000, 50),
        other => bail!("{other} is no size; {} are", NAMES.join(", ")),
    };
    Ok(Size { pods, policies, local_pods: 100, namespaces, seed: 1 })
}
