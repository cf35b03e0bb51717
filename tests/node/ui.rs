//! An agent serves a page of its node to processes of the host, and to no others.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, ProbeOutcome};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::field::BACKENDS;

const UI: &str = "127.0.0.1:20246";
const TIMEOUT: Duration = Duration::from_secs(15);

/// What a stream answers to a request; empty if it is closed without an answer.
fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    let mut answer = String::new();
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// What node-a's agent answers to a request of a process on the node.
fn ask(test: &NodeTest, request: &str) -> String {
    let node = test.field.testbed.node_namespace("node-a").expect("it is there");
    let address = UI.parse().expect("an address");
    let stream = node.enter(|| connect(address)).expect("the namespace is there").expect("it is served");
    exchange(stream, request)
}

fn get(test: &NodeTest, path: &str) -> String {
    ask(test, &format!("GET {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// What the page knows of who can reach whom.
fn data(page: &str) -> Value {
    let rest = page.split_once("id=\"data\">").map_or("", |(_, rest)| rest);
    let text = rest.split_once("</script>").map_or("", |(text, _)| text);
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {page}"))
}

/// What a matrix of the page says of a connection.
fn allowed(data: &Value, matrix: usize, from: &str, to: &str) -> Option<String> {
    let matrix = &data["matrices"][matrix];
    let place = |ends: &str, name: &str| {
        matrix[ends].as_array().into_iter().flatten().position(|end| end["name"] == name)
    };
    let (row, column) = (place("sources", from)?, place("destinations", to)?);
    let width = matrix["destinations"].as_array().map_or(0, Vec::len);
    let number = usize::try_from(matrix["cells"][row * width + column][0].as_u64()?).ok()?;
    Some(data["words"][number].to_string())
}

#[test]
fn page_shows_who_can_reach_whom_on_the_node_its_health_and_what_is_denied_there() {
    let mut test = NodeTest::build("uipage", BACKENDS[2], Some(WEB_DENIES_INGRESS));
    test.start(&["--ui-addr", UI]);
    test.wait_until_enforced();
    let page = get(&test, "/");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{page}");
    assert!(page.contains("Who can reach whom on node-a"));
    let known = data(&page);
    let web = "shop/replicaset/web-5d9c";
    assert_eq!(allowed(&known, 0, "shop/near", web).as_deref(), Some("[]"));
    assert_eq!(allowed(&known, 0, web, "shop/far").as_deref(), Some("[\"all\"]"));
    assert_eq!(allowed(&known, 1, "shop/far", web).as_deref(), Some("[]"));
    assert_eq!(allowed(&known, 0, "shop/far", web), None, "it is on another node");
    for file in ["/page.js", "/page.css", "/live.js"] {
        assert!(page.contains(&format!("\"{}\"", &file[1..])), "{page}");
        assert!(get(&test, file).starts_with("HTTP/1.1 200 OK\r\n"));
    }

    let live = |test: &NodeTest| -> Value {
        let answer = get(test, "/live.json");
        serde_json::from_str(body(&answer)).unwrap_or_else(|error| panic!("{error}: {answer}"))
    };
    let first = live(&test);
    let status = &first["status"];
    assert_eq!((&status["ready"], &status["node"]), (&Value::Bool(true), &Value::from("node-a")));
    assert_eq!(
        (&status["backend"], &status["counts"]["pendingPolicies"]),
        (&Value::from("nftables"), &Value::from(0))
    );
    let checks: Vec<&str> =
        status["checks"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    assert!(checks.contains(&"sync") && checks.contains(&"ui"), "{checks:?}");
    assert!(status["lastSync"].is_string(), "{status}");
    assert_eq!(first["flows"].as_array().map(Vec::len), Some(0));

    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    test.wait_for("the denied flow", || {
        live(&test)["flows"].as_array().is_some_and(|flows| !flows.is_empty())
    });
    let flow = live(&test)["flows"][0].clone();
    assert_eq!(
        (&flow["from"], &flow["to"], &flow["port"]),
        (&"shop/near".into(), &"shop/web".into(), &"80/TCP".into())
    );
    assert_eq!((&flow["verdict"], &flow["direction"]), (&"denied".into(), &"ingress".into()));

    test.write("policy.yaml", WEB_ALLOWS_CLIENTS);
    test.wait_for("the new policy", || {
        allowed(&data(&get(&test, "/")), 1, "shop/far", web).as_deref() == Some("[\"all\"]")
    });
}

#[test]
fn page_is_for_processes_of_the_host_that_ask_for_it_by_a_name_of_the_host() {
    let mut test = NodeTest::build("uiwho", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    test.start(&["--ui-addr", UI]);
    test.wait_until_enforced();
    for request in [
        "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /live.json HTTP/1.1\r\nHost: node-a:20246\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let answer = ask(&test, request);
        assert!(answer.contains(" 421 ") && !answer.contains("matrices"), "{request}{answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer =
            ask(&test, &format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method} {answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
    assert!(get(&test, "/metrics").starts_with("HTTP/1.1 404 "));
    // Neither the node's own address nor a pod's way to it leads there.
    let pod = test.field.testbed.namespace(&Endpoint::pod("shop", "near")).expect("it is there");
    for address in ["10.244.1.1:20246", "127.0.0.1:20246"] {
        let address = address.parse().expect("an address");
        assert!(pod.enter(|| connect(address)).expect("the namespace is there").is_err(), "{address}");
    }
}

#[test]
fn page_at_a_socket_is_for_root_alone() {
    let mut test = NodeTest::build("uisock", BACKENDS[0], None);
    let socket = test.manifests.with_file_name("node-a.ui");
    let address = format!("unix:{}", test.manifests.with_file_name("{node}.ui").display());
    test.start(&["--ui-addr", &address]);
    test.wait_until_enforced();
    test.wait_for("the socket", || socket.exists());
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stream = UnixStream::connect(&socket).expect("it is served");
    stream.set_read_timeout(Some(TIMEOUT)).expect("it has a timeout");
    let page = exchange(stream, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(
        page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("Who can reach whom on node-a"),
        "{page}"
    );
}

#[test]
fn agent_enforces_without_a_page_while_another_program_has_its_address() {
    let mut test = NodeTest::build("uibusy", BACKENDS[0], Some(WEB_DENIES_INGRESS));
    let node = test.field.testbed.node_namespace("node-a").expect("it is there");
    let other = node.enter(|| TcpListener::bind(UI)).expect("the namespace is there").expect("it is free");
    test.start(&["--ui-addr", UI]);
    test.wait_until_enforced();
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    let ready = test.get("node-a", "/readyz");
    assert!(ready.contains("[+]ui ok: cannot listen on 127.0.0.1:20246"), "{ready}");
    drop(other);
    test.wait_for("the page", || {
        let node = test.field.testbed.node_namespace("node-a").expect("it is there");
        node.enter(|| connect(UI.parse().expect("an address"))).is_ok_and(|stream| stream.is_ok())
    });
    assert!(get(&test, "/").starts_with("HTTP/1.1 200 OK\r\n"));
}
