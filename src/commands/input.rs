//! The cluster that a question is about: from manifests or from an API server.

use crate::source::{ClusterAccess, ManifestInput, SnapshotInput, fetch_snapshot, read_snapshot};
use anyhow::{Context, Result};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Which cluster a question is about. Without -f, the one that the kubeconfig names.
#[derive(Clone, Debug, Args)]
pub(super) struct InputFlags {
    /// Read manifests: a file, a directory with all below it, or `-` for the standard input, in YAML or JSON. Given more than
    /// once, an object in a later input replaces that of an earlier one
    #[arg(short = 'f', long = "filename", visible_alias = "manifests", value_name = "PATH")]
    filenames: Vec<PathBuf>,
    /// Ask the API server, which is the default without -f
    #[arg(long, conflicts_with = "filenames")]
    cluster: bool,
    #[command(flatten)]
    access: AccessFlags,
}

/// Which API server is asked, and as whom.
#[derive(Clone, Debug, Args)]
pub(super) struct AccessFlags {
    /// Reach the API server as this kubeconfig says. Without it: KUBECONFIG, ~/.kube/config, or the service account of the pod
    /// that the program runs in
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Use this context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
}

impl InputFlags {
    /// What reading the cluster is, in words.
    pub(super) fn phase(&self) -> &'static str {
        if self.cluster || self.filenames.is_empty() {
            "reading the cluster"
        } else {
            "reading the manifests"
        }
    }

    /// Reads the cluster.
    pub(super) fn read(&self) -> Result<SnapshotInput> {
        if self.cluster || self.filenames.is_empty() {
            return self.access.fetch();
        }
        let inputs: Vec<ManifestInput> = self.filenames.iter().map(|path| manifest_input(path)).collect();
        read_snapshot(&inputs).context("cannot read the manifests")
    }
}

impl AccessFlags {
    /// Asks the API server.
    pub(super) fn fetch(&self) -> Result<SnapshotInput> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime that talks to the API server")?;
        let access = ClusterAccess { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() };
        Ok(runtime.block_on(fetch_snapshot(&access))?)
    }
}

/// A path as a user gives it: `-` is the standard input.
pub(super) fn manifest_input(path: &Path) -> ManifestInput {
    if path == Path::new("-") { ManifestInput::Stdin } else { ManifestInput::Path(path.to_owned()) }
}

/// Prints what may be wrong with the cluster that was read to stderr.
pub(super) fn print_warnings(input: &SnapshotInput) {
    for warning in &input.warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
}
