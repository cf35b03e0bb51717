//! Objects that cannot be read: they affect no other object, and nothing in them opens anything.

use super::protobuf::{bytes, frame, listed as listed_in_protobuf, number, pod as sound_pod};
use super::server::Reply;
use super::{Resource, Session, WatchList, event, listed, namespace, session};
use bridgewarden::source::{UnreadableObject, WatchUpdate};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NOT_UTF_8: &[u8] = b"caf\xe9";

fn entry(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    [bytes(1, key), bytes(2, value)].concat()
}

/// Metadata of the pod `shop/odd`.
fn metadata(more: &[Vec<u8>]) -> Vec<u8> {
    let own = [bytes(1, "odd"), bytes(3, "shop"), bytes(6, "5"), bytes(11, entry("app", "web"))];
    bytes(1, [own.concat(), more.concat()].concat())
}

fn spec(more: &[Vec<u8>]) -> Vec<u8> {
    bytes(2, [bytes(10, "node-a"), more.concat()].concat())
}

fn status() -> Vec<u8> {
    bytes(3, [bytes(1, "Running"), bytes(12, bytes(1, "10.1.0.9"))].concat())
}

/// The changes for a pod like this between two valid ones, the same in a list and in a watch.
async fn received(name: &str, message: Vec<u8>) -> (String, Vec<UnreadableObject>) {
    let mut received = Vec::new();
    let mut unreadable = Vec::new();
    for (kind, streamed) in [("ADDED", true), ("MODIFIED", false)] {
        let odd = frame(kind, "Pod", &message);
        let (a, b) = (sound_pod(kind, "a", "x", "4"), sound_pod(kind, "b", "x", "6"));
        let events = match streamed {
            true => [a, odd, b, listed_in_protobuf("6")].concat(),
            false => [listed_in_protobuf("1"), a, odd, b].concat(),
        };
        let replies = vec![Reply::Protobuf(events, 64)];
        let mut session =
            session(&format!("unreadable-{name}-{kind}"), Resource::Pods, WatchList::On, replies).await;
        let (words, odd) = until(&mut session, "+shop/b@app=x").await;
        let words: Vec<String> = words.into_iter().filter(|word| word != "listed").collect();
        assert_eq!(
            (words[0].as_str(), words.last().expect("a word").as_str()),
            ("+shop/a@app=x", "+shop/b@app=x")
        );
        received.push(words[1..words.len() - 1].join(" "));
        unreadable.extend(odd);
    }
    assert_eq!(received[0], received[1], "{name}: a list and a watch give the same changes");
    (received.swap_remove(0), unreadable)
}

/// The changes up to and including this one. The watch must not fail.
async fn until(session: &mut Session, last: &str) -> (Vec<String>, Vec<UnreadableObject>) {
    let (mut words, mut unreadable) = (Vec::new(), Vec::new());
    while !words.iter().any(|word| word == last) {
        let WatchUpdate { changes, listed, unreadable: odd, .. } =
            tokio::time::timeout(Duration::from_secs(20), session.watch.next())
                .await
                .expect("the watch continues")
                .expect("one object does not fail the watch");
        words.extend(changes.iter().map(super::word));
        words.extend(listed.then(|| "listed".to_owned()));
        unreadable.extend(odd);
    }
    (words, unreadable)
}

#[tokio::test]
async fn fields_that_decide_nothing_may_contain_anything() {
    let port = bytes(6, [bytes(5, NOT_UTF_8), number(3, 80)].concat());
    for (name, message) in [
        ("annotation", [metadata(&[bytes(12, entry("note", NOT_UTF_8))]), spec(&[]), status()]),
        ("annotation-key", [metadata(&[bytes(12, bytes(1, NOT_UTF_8))]), spec(&[]), status()]),
        ("annotation-type", [metadata(&[number(12, 7)]), spec(&[]), status()]),
        ("annotation-cut", [metadata(&[bytes(12, [1 << 3 | 2, 99])]), spec(&[]), status()]),
        (
            "mirror",
            [metadata(&[bytes(12, entry("kubernetes.io/config.mirror", NOT_UTF_8))]), spec(&[]), status()],
        ),
        ("owner", [metadata(&[bytes(13, bytes(3, NOT_UTF_8))]), spec(&[]), status()]),
        ("owner-cut", [metadata(&[bytes(13, [9, 9, 9])]), spec(&[]), status()]),
        ("container", [metadata(&[]), spec(&[bytes(2, bytes(1, NOT_UTF_8))]), status()]),
        ("host-ip", [metadata(&[]), spec(&[bytes(2, port)]), status()]),
        ("volume", [metadata(&[]), spec(&[bytes(1, [9, 9, 9])]), status()]),
    ] {
        let (changes, unreadable) = received(name, message.concat()).await;
        assert_eq!((changes.as_str(), unreadable), ("+shop/odd@app=web", vec![]), "{name}");
    }
}

#[tokio::test]
async fn pod_that_cannot_be_read_is_unknown_at_its_addresses_and_affects_no_other() {
    let port = |port: Vec<u8>| bytes(2, bytes(6, port));
    let on_node_a = "?shop/odd@node-a:10.1.0.9";
    for (name, message, expected) in [
        ("label", [metadata(&[bytes(11, entry("a", NOT_UTF_8))]), spec(&[]), status()], on_node_a),
        ("label-key", [metadata(&[bytes(11, bytes(1, NOT_UTF_8))]), spec(&[]), status()], on_node_a),
        ("label-type", [metadata(&[number(11, 1)]), spec(&[]), status()], on_node_a),
        ("label-cut", [metadata(&[bytes(11, [1 << 3 | 2, 99])]), spec(&[]), status()], on_node_a),
        ("metadata-cut", [metadata(&[vec![11 << 3 | 2, 99]]), spec(&[]), status()], on_node_a),
        ("port", [metadata(&[]), spec(&[port(bytes(1, NOT_UTF_8))]), status()], on_node_a),
        ("port-type", [metadata(&[]), spec(&[port(bytes(3, "80"))]), status()], on_node_a),
        ("port-cut", [metadata(&[]), spec(&[port(vec![1 << 3 | 2, 99])]), status()], on_node_a),
        ("wire-type", [metadata(&[vec![11 << 3 | 7]]), spec(&[]), status()], on_node_a),
        // Without its node's name it may be here; without hostNetwork its address may be a node's.
        ("node", [metadata(&[]), bytes(2, bytes(10, NOT_UTF_8)), status()], "?shop/odd@?:10.1.0.9"),
        ("spec-type", [metadata(&[]), number(2, 1), status()], "?shop/odd@?:"),
        ("spec-cut", [metadata(&[]), spec(&[vec![2 << 3 | 2, 99]]), status()], "?shop/odd@node-a:"),
        ("host", [metadata(&[bytes(11, [9, 9])]), spec(&[number(11, 1)]), status()], "?shop/odd@node-a:"),
        ("address", [metadata(&[]), spec(&[]), bytes(3, bytes(12, bytes(1, "here")))], "?shop/odd@node-a:"),
        (
            "address-bytes",
            [metadata(&[]), spec(&[]), bytes(3, bytes(12, bytes(1, NOT_UTF_8)))],
            "?shop/odd@node-a:",
        ),
        ("rest-cut", [metadata(&[]), spec(&[]), vec![3 << 3 | 2, 99]], "?shop/odd@node-a:"),
    ] {
        let (changes, unreadable) = received(name, message.concat()).await;
        assert_eq!(changes, expected, "{name}");
        assert!(
            unreadable.iter().all(|odd| odd.object == "Pod shop/odd") && unreadable.len() == 2,
            "{name}: {unreadable:?}"
        );
    }
}

#[tokio::test]
async fn object_without_a_readable_name_is_counted_and_skipped() {
    let nameless = [bytes(1, NOT_UTF_8), bytes(3, "shop"), bytes(6, "5")].concat();
    let homeless = [bytes(1, "odd"), bytes(3, NOT_UTF_8), bytes(6, "5")].concat();
    for (name, message) in [
        ("name", bytes(1, nameless)),
        ("namespace", bytes(1, homeless)),
        ("metadata", number(1, 1)),
        ("nothing", vec![]),
        ("noise", vec![0xff; 40]),
    ] {
        let (changes, unreadable) = received(&format!("unidentified-{name}"), message).await;
        assert_eq!((changes.as_str(), unreadable), ("", vec![]), "{name}");
    }
}

#[tokio::test]
async fn pod_that_becomes_unreadable_loses_its_labels_and_gets_them_back_when_corrected() {
    let odd = frame("MODIFIED", "Pod", &[metadata(&[bytes(11, [9, 9])]), spec(&[]), status()].concat());
    let good = frame("MODIFIED", "Pod", &[metadata(&[]), spec(&[]), status()].concat());
    let gone = frame("DELETED", "Pod", &[metadata(&[bytes(11, [9, 9])]), spec(&[]), status()].concat());
    let events = [listed_in_protobuf("1"), good.clone(), odd.clone(), odd, good, gone];
    let replies = vec![Reply::Protobuf(events.concat(), 64)];
    let mut session = session("turns", Resource::Pods, WatchList::On, replies).await;
    let (words, unreadable) = until(&mut session, "-shop/odd").await;
    let unknown = "?shop/odd@node-a:10.1.0.9";
    assert_eq!(words, ["listed", "+shop/odd@app=web", unknown, unknown, "+shop/odd@app=web", "-shop/odd"]);
    assert_eq!(unreadable.len(), 1, "it is reported once: {unreadable:?}");
    assert_eq!(session.watch.unreadable().len(), 0);
}

#[tokio::test]
async fn object_too_long_to_be_read_is_identified_by_its_beginning() {
    let long = |length: usize| {
        // Lengths over 16,383 need more than two bytes.
        let varint = |mut number: usize| {
            let mut bytes = Vec::new();
            while number >= 0x80 {
                bytes.push(number as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
            bytes
        };
        let field = |number: u8, value: Vec<u8>| [vec![number << 3 | 2], varint(value.len()), value].concat();
        let noise = field(2, field(1, vec![b'x'; length]));
        let message = [metadata(&[]), noise].concat();
        let types = [bytes(1, "v1"), bytes(2, "Pod")].concat();
        let object = [b"k8s\0".to_vec(), bytes(1, types), field(2, message)].concat();
        let frame = [bytes(1, "ADDED"), field(2, field(1, object))].concat();
        [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
    };
    for (length, expected) in [(1 << 20, "+shop/odd@app=web"), (17 << 20, "?shop/odd@?:")] {
        let events = [listed_in_protobuf("1"), long(length), sound_pod("ADDED", "b", "x", "6")];
        let replies = vec![Reply::Protobuf(events.concat(), 60_000)];
        let mut session = session(&format!("long-{length}"), Resource::Pods, WatchList::On, replies).await;
        assert_eq!(until(&mut session, "+shop/b@app=x").await.0[1], expected);
    }
}

/// A pod, a namespace and a policy as a server writes them, with the change of each.
fn whole(resource: Resource) -> (Value, &'static str) {
    match resource {
        Resource::Pods => (
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "odd", "namespace": "shop", "uid": "u", "resourceVersion": "5",
                    "labels": {"app": "web"}, "annotations": {"note": "x"},
                    "ownerReferences": [{"kind": "Job", "name": "j", "controller": true}],
                },
                "spec": {
                    "nodeName": "node-a", "hostNetwork": false, "volumes": [{"name": "v"}],
                    "containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}],
                },
                "status": {"phase": "Running", "podIP": "10.1.0.9", "podIPs": [{"ip": "10.1.0.9"}]},
            }),
            "+shop/odd@app=web",
        ),
        Resource::Namespaces => (
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "odd", "resourceVersion": "5", "labels": {"team": "a"}, "annotations": {"note": "x"}},
                "status": {"phase": "Active"},
            }),
            "+odd",
        ),
        Resource::NetworkPolicies => (
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "odd", "namespace": "shop", "uid": "u", "resourceVersion": "5", "labels": {"a": "b"}},
                "spec": {
                    "podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"podSelector": {}}], "ports": [{"port": 80, "endPort": 90, "protocol": "TCP"}]}],
                },
            }),
            "+shop/odd",
        ),
    }
}

/// All values in an object, each as a JSON pointer.
fn places(value: &Value, path: &str, places: &mut Vec<String>) {
    places.push(path.to_owned());
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.replace('/', "~1"), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
    };
    children.into_iter().for_each(|(key, value)| self::places(value, &format!("{path}/{key}"), places));
}

fn sound(resource: Resource, name: &str, version: &str) -> Value {
    let (mut object, _) = whole(resource);
    object["metadata"]["name"] = json!(name);
    object["metadata"]["resourceVersion"] = json!(version);
    object
}

#[tokio::test]
async fn wrong_type_anywhere_in_a_json_object_affects_no_other() {
    for resource in Resource::ALL {
        let (object, whole) = whole(resource);
        let mut paths = Vec::new();
        places(&object, "", &mut paths);
        for (number, path) in paths.iter().enumerate() {
            for wrong in
                [json!(true), json!(7.5), json!("\u{fffd}"), json!([7]), json!({"x": []}), json!(null)]
            {
                let mut odd = object.clone();
                *odd.pointer_mut(path).unwrap() = wrong.clone();
                let name = format!("json-{}-{number}", resource.word());
                let items = vec![sound(resource, "a", "4"), odd, sound(resource, "z", "6")];
                let replies = vec![Reply::Page(items, "6", None), Reply::Silent(vec![])];
                let mut session = session(&name, resource, WatchList::Off, replies).await;
                let (words, _) = until(&mut session, "listed").await;
                let [first, middle @ .., last, _] = words.as_slice() else {
                    panic!("{path} {wrong}: {words:?}")
                };
                assert!(first.contains('a') && last.contains('z'), "{path} {wrong}: {words:?}");
                let opens = middle.iter().any(|word| word == whole);
                let matters = ["/metadata/name", "/metadata/labels", "/spec/nodeName", "/metadata"]
                    .contains(&path.as_str());
                if resource == Resource::Pods && matters && wrong != json!(null) {
                    assert!(!opens, "{path} {wrong}: {words:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn odd_json_events_affect_no_other_in_a_streamed_list_and_in_a_watch() {
    for odd in [
        json!({"type": "ADDED", "object": 7}),
        json!({"type": "ADDED", "object": {"metadata": {"resourceVersion": "5"}}}),
        json!({"type": "DREAMT", "object": namespace("odd", "5")}),
        json!({"type": 5}),
        json!([]),
        event("ADDED", json!({"metadata": {"name": "odd", "resourceVersion": "5", "labels": 7}})),
    ] {
        let events = vec![event("ADDED", namespace("a", "4")), odd.clone(), listed("5")];
        let mut session =
            session("odd-events", Resource::Namespaces, WatchList::On, vec![Reply::Silent(events)]).await;
        let (words, _) = until(&mut session, "listed").await;
        assert_eq!(
            (words.first().unwrap().as_str(), words.last().unwrap().as_str()),
            ("+a", "listed"),
            "{odd}"
        );
        assert!(!words.iter().any(|word| word == "+odd"), "{odd}: {words:?}");
    }
    let odd =
        event("MODIFIED", json!({"metadata": {"name": "odd", "resourceVersion": "5", "labels": ["x"]}}));
    let events = vec![listed("4"), odd, event("ADDED", namespace("b", "6"))];
    let mut session =
        session("odd-watch", Resource::Namespaces, WatchList::On, vec![Reply::Silent(events)]).await;
    assert_eq!(until(&mut session, "+b").await.0, ["listed", "?odd", "+b"]);
}

#[tokio::test]
async fn json_that_is_not_utf_8_affects_only_its_object() {
    let line = |object: &Value| format!("{}\n", event("ADDED", object.clone())).into_bytes();
    let mut odd =
        line(&json!({"metadata": {"name": "odd", "resourceVersion": "5", "labels": {"team": "X"}}}));
    let at = odd.iter().rposition(|byte| *byte == b'X').unwrap();
    odd[at] = 0xe9;
    let end = format!("{}\n", listed("6")).into_bytes();
    let text = [line(&namespace("a", "4")), odd, line(&namespace("b", "6")), end].concat();
    let mut session =
        session("json-bytes", Resource::Namespaces, WatchList::On, vec![Reply::Bytes(text, 7)]).await;
    assert_eq!(until(&mut session, "listed").await.0, ["+a", "?odd", "+b", "listed"]);
}

#[tokio::test]
async fn only_decoded_events_reset_the_age() {
    let noise = [vec![0, 0, 0, 2], vec![0xff, 0xff]].concat();
    let events = [listed_in_protobuf("1"), sound_pod("ADDED", "b", "x", "6")].concat();
    for (name, events, decoded) in [("noise", noise.repeat(9), false), ("events", events, true)] {
        let replies = vec![Reply::Protobuf(events, 64)];
        let mut session = session(&format!("decoded-{name}"), Resource::Pods, WatchList::On, replies).await;
        let begun = Instant::now();
        let liveness = session.liveness.clone();
        let noted = async {
            loop {
                tokio::select! {
                    _ = session.watch.next() => {}
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
                let enough = if decoded {
                    liveness.age(Resource::Pods, Instant::now()) < begun.elapsed()
                } else {
                    liveness.unreadable_events(Resource::Pods) == 9
                };
                if enough {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), noted).await.expect("it is noted");
        let age = liveness.age(Resource::Pods, Instant::now());
        assert_eq!(age < begun.elapsed(), decoded, "{name}: {age:?}");
    }
}
