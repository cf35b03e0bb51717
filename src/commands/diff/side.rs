//! One of the two clusters that are compared: manifests, manifests at a revision of git, or a live cluster.

use crate::commands::input::{AccessFlags, manifest_input};
use crate::source::{SnapshotInput, read_snapshot};
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

/// Where a cluster is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DiffSide {
    /// A file or a directory, or `-` for the standard input.
    Path(PathBuf),
    /// A file or a directory at a revision of the git repository around the current directory.
    Revision { revision: String, path: String },
    /// The cluster of the kubeconfig.
    Cluster,
}

impl FromStr for DiffSide {
    type Err = String;

    /// What exists as a path is one, also if it contains a colon or is called `cluster`.
    fn from_str(text: &str) -> Result<DiffSide, String> {
        if text == "-" || Path::new(text).exists() {
            return Ok(DiffSide::Path(text.into()));
        }
        if text == "cluster" {
            return Ok(DiffSide::Cluster);
        }
        match text.split_once(':') {
            // A revision that begins with a dash would be an option of git.
            Some((revision, path)) if !revision.is_empty() && !revision.starts_with('-') => {
                let path = if path.is_empty() { "." } else { path };
                Ok(DiffSide::Revision { revision: revision.to_owned(), path: path.to_owned() })
            }
            _ => Err(format!(
                "`{text}` is no file or directory: write a path, REVISION:PATH for a revision of git, or `cluster`"
            )),
        }
    }
}

impl fmt::Display for DiffSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiffSide::Path(path) => write!(f, "{}", path.display()),
            DiffSide::Revision { revision, path } => write!(f, "{revision}:{path}"),
            DiffSide::Cluster => f.write_str("cluster"),
        }
    }
}

impl DiffSide {
    pub(super) fn is_stdin(&self) -> bool {
        matches!(self, DiffSide::Path(path) if path == Path::new("-"))
    }

    pub(super) fn read(&self, access: &AccessFlags) -> Result<SnapshotInput> {
        match self {
            DiffSide::Cluster => access.fetch(),
            DiffSide::Path(path) => {
                read_snapshot(&[manifest_input(path)]).with_context(|| format!("cannot read {self}"))
            }
            DiffSide::Revision { revision, path } => {
                let directory = ScratchDir::new()?;
                let tree = directory.0.join("tree");
                std::fs::create_dir(&tree)
                    .with_context(|| format!("cannot make the directory {}", tree.display()))?;
                extract(revision, path, &tree, &directory.0.join("index"))
                    .with_context(|| format!("cannot read {self}"))?;
                let input = read_snapshot(&[manifest_input(&tree)]);
                // Files are named as the user named them.
                let scratch = tree.display().to_string();
                let named = |text: String| {
                    text.replace(&format!("{scratch}/"), &format!("{revision}:"))
                        .replace(&scratch, &self.to_string())
                };
                let mut input = input
                    .map_err(|error| anyhow::anyhow!("{}", named(error.to_string())))
                    .with_context(|| format!("cannot read {self}"))?;
                input.warnings = input.warnings.into_iter().map(named).collect();
                Ok(input)
            }
        }
    }
}

/// Writes the files of a revision to a directory: as a checkout does, so that they are what a working tree would contain, also
/// where .gitattributes leave files out of archives.
fn extract(revision: &str, path: &str, into: &Path, index: &Path) -> Result<()> {
    // With the work tree elsewhere, git looks for paths from the top of the repository.
    let below = git(Command::new("git").args(["rev-parse", "--show-prefix"]))?;
    let wanted = format!("{}{path}", below.trim_end());
    let mut checkout = Command::new("git");
    // A hook of the repository has nothing to do with this.
    checkout
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.sparseCheckout=false", "--work-tree"])
        .arg(into);
    checkout.args(["checkout", "--quiet", revision, "--", &wanted]).env("GIT_INDEX_FILE", index);
    git(&mut checkout).map(drop)
}

/// Runs git, and returns what it prints.
fn git(command: &mut Command) -> Result<String> {
    let output =
        command.output().context("cannot run git, which reads revisions: install it, or name a directory")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git fails: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A directory that is removed at the end.
struct ScratchDir(PathBuf);

impl ScratchDir {
    fn new() -> Result<ScratchDir> {
        let root = std::env::temp_dir();
        for number in 0..100 {
            let path = root.join(format!("bridgewarden-diff-{}-{number}", std::process::id()));
            // Fails if it exists, so that it is certainly this program's.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(ScratchDir(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot make the directory {}", path.display()));
                }
            }
        }
        bail!("cannot make a directory in {}: 100 names are taken", root.display())
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_is_a_path_a_revision_or_the_cluster() {
        let side = |text: &str| text.parse::<DiffSide>();
        assert_eq!(side("-"), Ok(DiffSide::Path("-".into())));
        assert_eq!(side("/"), Ok(DiffSide::Path("/".into())));
        assert_eq!(side("cluster"), Ok(DiffSide::Cluster));
        let revision = |revision: &str, path: &str| {
            Ok(DiffSide::Revision { revision: revision.to_owned(), path: path.to_owned() })
        };
        assert_eq!(side("main:deploy"), revision("main", "deploy"));
        assert_eq!(side("HEAD~1:"), revision("HEAD~1", "."));
        for wrong in ["no-such-file", ":deploy", "--output=x:deploy"] {
            assert!(side(wrong).unwrap_err().contains("is no file or directory"), "{wrong}");
        }
    }
}
