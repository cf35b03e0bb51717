//! A generated cluster as files, in the forms in which users keep one.

use crate::cluster::GeneratedCluster;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Serializer, Value, json};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The files of a cluster; each form has all objects.
#[derive(Clone, Debug)]
pub struct ClusterFiles {
    /// The output of `kubectl get -o yaml`.
    pub yaml: PathBuf,
    /// The output of `kubectl get -o json`.
    pub json: PathBuf,
    /// A directory with a file of YAML for each object.
    pub directory: PathBuf,
}

impl ClusterFiles {
    /// Where the files are in `root`.
    pub fn of(root: &Path) -> ClusterFiles {
        ClusterFiles {
            yaml: root.join("list.yaml"),
            json: root.join("list.json"),
            directory: root.join("objects"),
        }
    }

    /// Writes the cluster to `root`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(root: &Path, cluster: &GeneratedCluster) -> Result<ClusterFiles> {
        let files = ClusterFiles::of(root);
        let objects: Vec<Value> =
            cluster.objects()?.into_iter().enumerate().map(|(index, object)| stored(object, index)).collect();
        let _ = fs::remove_dir_all(&files.directory);
        for object in &objects {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let directory = files.directory.join(text(&metadata["namespace"]));
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
            let name = format!("{}-{}.yaml", text(&object["kind"]).to_lowercase(), text(&metadata["name"]));
            to_file(&directory.join(name), |file| Ok(serde_yaml_ng::to_writer(file, object)?))?;
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects});
        to_file(&files.yaml, |file| Ok(serde_yaml_ng::to_writer(file, &list)?))?;
        to_file(&files.json, |file| {
            Ok(list.serialize(&mut Serializer::with_formatter(file, PrettyFormatter::with_indent(b"    ")))?)
        })?;
        Ok(files)
    }
}

fn to_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let written = || {
        let mut file = BufWriter::new(File::create(path)?);
        write(&mut file)?;
        anyhow::Ok(file.flush()?)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// An object with what an API server adds when it stores it: identity and default values.
fn stored(mut object: Value, index: usize) -> Value {
    let metadata = &mut object["metadata"];
    metadata["uid"] = format!("5d3f9c1e-7a2b-4c6d-8e9f-{index:012x}").into();
    metadata["resourceVersion"] = (100_000 + index).to_string().into();
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    if object["kind"] == "Pod" {
        let spec = &mut object["spec"];
        for (field, value) in [
            ("dnsPolicy", json!("ClusterFirst")),
            ("enableServiceLinks", json!(true)),
            ("preemptionPolicy", json!("PreemptLowerPriority")),
            ("priority", json!(0)),
            ("restartPolicy", json!("Always")),
            ("schedulerName", json!("default-scheduler")),
            ("securityContext", json!({})),
            ("serviceAccount", json!("default")),
            ("terminationGracePeriodSeconds", json!(30)),
        ] {
            spec[field] = value;
        }
        let container = &mut spec["containers"][0];
        container["imagePullPolicy"] = "IfNotPresent".into();
        container["terminationMessagePath"] = "/dev/termination-log".into();
        container["terminationMessagePolicy"] = "File".into();
        object["status"]["qosClass"] = "Burstable".into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Size;
    use bridgewarden::source::{ManifestInput, read_snapshot};

    #[test]
    fn every_form_is_read_as_the_same_cluster() {
        let root = std::env::temp_dir().join(format!("bridgewarden-forms-{}", std::process::id()));
        let size = Size { pods: 60, policies: 20, local_pods: 5, namespaces: 4, seed: 1 };
        let files = ClusterFiles::write(&root, &GeneratedCluster::new(&size).unwrap()).unwrap();
        let read = |path: &Path| read_snapshot(&[ManifestInput::Path(path.to_owned())]).unwrap().snapshot;
        let listed = read(&files.yaml);
        assert_eq!((listed.pods.len(), listed.policies.len()), (60, 20));
        for other in [read(&files.json), read(&files.directory)] {
            assert_eq!((&other.pods, &other.namespaces), (&listed.pods, &listed.namespaces));
            assert_eq!(other.policies, listed.policies);
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
