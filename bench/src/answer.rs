//! How soon questions about a large cluster are answered from its manifests, and with how much memory.

use crate::figure::{Figures, Unit};
use crate::one_run::OneRun;
use anyhow::{Context, Result};
use bridgewarden_bench::cluster::{GeneratedCluster, GeneratedPod};
use bridgewarden_bench::manifests::ClusterFiles;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// The name of what is measured, in figures.
pub(crate) const NAME: &str = "bridgewarden";

/// The longest file of manifests that is read, in bytes.
const LONGEST: u64 = 256 << 20;

/// Writes a cluster to `root`, and asks about it in each form of its manifests.
pub(crate) fn measure(
    bridgewarden: &Path,
    cluster: &GeneratedCluster,
    root: &Path,
    runs: usize,
    figures: &mut Figures,
) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    let files = ClusterFiles::write(root, cluster)?;
    let ends = [cluster.pods().next(), cluster.pods().last()];
    let [source, destination] =
        ends.map(|pod| pod.map(|GeneratedPod { namespace, name, .. }| format!("{namespace}/{name}")));
    let source = source.context("the cluster has no pods")?;
    let destination = format!("{}:8080", destination.unwrap_or_default());
    for (form, path) in
        [("a directory", &files.directory), ("a list of YAML", &files.yaml), ("a list of JSON", &files.json)]
    {
        if fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > LONGEST) {
            crate::say(&format!("left out: {form}, which is longer than a file of manifests may be"));
            continue;
        }
        let explain: [&OsStr; 5] =
            ["explain".as_ref(), "-f".as_ref(), path.as_ref(), source.as_ref(), destination.as_ref()];
        let reach: [&OsStr; 5] =
            ["reach".as_ref(), "-f".as_ref(), path.as_ref(), "--group".as_ref(), "alike".as_ref()];
        for (what, words) in [("explain", explain), ("reach, grouped", reach)] {
            for _ in 0..runs {
                note(
                    &format!("{what}, from {form}"),
                    OneRun::of(None, bridgewarden, &words, &[0, 1])?,
                    figures,
                );
            }
        }
    }
    Ok(())
}

/// Records what one run took.
pub(crate) fn note(what: &str, run: OneRun, figures: &mut Figures) {
    figures.add(NAME, what, Unit::Seconds, run.seconds);
    figures.add(NAME, &format!("{what}: resident memory, highest"), Unit::Mebibytes, run.mebibytes);
}
