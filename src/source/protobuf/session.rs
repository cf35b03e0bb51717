//! One watch, from its first event to its last, as lines of JSON: only those events that tell something new.
//!
//! Most events of a pod are about what is not read here: conditions, restarts, annotations. They are passed over before anybody
//! is woken for them.

use super::event::{Event, bookmark_at, event};
use super::wire::Malformed;
use crate::api::Pod;
use serde::Serialize;
use serde_json::Map;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

/// After how many events that are passed over it is told how far the watch has got. Were it cut before, so many would be sent
/// again, at most.
const PASSED_OVER: u32 = 64;

/// An event about a pod. What kind it is comes first: whoever reads it needs that to read the rest as it comes.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    object: &'a Pod,
}

/// A watch of pods.
#[derive(Debug, Default)]
pub(in crate::source) struct Session {
    /// By the hash of a pod's name: the hash of what was last told of it.
    told: BTreeMap<u64, u64>,
    hasher: RandomState,
    passed_over: u32,
}

impl Session {
    /// Adds what an event tells, if it tells anything.
    pub(in crate::source) fn tell(&mut self, frame: &[u8], lines: &mut Vec<u8>) -> Result<(), Malformed> {
        match event(frame)? {
            Event::Pod(kind, pod) if self.is_new(kind, &pod) => {
                self.passed_over = 0;
                write(&Line { kind, object: &pod }, lines)
            }
            Event::Pod(_, pod) => {
                self.passed_over += 1;
                match pod.metadata.resource_version.filter(|_| self.passed_over >= PASSED_OVER) {
                    Some(version) => {
                        self.passed_over = 0;
                        write(&bookmark_at(&version, Map::new()), lines)
                    }
                    None => Ok(()),
                }
            }
            Event::Other(other) => write(&other, lines),
        }
    }

    /// Whether a pod is not as it was when this watch told of it last.
    fn is_new(&mut self, kind: &str, pod: &Pod) -> bool {
        let Pod { metadata, spec, status } = pod;
        let name = self.hasher.hash_one((&metadata.namespace, &metadata.name));
        if kind == "DELETED" {
            self.told.remove(&name);
            return true;
        }
        let rest = (&metadata.uid, &metadata.labels, &metadata.owner_references, &metadata.annotations);
        let content = self.hasher.hash_one((&metadata.namespace, &metadata.name, rest, spec, status));
        let before = self.told.insert(name, content);
        kind != "MODIFIED" || before != Some(content)
    }
}

fn write(value: &impl Serialize, lines: &mut Vec<u8>) -> Result<(), Malformed> {
    // Nothing of these can fail to be written.
    serde_json::to_writer(&mut *lines, value).map_err(|_| Malformed::Text)?;
    lines.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::protobuf::event::tests::frame;
    use crate::source::protobuf::wire::tests::bytes;
    use serde_json::{Value as Json, json};

    fn pod(kind: &str, app: &str, version: &str, noise: &str) -> Vec<u8> {
        let label = [bytes(1, "app"), bytes(2, app)].concat();
        let annotation = [bytes(1, "example.org/noise"), bytes(2, noise)].concat();
        let metadata =
            [bytes(1, "web"), bytes(3, "shop"), bytes(6, version), bytes(11, label), bytes(12, annotation)];
        frame(kind, "Pod", &bytes(1, metadata.concat()))
    }

    fn told(session: &mut Session, frame: &[u8]) -> Vec<Json> {
        let mut lines = Vec::new();
        session.tell(frame, &mut lines).unwrap();
        assert!(lines.is_empty() || lines.ends_with(b"\n"));
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[test]
    fn pod_is_told_with_its_version_when_it_comes_changes_and_goes() {
        let mut session = Session::default();
        for (kind, app, version) in [("ADDED", "web", "1"), ("MODIFIED", "api", "2"), ("DELETED", "api", "3")]
        {
            let told = told(&mut session, &pod(kind, app, version, ""));
            assert_eq!((told.len(), &told[0]["type"]), (1, &json!(kind)));
            assert_eq!(told[0]["object"]["metadata"]["resourceVersion"], version);
            assert_eq!(told[0]["object"]["metadata"]["labels"], json!({"app": app}));
        }
    }

    #[test]
    fn change_of_what_is_not_read_is_passed_over_and_now_and_then_it_is_told_how_far_the_watch_is() {
        let mut session = Session::default();
        told(&mut session, &pod("ADDED", "web", "1", ""));
        for version in 2..200_u32 {
            let told =
                told(&mut session, &pod("MODIFIED", "web", &version.to_string(), &version.to_string()));
            if (version - 1).is_multiple_of(PASSED_OVER) {
                assert_eq!(told, [bookmark_at(&version.to_string(), Map::new())]);
            } else {
                assert_eq!(told, [] as [Json; 0]);
            }
        }
        assert_eq!(told(&mut session, &pod("MODIFIED", "api", "200", ""))[0]["type"], "MODIFIED");
    }

    #[test]
    fn pod_that_came_back_or_that_this_watch_has_not_told_of_is_told() {
        let mut session = Session::default();
        assert_eq!(
            told(&mut session, &pod("MODIFIED", "web", "1", "")).len(),
            1,
            "a watch that was taken up"
        );
        assert_eq!(told(&mut session, &pod("DELETED", "web", "2", "")).len(), 1);
        assert_eq!(told(&mut session, &pod("MODIFIED", "web", "3", "")).len(), 1);
        assert_eq!(told(&mut session, &pod("ADDED", "web", "4", "")).len(), 1, "a list names all");
    }
}
