//! The page that an agent serves of its node. Needs root: the agent enforces policies in a network namespace of its own.

use crate::browser::Browser;
use crate::{LOW_CONTRAST, draw};
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Probe, ProbeOutcome};
use serde_json::json;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use support::field::{BACKENDS, Field};
use support::manifest;

/// How long the page may take to show what has happened: it asks every two seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 80}]}]}
status: {podIPs: [{ip: 10.244.1.10}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: client, labels: {app: client}}
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 80}]}]}
status: {podIPs: [{ip: 10.244.1.11}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
";

fn wait_for(browser: &mut Browser, what: &str, expression: &str) {
    let start = Instant::now();
    while browser.evaluate(expression) != json!(true) {
        let shown = browser.text("body");
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}\n{shown}");
    }
}

#[test]
fn denied_flow_appears_without_a_reload_beside_the_health_of_the_node() {
    assert!(nix::unistd::geteuid().is_root(), "network namespaces need root; run: sudo -E make test");
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page-live");
    let manifests = here.join("manifests");
    let _ = std::fs::remove_dir_all(&here);
    std::fs::create_dir_all(&manifests).expect("a directory of our own");
    std::fs::write(manifests.join("cluster.yaml"), CLUSTER).expect("the manifest is written");
    let world = manifest::parse(CLUSTER).expect("the cluster reads");
    let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden"));
    let mut field = Field::build("pagelive", &world, program, &here).expect("the network stands");
    field.start(&manifests, BACKENDS[0], &["--ui-addr", "127.0.0.1:20246"]).expect("the agents start");
    field.await_ready().expect("enforced");

    let node = field.testbed.node_namespace("node-a").expect("it is there");
    let mut browser = Browser::at("live", "http://127.0.0.1:20246/", |command| {
        node.spawn(command).map_err(io::Error::other)
    });
    assert_eq!(browser.text("h1"), "Who can reach whom on node-a");
    browser.evaluate("window.sameDocument = true");
    wait_for(
        &mut browser,
        "health",
        "document.querySelector('#health-summary').textContent.includes('is ready')",
    );
    let health = browser.text("#live section");
    for part in ["Sync health", BACKENDS[0], "Last sync", "sync ok", "preflight ok", "0 of 1"] {
        assert!(health.contains(part), "{part}: {health}");
    }
    assert!(browser.text("#flows-summary").contains("Nothing was denied"));
    // The matrix is that of `reach`, for the pods of this node and in both directions.
    assert_eq!(browser.count("td[aria-label='shop/client to shop/web: nothing']"), 1);
    browser.click("td[aria-label='shop/client to shop/web: nothing']");
    assert!(browser.text("#details").contains("shop/web"), "{}", browser.text("#details"));
    let choices = "[...document.querySelectorAll('#view-choice option')].map(option => option.textContent)";
    assert_eq!(browser.evaluate(choices), json!(["from pods of this node", "to pods of this node"]));

    let probe = Probe::new(Endpoint::pod("shop", "client"), [10, 244, 1, 10].into(), Protocol::Tcp, 80);
    assert_eq!(field.testbed.probe(&probe), ProbeOutcome::Refused);
    wait_for(&mut browser, "the denied flow", "document.querySelectorAll('#flow-rows tr').length === 1");
    let row = browser.text("#flow-rows tr");
    for part in ["shop/client", "shop/web", "80/TCP", "denied by ingress", "policy shop/web"] {
        assert!(row.contains(part), "{part}: {row}");
    }
    let said = browser.text("#flows-summary");
    assert!(said.contains("shop/client") && said.contains("shop/web"), "a screen reader says it: {said}");
    assert_eq!(browser.evaluate("document.querySelector('#flows-summary').role"), "status");
    assert_eq!(browser.evaluate("window.sameDocument"), json!(true), "it was not loaded again");

    draw(&mut browser, "docs/node-page.png");
    for scheme in ["light", "dark"] {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.call("Emulation.setEmulatedMedia", json!({"features": features}));
        assert_eq!(browser.evaluate(LOW_CONTRAST), json!([]), "{scheme}");
    }
    // The browser runs and loads nothing but what is served beside the page.
    let inline = "(() => { const script = document.createElement('script'); script.textContent = 'window.ran = true'; \
                  document.body.append(script); return window.ran === undefined; })()";
    assert_eq!(browser.evaluate(inline), json!(true));
    let elsewhere = "fetch('http://127.0.0.1:20245/metrics').then(() => 'answered', () => 'refused')";
    assert_eq!(browser.evaluate(elsewhere), json!("refused"));

    field.stop(false);
    wait_for(
        &mut browser,
        "an agent that is gone",
        "document.querySelector('#health-summary').textContent.includes('does not answer')",
    );
}
