//! The objects of the shop, as manifests that a test edits.

use bridgewarden::explain::oracle::World;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::manifest;

/// A directory with a file for each object.
pub(crate) struct TestObjects {
    directory: PathBuf,
    objects: BTreeMap<String, Value>,
}

impl TestObjects {
    /// Those of `examples/shop`.
    pub(crate) fn shop(directory: &Path) -> Result<(World, TestObjects), String> {
        let mut texts = Vec::new();
        let shop = crate::project("examples/shop");
        for entry in std::fs::read_dir(&shop).map_err(|error| format!("{}: {error}", shop.display()))? {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.extension().is_some_and(|ending| ending == "yaml") {
                texts.push(std::fs::read_to_string(&path).map_err(|error| error.to_string())?);
            }
        }
        // A document of comments alone is no object.
        let documents =
            texts.iter().flat_map(|text| text.split("---\n")).filter(|text| text.contains("kind:"));
        let world = manifest::parse(&documents.collect::<Vec<_>>().join("---\n"))?;
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut objects = TestObjects { directory: directory.into(), objects: BTreeMap::new() };
        for text in manifest::write(&world).split("---\n").filter(|text| !text.is_empty()) {
            let object: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            objects.apply(&object)?;
        }
        Ok((world, objects))
    }

    /// Where they are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Every one.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.objects.values().cloned().collect()
    }

    /// The one of a kind and a name that only it has.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Result<Value, String> {
        let mut objects = self.objects.values();
        let found = objects.find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.cloned().ok_or_else(|| format!("there is no {kind} {name}"))
    }

    /// Writes one in an instant.
    pub(crate) fn apply(&mut self, object: &Value) -> Result<(), String> {
        let name = file(object);
        let draft = self.directory.join(format!(".{name}.draft"));
        std::fs::write(&draft, object.to_string())
            .and_then(|()| std::fs::rename(&draft, self.directory.join(&name)))
            .map_err(|error| format!("cannot write {name}: {error}"))?;
        self.objects.insert(name, object.clone());
        Ok(())
    }

    /// Removes one.
    pub(crate) fn delete(&mut self, object: &Value) -> Result<(), String> {
        let name = file(object);
        self.objects.remove(&name);
        std::fs::remove_file(self.directory.join(&name))
            .map_err(|error| format!("cannot remove {name}: {error}"))
    }
}

fn file(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
    let metadata = &object["metadata"];
    format!("{}.{}.{}.json", word(&metadata["namespace"]), word(&metadata["name"]), word(&object["kind"]))
}
