//! The demo's files: a temporary directory with the manifests that the agents read, and the agents' logs.

use super::shop::SHOP;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How deeply directories may nest, as for the source that reads them.
const MAX_DEPTH: usize = 16;

/// A new directory that only this user can read. Dropping it removes it.
#[derive(Debug)]
pub(super) struct DemoDir {
    root: PathBuf,
}

impl DemoDir {
    /// Makes the directory, with the demo's id in its name.
    pub(super) fn create(id: &str) -> Result<DemoDir> {
        let template = std::env::temp_dir().join(format!("{}XXXXXX", prefix(id)));
        let root = nix::unistd::mkdtemp(&template)
            .with_context(|| format!("cannot make a directory {}", template.display()))?;
        let dir = DemoDir { root };
        fs::create_dir(dir.manifests()).context("cannot make a directory for the manifests")?;
        Ok(dir)
    }

    /// Removes the directories that demos of this id left behind. None of them may still run.
    pub(super) fn cleanup_stale(id: &str) {
        let prefix = prefix(id);
        let left = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        for entry in left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            // In a world-writable directory a name proves nothing.
            let ours = |metadata: fs::Metadata| metadata.uid() == nix::unistd::geteuid().as_raw();
            if entry.metadata().is_ok_and(ours) {
                drop(DemoDir { root: entry.path() });
            }
        }
    }

    /// Writes the example's files, which may be edited, and returns their directory.
    pub(super) fn lay_out_shop(&self) -> Result<PathBuf> {
        let shop = self.root.join("shop");
        fs::create_dir(&shop).with_context(|| format!("cannot make {}", shop.display()))?;
        for (name, text) in SHOP {
            let path = shop.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(shop)
    }

    /// The directory that the agents read.
    pub(super) fn manifests(&self) -> PathBuf {
        self.root.join("in-force")
    }

    /// The log of a node's agent; by number, because a node's name may be no file name.
    pub(super) fn log(&self, number: usize) -> PathBuf {
        self.root.join(format!("agent-{number}.log"))
    }

    /// Publishes exactly these manifests to the agents, each file atomically. Unchanged files are not written.
    pub(super) fn publish(&self, files: &ManifestFiles) -> Result<()> {
        let there = ManifestFiles::read(&self.manifests())?;
        for (name, text) in &files.0 {
            if there.0.get(name) != Some(text) {
                self.publish_file(name, text)?;
            }
        }
        there.0.keys().filter(|name| !files.0.contains_key(*name)).try_for_each(|name| self.withdraw(name))
    }

    /// Publishes one more manifest, or a new text of it, to the agents atomically.
    pub(super) fn publish_file(&self, name: &Path, text: &[u8]) -> Result<()> {
        let path = self.manifests().join(name);
        let beside = path.with_file_name(".beside");
        let write = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&beside, text)?;
            fs::rename(&beside, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes a manifest that was published.
    pub(super) fn withdraw(&self, name: &Path) -> Result<()> {
        let path = self.manifests().join(name);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

fn prefix(id: &str) -> String {
    format!("bridgewarden-demo-{id}-")
}

impl Drop for DemoDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            tracing::warn!(%error, directory = %self.root.display(), "a directory is left");
        }
    }
}

/// The files of a directory that are manifests, by their path in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ManifestFiles(BTreeMap<PathBuf, Vec<u8>>);

impl ManifestFiles {
    /// Reads a directory and what is below it, or a single file.
    pub(super) fn read(root: &Path) -> Result<ManifestFiles> {
        let mut files = ManifestFiles::default();
        let mut entered = BTreeSet::new();
        files
            .enter(root, Path::new(""), MAX_DEPTH, &mut entered)
            .with_context(|| format!("cannot read {}", root.display()))?;
        Ok(files)
    }

    fn enter(
        &mut self,
        path: &Path,
        name: &Path,
        depth: usize,
        entered: &mut BTreeSet<(u64, u64)>,
    ) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if metadata.is_file() {
            // A single file is read whatever its name is, but the agents' directory requires an extension.
            let single = || Path::new(if is_json(path) { "manifest.json" } else { "manifest.yaml" });
            let name = if name.as_os_str().is_empty() { single() } else { name };
            if is_manifest(name) {
                self.0.insert(name.to_owned(), fs::read(path)?);
            }
            return Ok(());
        }
        if !metadata.is_dir() || depth == 0 || !entered.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        let mut entries = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        for entry in entries.iter().filter(|entry| !entry.as_bytes().starts_with(b".")) {
            match self.enter(&path.join(entry), &name.join(entry), depth - 1, entered) {
                // Gone since it was listed, or a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| matches!(extension.as_bytes(), b"yaml" | b"yml" | b"json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::read_manifests;

    #[test]
    fn shop_is_laid_out_and_published_whole() {
        let dir = DemoDir::create("files").unwrap();
        let shop = dir.lay_out_shop().unwrap();
        dir.publish(&ManifestFiles::read(&shop).unwrap()).unwrap();
        let (written, published) =
            (read_manifests(&shop).unwrap(), read_manifests(&dir.manifests()).unwrap());
        assert_eq!(written.changes(), published.changes());
        assert!(!published.policies.is_empty());
    }

    #[test]
    fn publishing_again_removes_what_is_gone_and_leaves_what_is_the_same() {
        let dir = DemoDir::create("files").unwrap();
        let files =
            |names: &[&str]| ManifestFiles(names.iter().map(|name| (name.into(), b"# a".to_vec())).collect());
        dir.publish(&files(&["a.yaml", "below/b.yml"])).unwrap();
        let kept = fs::metadata(dir.manifests().join("a.yaml")).unwrap().ino();
        dir.publish(&files(&["a.yaml", "c.json"])).unwrap();
        assert_eq!(ManifestFiles::read(&dir.manifests()).unwrap(), files(&["a.yaml", "c.json"]));
        assert_eq!(fs::metadata(dir.manifests().join("a.yaml")).unwrap().ino(), kept);
    }

    #[test]
    fn hidden_files_and_others_are_no_manifests() {
        let dir = DemoDir::create("files").unwrap();
        let root = dir.manifests();
        for name in [".hidden.yaml", "notes.txt", "a.yaml"] {
            fs::write(root.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(".", root.join("again")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("b.yaml")).unwrap();
        let files = ManifestFiles::read(&root).unwrap();
        assert_eq!(files.0.keys().collect::<Vec<_>>(), [Path::new("a.yaml")]);
        let single = ManifestFiles::read(&root.join("notes.txt")).unwrap();
        assert_eq!(single.0.keys().collect::<Vec<_>>(), [Path::new("manifest.yaml")]);
    }

    #[test]
    fn workplace_is_gone_when_dropped() {
        let dir = DemoDir::create("files").unwrap();
        let root = dir.root.clone();
        assert!(root.is_dir());
        drop(dir);
        assert!(!root.exists());
    }

    #[test]
    fn workplace_of_a_demo_that_was_killed_is_swept() {
        let (left, other) = (DemoDir::create("killed").unwrap(), DemoDir::create("killed2").unwrap());
        let root = left.root.clone();
        std::mem::forget(left);
        DemoDir::cleanup_stale("killed");
        assert!(!root.exists() && other.root.exists());
    }
}
