//! A directory of manifests, one file per object, each replaced atomically.

use crate::key::ObjectKey;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory.
#[derive(Debug)]
pub(super) struct ManifestDir {
    directory: PathBuf,
}

impl ManifestDir {
    /// Makes the directory.
    pub(super) fn new(directory: PathBuf) -> Result<ManifestDir> {
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(ManifestDir { directory })
    }

    /// Its path.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn write_namespace(&self, name: &str, object: &Value) -> Result<()> {
        self.write(&format!("{name}.namespace.json"), object)
    }

    pub(super) fn write_pod(&self, key: &ObjectKey, object: &Value) -> Result<()> {
        self.write(&file(key, "pod"), object)
    }

    pub(super) fn write_policy(&self, key: &ObjectKey, object: &Value) -> Result<()> {
        self.write(&file(key, "policy"), object)
    }

    pub(super) fn remove_namespace(&self, name: &str) -> Result<()> {
        self.remove(&format!("{name}.namespace.json"))
    }

    pub(super) fn remove_pod(&self, key: &ObjectKey) -> Result<()> {
        self.remove(&file(key, "pod"))
    }

    pub(super) fn remove_policy(&self, key: &ObjectKey) -> Result<()> {
        self.remove(&file(key, "policy"))
    }

    /// Removes all policies of a namespace.
    pub(super) fn remove_policies(&self, namespace: &str) -> Result<()> {
        let listed = fs::read_dir(&self.directory).context("cannot list the manifests")?;
        let names =
            listed.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
        let own =
            names.filter(|name| name.starts_with(&format!("{namespace}.")) && name.ends_with(".policy.json"));
        own.collect::<Vec<_>>().iter().try_for_each(|name| self.remove(name))
    }

    fn write(&self, name: &str, object: &Value) -> Result<()> {
        let draft = self.directory.join(format!(".{name}.draft"));
        fs::write(&draft, object.to_string())
            .and_then(|()| fs::rename(&draft, self.directory.join(name)))
            .with_context(|| format!("cannot write {name}"))
    }

    fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.directory.join(name)).with_context(|| format!("cannot remove {name}"))
    }
}

fn file(key: &ObjectKey, kind: &str) -> String {
    format!("{}.{}.{kind}.json", key.namespace, key.name)
}
