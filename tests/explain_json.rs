//! What `explain -o json` prints has the form of docs/explanation.schema.json.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use support::schema::misfits;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn check(value: &Value) -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/explanation.schema.json")).expect("there is a schema");
    misfits(&text, value)
}

fn explain(question: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    command.current_dir(root()).args(["explain", "-o", "json"]).args(question.split_whitespace());
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{question}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn answers_have_the_form_of_the_schema() {
    for question in [
        "-f examples/troubles/dns.yaml shop/deploy/web kube-system/svc/kube-dns:53/UDP",
        "-f examples/troubles/named-port.yaml shop/ingress shop/deploy/api:8080",
        "-f examples/troubles/snat.yaml node/node-b shop/web",
        "-f examples/troubles/except.yaml 10.0.0.0/8 tools/registry:5000",
        "-f examples/shop shop-web/frontend-1 kube-system/coredns-1:53/UDP",
        "-f examples/shop shop-web/frontend-1 shop-web/frontend-1/TCP",
    ] {
        let found = check(&explain(question));
        assert!(found.is_empty(), "{question}: {found:#?}");
    }
}

#[test]
fn answer_of_another_form_is_noticed() {
    let answer = explain("-f examples/troubles/except.yaml 10.20.3.4 tools/registry:5000");
    for spoil in [
        |answer: &mut Value| answer["verdict"] = "perhaps".into(),
        |answer: &mut Value| answer["cases"][0]["sides"][0]["isolated"] = 1.into(),
        |answer: &mut Value| answer["cases"][0]["more"] = Value::Null,
        |answer: &mut Value| drop(answer["cases"][0].as_object_mut().map(|case| case.remove("port"))),
        |answer: &mut Value| answer["cases"][0]["sides"][0]["policies"][0]["origin"] = "here".into(),
    ] {
        let mut spoilt = answer.clone();
        spoil(&mut spoilt);
        assert_eq!(check(&spoilt).len(), 1);
    }
}
