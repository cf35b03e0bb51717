//! The chart and the program speak of the same things: arguments, defaults, metrics and version.
//!
//! What the chart renders is taken from its golden files, which `charts/test` holds to the chart.

use bridgewarden::commands::Cli;
use bridgewarden::observe::{Documentation, Metrics};
use clap::CommandFactory;
use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Flags of `run` that no value of the chart is for, and why.
const NOT_IN_THE_CHART: [(&str, &str); 5] = [
    ("manifests", "in a cluster, the API server is asked"),
    ("kubeconfig", "in a cluster, the account of the pod is used"),
    ("node-name", "the variable NODE_NAME says it"),
    ("help", "it is not read there"),
    ("version", "the image says it"),
];
/// Flags whose default in a cluster is not the program's, and why.
const OTHER_DEFAULTS: [(&str, &str); 0] = [];

/// A container that runs the program, as its image has it.
struct Container {
    place: String,
    arguments: Vec<String>,
    variables: BTreeSet<String>,
}

impl Container {
    /// What the program makes of its arguments.
    fn parse(&self) -> Result<Cli, String> {
        // Kubelet puts the variable's value in; any of the right kind will do.
        let arguments = self.arguments.iter().map(|argument| argument.replace("$(HOST_IP)", "192.0.2.1"));
        let mut all: Vec<String> = std::iter::once("bridgewarden".to_owned()).chain(arguments).collect();
        if self.variables.contains("NODE_NAME") {
            all.push("--node-name=node-a".to_owned());
        }
        Cli::read(all).map_err(|error| format!("{}: {error}", self.place))
    }

    /// Its flags by name, with their values.
    fn flags(&self) -> BTreeMap<&str, &str> {
        let flags = self.arguments.iter().filter_map(|argument| argument.strip_prefix("--"));
        flags.map(|flag| flag.split_once('=').unwrap_or((flag, ""))).collect()
    }
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(path: &Path) -> Vec<Value> {
    let text = read(path);
    let documents = Deserializer::from_str(&text).map(Value::deserialize);
    documents.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_sequence).into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is not a string")).to_owned()
}

/// Every container of a file that runs the program.
fn containers(path: &Path) -> Vec<Container> {
    let mut found = Vec::new();
    for document in documents(path) {
        let is_pod = document.get("kind").and_then(Value::as_str) == Some("Pod");
        let spec = document.get("spec");
        let pod = if is_pod { spec } else { spec.and_then(|spec| spec.get("template")?.get("spec")) };
        let Some(pod) = pod else { continue };
        let all = list(pod, "initContainers").chain(list(pod, "containers"));
        found.extend(all.filter(|container| container.get("command").is_none()).map(|container| Container {
            place: format!("{}: {}", path.display(), container.get("name").map(text).unwrap_or_default()),
            arguments: list(container, "args").map(text).collect(),
            variables: list(container, "env").filter_map(|variable| variable.get("name")).map(text).collect(),
        }));
    }
    found
}

fn rendered() -> Vec<PathBuf> {
    let golden = fs::read_dir(project("charts/tests/golden")).expect("there are golden files");
    let golden = golden.map(|entry| entry.expect("the entry can be read").path());
    golden.chain([project("install.yaml"), project("cleanup.yaml")]).collect()
}

/// The agent's container if the operator sets no value.
fn defaults() -> Container {
    let mut containers = containers(&project("charts/tests/golden/defaults.yaml"));
    assert_eq!(containers.len(), 4, "the agent, and three containers of `helm test`");
    containers.retain(|container| container.arguments[0] == "run");
    assert_eq!(containers.len(), 1, "one container is the agent");
    containers.remove(0)
}

/// Every flag of `run` with its default.
fn flags_of_run() -> BTreeMap<String, Vec<String>> {
    let mut program = Cli::command();
    program.build();
    let run = program.find_subcommand("run").expect("it is there");
    let flags = run.get_arguments().filter_map(|flag| Some((flag.get_long()?, flag.get_default_values())));
    let default = |value: &clap::builder::OsStr| value.to_string_lossy().into_owned();
    flags.map(|(name, values)| (name.to_owned(), values.iter().map(default).collect())).collect()
}

#[test]
fn every_argument_that_the_chart_gives_is_one_that_the_program_takes() {
    let mut count = 0;
    for path in rendered() {
        let containers = containers(&path);
        assert!(!containers.is_empty(), "{}: nothing in it runs the program", path.display());
        for container in containers {
            container.parse().unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn an_additional_argument_replaces_the_one_that_the_chart_gives() {
    let mut container = defaults();
    container.arguments.push("--deny=drop".to_owned());
    let parsed = format!("{:?}", container.parse().expect("the program takes it twice"));
    assert!(parsed.contains("deny: Drop"), "{parsed}");
}

#[test]
fn argument_that_the_program_does_not_take_is_noticed() {
    let rejection = |more: &str| {
        let mut container = defaults();
        container.arguments.push(more.to_owned());
        container.parse().expect_err("it is no flag of the program")
    };
    assert!(rejection("--on-revocation=cut").contains("--on-revocation"));
    let mut container = defaults();
    container.arguments.retain(|argument| !argument.starts_with("--deny="));
    container.arguments.push("--deny=reset".to_owned());
    assert!(container.parse().expect_err("it is no way to deny").contains("reset"));
}

#[test]
fn every_choice_of_the_program_is_a_value_of_the_chart() {
    let container = defaults();
    let given = container.flags();
    for flag in flags_of_run().keys() {
        let excused = NOT_IN_THE_CHART.iter().any(|(name, _)| name == flag);
        assert!(
            given.contains_key(flag.as_str()) != excused,
            "--{flag}: in the chart or excused, one of both"
        );
    }
}

#[test]
fn chart_and_program_have_the_same_defaults() {
    let flags = flags_of_run();
    for (flag, value) in defaults().flags() {
        let own = &flags[flag];
        let excused = OTHER_DEFAULTS.iter().any(|(name, _)| *name == flag);
        assert!(
            (own.as_slice() == [value]) != excused,
            "--{flag}: the chart says {value:?}, the program {own:?}"
        );
    }
}

#[test]
fn alerts_ask_only_for_metrics_that_the_program_has() {
    let documentation = Metrics::default().documentation();
    let known: BTreeSet<&str> =
        documentation.iter().map(|Documentation { name, .. }| name.as_str()).collect();
    let mut asked = 0;
    for document in documents(&project("charts/bridgewarden/alerts.yaml")) {
        for rule in list(&document, "groups").flat_map(|group| list(group, "rules")) {
            let expression = text(&rule["expr"]);
            // What a rule records has colons in its name.
            let part = |character: char| character.is_alphanumeric() || "_:".contains(character);
            let words = expression.split(|character: char| !part(character));
            for metric in words.filter(|word| word.starts_with("bridgewarden_")) {
                let parts = ["_bucket", "_sum", "_count"];
                let whole = parts.iter().find_map(|part| metric.strip_suffix(part)).unwrap_or(metric);
                assert!(
                    known.contains(metric) || known.contains(whole),
                    "{expression}: there is no {metric}"
                );
                asked += 1;
            }
        }
    }
    assert!(asked >= 7, "{asked}");
}

#[test]
fn every_alert_names_its_section_of_the_runbooks_and_every_section_its_alert() {
    let page = read(&project("docs/runbooks.md"));
    let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut alerts = BTreeSet::new();
    for document in documents(&project("charts/bridgewarden/alerts.yaml")) {
        let rules = list(&document, "groups").flat_map(|group| list(group, "rules"));
        for rule in rules.filter(|rule| rule.get("alert").is_some()) {
            let name = text(&rule["alert"]);
            let anchor = format!("docs/runbooks.md#{}", name.to_lowercase());
            assert_eq!(text(&rule["annotations"]["runbook"]), anchor);
            alerts.insert(name);
        }
    }
    assert_eq!(sections, alerts.iter().map(String::as_str).collect());
}

#[test]
fn chart_is_of_this_version() {
    let chart = &documents(&project("charts/bridgewarden/Chart.yaml"))[0];
    assert_eq!(text(&chart["appVersion"]), env!("CARGO_PKG_VERSION"));
}

/// Runs the program with a variable, and returns its exit code and what it complains of.
fn run(arguments: &[&str], variable: (&str, &str)) -> (Option<i32>, String) {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    let output = program.args(arguments).env(variable.0, variable.1).output().expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_flag_has_a_variable_and_a_flag_that_is_given_counts_before_it() {
    let examples = project("examples/shop");
    let examples = examples.to_str().expect("its path is text");
    let (status, complaint) = run(&["render", examples, "--node-name", "a"], ("BRIDGEWARDEN_DENY", "never"));
    assert_eq!(status, Some(2));
    assert!(complaint.contains("never"), "{complaint}");
    let (status, complaint) =
        run(&["render", examples, "--node-name", "a", "--deny=drop"], ("BRIDGEWARDEN_DENY", "never"));
    assert!(!complaint.contains("never"), "{status:?} {complaint}");
    // Kubernetes sets this one beside a Service called bridgewarden.
    let (_, complaint) = run(&["preflight", "--help"], ("BRIDGEWARDEN_PORT", "tcp://10.96.0.9:80"));
    assert_eq!(complaint, "");
}
