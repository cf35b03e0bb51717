//! Converts the events of one watch to lines of JSON: only those that change a field which is read.
//!
//! Most events of a pod change other fields: conditions, restarts, annotations. They are skipped before they wake a
//! task.

use super::event::{FrameEvent, beginning, bookmark_at, event};
use super::pod::Reading;
use super::wire::Malformed;
use crate::api::Pod;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

/// After how many skipped events a bookmark is written: if the watch breaks, the server repeats at most this many.
const BOOKMARK_AFTER: u32 = 64;

/// An event about a pod. Its type comes first, so that the rest can be read without a buffer.
///
/// The object is a pair: what is wrong, and the pod; the complete pod if nothing is wrong, or else what is certain of it. An
/// object of the API is never a list, so the reader can distinguish the two (`watch::object`).
#[derive(Serialize)]
struct EventLine<'a, O> {
    #[serde(rename = "type")]
    kind: &'a str,
    object: (Option<String>, O),
}

/// A watch of pods.
#[derive(Debug, Default)]
pub(in crate::source::watch) struct Session {
    /// By the hash of a pod's name: the hash of its content in the last line about it.
    written: BTreeMap<u64, u64>,
    hasher: RandomState,
    skipped: u32,
}

impl Session {
    /// Appends the line of an event, if it changes anything.
    ///
    /// # Errors
    /// It cannot be read, not even which pod it is about.
    pub(in crate::source::watch) fn decode(
        &mut self,
        frame: &[u8],
        lines: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        self.write_event(event(frame)?, lines)
    }

    /// The same for an event of which only the beginning was received.
    ///
    /// # Errors
    /// The beginning does not contain the pod's name.
    pub(in crate::source::watch) fn decode_beginning(
        &mut self,
        head: &[u8],
        lines: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        self.write_event(beginning(head).ok_or(Malformed::Long)?, lines)
    }

    fn write_event(&mut self, event: FrameEvent<'_>, lines: &mut Vec<u8>) -> Result<(), Malformed> {
        match event {
            FrameEvent::Pod(_, reading) if reading.pod.metadata.name.is_empty() => {
                Err(reading.fault.map_or(Malformed::Nameless, |(_, fault)| fault))
            }
            FrameEvent::Pod(kind, reading) if reading.fault.is_some() => {
                self.write_unreadable(kind, &reading, lines)
            }
            FrameEvent::Pod(kind, reading) if self.is_new(kind, &reading.pod) => {
                self.skipped = 0;
                write(&EventLine { kind, object: (None, &reading.pod) }, lines)
            }
            FrameEvent::Pod(_, reading) => {
                self.skipped += 1;
                let version = reading.pod.metadata.resource_version;
                match version.filter(|_| self.skipped >= BOOKMARK_AFTER) {
                    Some(version) => {
                        self.skipped = 0;
                        write(&bookmark_at(&version, Map::new()), lines)
                    }
                    None => Ok(()),
                }
            }
            FrameEvent::Other(other) => write(&other, lines),
        }
    }

    /// Writes what is certain of a pod that cannot be read completely.
    fn write_unreadable(
        &mut self,
        kind: &str,
        reading: &Reading,
        lines: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let Some((field, fault)) = reading.fault else { return Ok(()) };
        let metadata = &reading.pod.metadata;
        if !reading.certain.namespace {
            return Err(fault);
        }
        self.written.remove(&self.hasher.hash_one((&metadata.namespace, &metadata.name)));
        self.skipped = 0;
        write(&EventLine { kind, object: (Some(format!("{field}: {fault}")), partial(reading)) }, lines)
    }

    /// Whether a pod differs from the last line about it.
    fn is_new(&mut self, kind: &str, pod: &Pod) -> bool {
        let Pod { metadata, spec, status } = pod;
        let name = self.hasher.hash_one((&metadata.namespace, &metadata.name));
        if kind == "DELETED" {
            self.written.remove(&name);
            return true;
        }
        let rest = (&metadata.uid, &metadata.labels, &metadata.owner_references, &metadata.annotations);
        let content = self.hasher.hash_one((&metadata.namespace, &metadata.name, rest, spec, status));
        let before = self.written.insert(name, content);
        kind != "MODIFIED" || before != Some(content)
    }
}

/// What is certain of a pod, in the API's shape; a field that is not certain has a value of a wrong type.
fn partial(reading: &Reading) -> Json {
    let Reading { pod: Pod { metadata, spec, status }, certain, .. } = reading;
    let of_spec = json!({
        "nodeName": if certain.node { json!(spec.node_name) } else { json!(false) },
        "hostNetwork": if certain.host_network { json!(spec.host_network == Some(true)) } else { json!("unknown") },
    });
    json!({
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        },
        "spec": of_spec,
        "status": {"phase": status.phase, "podIP": status.pod_ip, "podIPs": status.pod_ips},
    })
}

fn write(value: &impl Serialize, lines: &mut Vec<u8>) -> Result<(), Malformed> {
    // None of these values can fail to serialize.
    serde_json::to_writer(&mut *lines, value).map_err(|_| Malformed::Text)?;
    lines.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::watch::protobuf::event::tests::frame;
    use crate::source::watch::protobuf::wire::tests::bytes;
    use serde_json::{Value as Json, json};

    fn pod(kind: &str, app: &str, version: &str, noise: &str) -> Vec<u8> {
        let label = [bytes(1, "app"), bytes(2, app)].concat();
        let annotation = [bytes(1, "example.org/noise"), bytes(2, noise)].concat();
        let metadata =
            [bytes(1, "web"), bytes(3, "shop"), bytes(6, version), bytes(11, label), bytes(12, annotation)];
        frame(kind, "Pod", &bytes(1, metadata.concat()))
    }

    fn lines(session: &mut Session, frame: &[u8]) -> Vec<Json> {
        let mut lines = Vec::new();
        session.decode(frame, &mut lines).unwrap();
        assert!(lines.is_empty() || lines.ends_with(b"\n"));
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[test]
    fn pod_is_written_with_its_version_when_it_is_added_modified_and_deleted() {
        let mut session = Session::default();
        for (kind, app, version) in [("ADDED", "web", "1"), ("MODIFIED", "api", "2"), ("DELETED", "api", "3")]
        {
            let read = lines(&mut session, &pod(kind, app, version, ""));
            assert_eq!((read.len(), &read[0]["type"]), (1, &json!(kind)));
            assert_eq!(read[0]["object"][1]["metadata"]["resourceVersion"], version);
            assert_eq!(read[0]["object"][1]["metadata"]["labels"], json!({"app": app}));
        }
    }

    #[test]
    fn change_of_a_field_that_is_not_read_is_skipped_and_bookmarks_are_written_in_between() {
        let mut session = Session::default();
        lines(&mut session, &pod("ADDED", "web", "1", ""));
        for version in 2..200_u32 {
            let read =
                lines(&mut session, &pod("MODIFIED", "web", &version.to_string(), &version.to_string()));
            if (version - 1).is_multiple_of(BOOKMARK_AFTER) {
                assert_eq!(read, [bookmark_at(&version.to_string(), Map::new())]);
            } else {
                assert_eq!(read, [] as [Json; 0]);
            }
        }
        assert_eq!(lines(&mut session, &pod("MODIFIED", "api", "200", ""))[0]["type"], "MODIFIED");
    }

    #[test]
    fn pod_that_returned_or_that_this_watch_has_not_written_is_written() {
        let mut session = Session::default();
        assert_eq!(lines(&mut session, &pod("MODIFIED", "web", "1", "")).len(), 1, "a watch that resumed");
        assert_eq!(lines(&mut session, &pod("DELETED", "web", "2", "")).len(), 1);
        assert_eq!(lines(&mut session, &pod("MODIFIED", "web", "3", "")).len(), 1);
        assert_eq!(lines(&mut session, &pod("ADDED", "web", "4", "")).len(), 1, "a list names all");
    }
}
