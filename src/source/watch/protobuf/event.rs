//! An event of a watch (metav1.WatchEvent).

use super::pod::{Reading, pod};
use super::wire::{Malformed, WireValue, entry, fields, find, find_in_beginning, text};
use serde_json::{Map, Value as Json, json};

/// The first bytes of an object in an envelope (runtime.Unknown).
const MAGIC: &[u8] = b"k8s\0";

/// An event.
#[derive(Debug, PartialEq)]
pub(super) enum FrameEvent<'a> {
    /// A pod was `ADDED`, `MODIFIED` or `DELETED`.
    Pod(&'a str, Box<Reading>),
    /// A bookmark or an error, as in JSON.
    Other(Json),
}

pub(super) fn event(frame: &[u8]) -> Result<FrameEvent<'_>, Malformed> {
    let (mut kind, mut object) = ("", &[][..]);
    for field in fields(frame) {
        match field? {
            (1, WireValue::Bytes(bytes)) => kind = text(bytes)?,
            (2, WireValue::Bytes(bytes)) => object = find(bytes, 1)?,
            _ => {}
        }
    }
    let (of, message) = unwrap(object)?;
    match (kind, of) {
        ("ADDED" | "MODIFIED" | "DELETED", "Pod") => Ok(FrameEvent::Pod(kind, Box::new(pod(message)))),
        ("ERROR", _) | (_, "Status") => {
            Ok(FrameEvent::Other(json!({"type": "ERROR", "object": status_of(message)?})))
        }
        ("BOOKMARK", _) => {
            let (version, annotations) = bookmark(message)?;
            Ok(FrameEvent::Other(bookmark_at(version, annotations)))
        }
        _ => Err(Malformed::Kind),
    }
}

/// The event at the beginning of a frame that is too long to be read completely. A pod's metadata is its first field.
pub(super) fn beginning(head: &[u8]) -> Option<FrameEvent<'_>> {
    let kind = find_in_beginning(head, 1)?;
    let object = find_in_beginning(find_in_beginning(head, 2)?, 1)?.strip_prefix(MAGIC)?;
    let metadata = find_in_beginning(find_in_beginning(object, 2)?, 1)?;
    let mut reading = pod(&[]);
    super::pod::metadata(WireValue::Bytes(metadata), &mut reading);
    reading.fault = Some(("object", Malformed::Long));
    reading.certain.node = false;
    reading.certain.host_network = false;
    let kind = text(kind).ok().filter(|kind| matches!(*kind, "ADDED" | "MODIFIED" | "DELETED"))?;
    Some(FrameEvent::Pod(kind, Box::new(reading)))
}

/// An error response (metav1.Status), as JSON.
pub(in crate::source::watch) fn status(object: &[u8]) -> Result<Vec<u8>, Malformed> {
    Ok(status_of(unwrap(object)?.1)?.to_string().into_bytes())
}

/// A bookmark: an event with a pod that has only metadata.
pub(super) fn bookmark_at(version: &str, annotations: Map<String, Json>) -> Json {
    let metadata = json!({"resourceVersion": version, "annotations": annotations});
    json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}})
}

/// Returns an object's kind and its message from their envelope.
fn unwrap(object: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let envelope = object.strip_prefix(MAGIC).ok_or(Malformed::Kind)?;
    let (mut kind, mut message) = ("", &[][..]);
    for field in fields(envelope) {
        match field? {
            (1, WireValue::Bytes(types)) => kind = text(find(types, 2)?)?,
            (2, WireValue::Bytes(bytes)) => message = bytes,
            _ => {}
        }
    }
    Ok((kind, message))
}

fn bookmark(message: &[u8]) -> Result<(&str, Map<String, Json>), Malformed> {
    let (mut version, mut annotations) = ("", Map::new());
    for field in fields(find(message, 1)?) {
        match field? {
            (6, WireValue::Bytes(bytes)) => version = text(bytes)?,
            (12, WireValue::Bytes(bytes)) => {
                let (key, value) = entry(bytes)?;
                annotations.insert(key.to_owned(), value.into());
            }
            _ => {}
        }
    }
    Ok((version, annotations))
}

fn status_of(message: &[u8]) -> Result<Json, Malformed> {
    let (mut status, mut message_text, mut reason, mut code) = ("", "", "", 0);
    for field in fields(message) {
        match field? {
            (2, WireValue::Bytes(bytes)) => status = text(bytes)?,
            (3, WireValue::Bytes(bytes)) => message_text = text(bytes)?,
            (4, WireValue::Bytes(bytes)) => reason = text(bytes)?,
            (6, WireValue::Number(number)) => code = number,
            _ => {}
        }
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {},
        "status": status, "message": message_text, "reason": reason, "code": code,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::source::watch::protobuf::wire::tests::{bytes, number};
    use proptest::prelude::*;

    fn envelope(kind: &str, message: &[u8]) -> Vec<u8> {
        let types = [bytes(1, "v1"), bytes(2, kind)].concat();
        [MAGIC.to_vec(), bytes(1, types), bytes(2, message), bytes(3, ""), bytes(4, "")].concat()
    }

    /// The frame of an event about an object of a kind.
    pub(in crate::source::watch::protobuf) fn frame(event: &str, kind: &str, message: &[u8]) -> Vec<u8> {
        [bytes(1, event), bytes(2, bytes(1, envelope(kind, message)))].concat()
    }

    #[test]
    fn bookmark_keeps_its_version_and_the_annotation_that_ends_a_list() {
        let end = [bytes(1, "k8s.io/initial-events-end"), bytes(2, "true")].concat();
        let metadata = [bytes(6, "99"), bytes(12, end)].concat();
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let metadata_of_json = json!({"resourceVersion": "99", "annotations": annotations});
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata_of_json});
        let frame = frame("BOOKMARK", "Pod", &bytes(1, metadata));
        assert_eq!(event(&frame), Ok(FrameEvent::Other(json!({"type": "BOOKMARK", "object": object}))));
    }

    #[test]
    fn error_keeps_its_code_and_its_message() {
        let fields =
            [bytes(1, ""), bytes(2, "Failure"), bytes(3, "too old"), bytes(4, "Expired"), number(6, 410)];
        let message = fields.concat();
        let status_in_json = json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {},
            "status": "Failure", "message": "too old", "reason": "Expired", "code": 410,
        });
        let frame = frame("ERROR", "Status", &message);
        assert_eq!(event(&frame), Ok(FrameEvent::Other(json!({"type": "ERROR", "object": status_in_json}))));
        let alone: Json = serde_json::from_slice(&status(&envelope("Status", &message)).unwrap()).unwrap();
        assert_eq!(alone, status_in_json);
    }

    #[test]
    fn object_that_is_neither_a_pod_nor_a_status_is_no_event() {
        assert_eq!(event(&frame("ADDED", "Node", b"")), Err(Malformed::Kind));
        let bare = [bytes(1, "ADDED"), bytes(2, bytes(1, "{}"))].concat();
        assert_eq!(event(&bare), Err(Malformed::Kind));
        assert_eq!(event(&frame("DREAMT", "Pod", b"")), Err(Malformed::Kind));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = event(&noise);
            let _ = event(&frame("ADDED", "Pod", &noise));
            let _ = status(&noise);
        }
    }
}
