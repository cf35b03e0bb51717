//! What `explain -o json` prints has the form of docs/explanation.schema.json.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a value with the keywords of JSON Schema that the schema uses; lists what does not fit.
fn misfits(schema: &Value, defs: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return misfits(&defs[name], defs, value, path, found);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| {
            let mut inner = Vec::new();
            misfits(choice, defs, value, path, &mut inner);
            inner.is_empty()
        });
        if !fits {
            found.push(format!("{path}: none of the forms fits {value}"));
        }
        return;
    }
    let one_of = schema["enum"].as_array().is_none_or(|allowed| allowed.contains(value));
    let constant = schema.get("const").is_none_or(|only| only == value);
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let is = |word: &&str| match *word {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "null" => value.is_null(),
        other => panic!("{other} is a type that this test does not know"),
    };
    if !one_of || !constant || !(types.is_empty() || types.iter().any(is)) {
        return found.push(format!("{path}: {value} does not fit {schema}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        misfits(&schema["items"], defs, item, &format!("{path}[{index}]"), found);
    }
    let Some(fields) = value.as_object() else { return };
    for (key, field) in fields {
        match schema["properties"].get(key) {
            Some(schema) => misfits(schema, defs, field, &format!("{path}.{key}"), found),
            None => found.push(format!("{path}.{key}: the schema does not have this field")),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    found.extend(
        required.filter(|key| !fields.contains_key(*key)).map(|key| format!("{path}.{key}: it is missing")),
    );
}

fn check(value: &Value) -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/explanation.schema.json")).expect("there is a schema");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    let mut found = Vec::new();
    misfits(&schema, &schema["$defs"], value, "$", &mut found);
    found
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
