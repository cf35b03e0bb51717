//! One of the two clusters that are compared: manifests, manifests at a revision of git, or a live cluster.

use crate::commands::input::{AccessFlags, manifest_input};
use crate::source::{SnapshotInput, read_snapshot};
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
    pub(super) fn read(&self, access: &AccessFlags) -> Result<SnapshotInput> {
        match self {
            DiffSide::Cluster => access.fetch(),
            DiffSide::Path(path) => {
                read_snapshot(&[manifest_input(path)]).with_context(|| format!("cannot read {self}"))
            }
            DiffSide::Revision { revision, path } => {
                let directory = ScratchDir::new()?;
                extract(revision, path, &directory.0).with_context(|| format!("cannot read {self}"))?;
                let input = read_snapshot(&[manifest_input(&directory.0)]);
                // Files are named as the user named them.
                let scratch = format!("{}/", directory.0.display());
                let named = |text: String| text.replace(&scratch, &format!("{revision}:"));
                let mut input = input
                    .map_err(|error| anyhow::anyhow!("{}", named(error.to_string())))
                    .with_context(|| format!("cannot read {self}"))?;
                input.warnings = input.warnings.into_iter().map(named).collect();
                Ok(input)
            }
        }
    }
}

/// Writes the files of a revision to a directory.
fn extract(revision: &str, path: &str, into: &Path) -> Result<()> {
    let mut git = Command::new("git")
        .args(["archive", "--format=tar", revision, "--", path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run git, which reads revisions: install it, or name a directory")?;
    let Some(archive) = git.stdout.take() else { bail!("git has no output") };
    let tar = Command::new("tar")
        .args(["-x", "-f", "-", "-C"])
        .arg(into)
        .stdin(archive)
        .output()
        .context("cannot run tar, which unpacks what git prints: install it, or name a directory")?;
    let git = git.wait_with_output().context("cannot wait for git")?;
    ensure!(git.status.success(), "git archive fails: {}", String::from_utf8_lossy(&git.stderr).trim());
    ensure!(tar.status.success(), "tar fails: {}", String::from_utf8_lossy(&tar.stderr).trim());
    Ok(())
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
