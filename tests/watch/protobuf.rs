//! Watches of pods in protocol buffers, as kube-apiserver sends them (k8s.io/api/core/v1 and k8s.io/apimachinery,
//! `generated.proto`).

use super::server::Reply;
use super::{Resource, WatchList, session};

/// A field that holds bytes, and one that holds a number; the length and the number are under 16,384.
pub(crate) fn bytes(number: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let length = [(value.len() & 0x7f) as u8 | 0x80, (value.len() >> 7) as u8];
    [&[number << 3 | 2], &length[..], value].concat()
}

pub(crate) fn number(number: u8, value: u16) -> Vec<u8> {
    vec![number << 3, (value & 0x7f) as u8 | 0x80, (value >> 7) as u8]
}

fn object(kind: &str, message: &[u8]) -> Vec<u8> {
    let types = [bytes(1, "v1"), bytes(2, kind)].concat();
    [b"k8s\0".to_vec(), bytes(1, types), bytes(2, message)].concat()
}

pub(crate) fn frame(event: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let frame = [bytes(1, event), bytes(2, bytes(1, object(kind, message)))].concat();
    [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
}

pub(crate) fn pod(event: &str, name: &str, app: &str, version: &str) -> Vec<u8> {
    let label = [bytes(1, "app"), bytes(2, app)].concat();
    let metadata = [bytes(1, name), bytes(3, "shop"), bytes(6, version), bytes(11, label)].concat();
    frame(event, "Pod", &bytes(1, metadata))
}

pub(crate) fn listed(version: &str) -> Vec<u8> {
    let end = [bytes(1, "k8s.io/initial-events-end"), bytes(2, "true")].concat();
    frame("BOOKMARK", "Pod", &bytes(1, [bytes(6, version), bytes(12, end)].concat()))
}

fn failure(code: u16, reason: &str) -> Vec<u8> {
    [bytes(2, "Failure"), bytes(3, "no"), bytes(4, reason), number(6, code)].concat()
}

#[tokio::test]
async fn pods_are_received_however_their_bytes_are_cut() {
    let events = [
        pod("ADDED", "a", "web", "1"),
        pod("ADDED", "b", "db", "2"),
        listed("2"),
        pod("MODIFIED", "a", "api", "3"),
        pod("DELETED", "b", "db", "4"),
    ];
    for piece in [1, 3, 50, 4096] {
        let replies = vec![Reply::Protobuf(events.concat(), piece)];
        let mut session =
            session(&format!("protobuf-{piece}"), Resource::Pods, WatchList::Auto, replies).await;
        assert_eq!(
            session.received(5).await,
            "+shop/a@app=web +shop/b@app=db listed +shop/a@app=api -shop/b"
        );
        assert_eq!(session.server.requests(), ["watch streamed in protobuf"]);
    }
}

#[tokio::test]
async fn watch_of_pods_whose_version_the_server_dropped_starts_with_a_new_list() {
    let first =
        [pod("ADDED", "a", "web", "1"), listed("1"), frame("ERROR", "Status", &failure(410, "Expired"))];
    let second = [pod("ADDED", "b", "db", "7"), listed("7")];
    let replies = vec![Reply::Protobuf(first.concat(), 64), Reply::Protobuf(second.concat(), 64)];
    let mut session = session("protobuf-dropped", Resource::Pods, WatchList::Auto, replies).await;
    assert_eq!(
        session.received(6).await,
        "+shop/a@app=web listed error:refused +shop/b@app=db -shop/a listed"
    );
}

#[tokio::test]
async fn streaming_rejected_in_protobuf_leads_to_pages() {
    let replies = vec![
        Reply::ProtobufStatus(422, object("Status", &failure(422, "Invalid"))),
        Reply::Page(vec![], "7", None),
        Reply::Protobuf(pod("ADDED", "c", "web", "8"), 64),
    ];
    let mut session = session("protobuf-rejected", Resource::Pods, WatchList::Auto, replies).await;
    assert_eq!(session.received(2).await, "listed +shop/c@app=web");
    let requests = session.server.requests();
    assert_eq!(requests, ["watch streamed in protobuf", "list", "watch from 7 in protobuf"]);
}

#[tokio::test]
async fn frame_of_an_absurd_length_is_an_error_and_the_watch_resumes_after_the_last_event() {
    let broken = [listed("1"), pod("ADDED", "a", "web", "2"), vec![0xff; 6]];
    let replies =
        vec![Reply::Protobuf(broken.concat(), 64), Reply::Protobuf(pod("ADDED", "b", "db", "3"), 64)];
    let mut session = session("protobuf-broken", Resource::Pods, WatchList::Auto, replies).await;
    assert_eq!(session.received(4).await, "listed +shop/a@app=web error:unreachable +shop/b@app=db");
    assert_eq!(session.server.requests()[1], "watch from 2 in protobuf");
}
