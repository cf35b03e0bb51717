//! The examples, and what a comparison finds.

use bridgewarden::model::{Pod, Snapshot};
use bridgewarden::net::PortSet;
use bridgewarden::reach::{ClassId, Reach};
use bridgewarden::source::{ManifestInput, read_snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The kinds of which an example of plain NetworkPolicies has none.
pub(crate) const OTHER_KINDS: [&str; 7] = [
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "UserDefinedNetwork",
    "ClusterUserDefinedNetwork",
    "NetworkAttachmentDefinition",
    "MultiNetworkPolicy",
    "VirtualMachine",
];

pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of the checkout") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

pub(crate) fn is_manifest(file: &Path) -> bool {
    file.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

pub(crate) fn is_plain(directory: &Path) -> bool {
    files_below(directory).iter().all(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let names_kind = |line: &str, kind: &str| {
            let line = line.trim().trim_start_matches("- ").replace(['"', ','], "");
            line.strip_prefix("kind:").is_some_and(|value| value.trim() == kind)
        };
        text.lines().all(|line| !OTHER_KINDS.iter().any(|kind| names_kind(line, kind)))
    })
}

/// A cluster of an example and what is allowed in it.
pub(crate) struct Example {
    pub(crate) snapshot: Snapshot,
    pub(crate) reach: Reach,
}

impl Example {
    pub(crate) fn read(directory: &Path) -> Result<Example, String> {
        // Some examples have outputs of the other project beside their manifests.
        let manifests =
            files_below(directory).into_iter().filter(|file| !file.ends_with("connlist_output.json"));
        let inputs: Vec<ManifestInput> =
            manifests.filter(|file| is_manifest(file)).map(ManifestInput::Path).collect();
        let input = read_snapshot(&inputs).map_err(|error| error.to_string())?;
        let reach = Reach::new(&input.snapshot);
        Ok(Example { snapshot: input.snapshot, reach })
    }

    /// The classes of each workload, under the name that the other project gives it: its pods' direct owner.
    pub(crate) fn workloads(&self) -> BTreeMap<String, BTreeSet<ClassId>> {
        let mut workloads: BTreeMap<String, BTreeSet<ClassId>> = BTreeMap::new();
        for (key, pod) in &self.snapshot.pods {
            if let Some(class) = self.reach.class_of(key) {
                workloads.entry(name_of(pod)).or_default().insert(class);
            }
        }
        workloads
    }
}

pub(crate) fn name_of(pod: &Pod) -> String {
    let namespace = &pod.key.namespace;
    match pod.owner.as_deref().filter(|owner| *owner.kind != *"Node") {
        Some(owner) if owner.kind.is_empty() => format!("{namespace}/{}[Pod]", owner.name),
        Some(owner) => format!("{namespace}/{}[{}]", owner.name, owner.kind),
        None => format!("{namespace}/{}[Pod]", pod.key.name),
    }
}

/// How many pairs were compared, and those that differ.
#[derive(Default)]
pub(crate) struct Compared {
    pub(crate) pairs: usize,
    pub(crate) differing: Vec<String>,
}

impl Compared {
    pub(crate) fn compare(&mut self, what: &str, ours: &PortSet, theirs: &PortSet) {
        self.pairs += 1;
        // The other project says nothing of protocols without ports.
        let ours = ours.intersection(&PortSet::every_port());
        if ours != *theirs {
            self.differing.push(format!("{what}: ours {ours}, theirs {theirs}"));
        }
    }
}
