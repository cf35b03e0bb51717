//! `bridgewarden reach` and `bridgewarden diff` as their users run them: the documents' commands, the formats, the examples for CI.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{manifest, worlds};

/// The document whose commands are run. With BLESS=1 what they print is written to it.
const DOCUMENT: &str = "docs/reach.md";

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    command.current_dir(project()).env_remove("COLUMNS").env("KUBECONFIG", "/nonexistent");
    command
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("the program runs")
}

/// Runs the program with a text on its standard input.
fn with_input(arguments: &[&str], text: &str) -> Output {
    let mut command = program();
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads all");
    child.wait_with_output().expect("it ends")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn document_shows_what_its_commands_print() {
    let path = project().join(DOCUMENT);
    let document = fs::read_to_string(&path).expect("the document");
    let mut written = String::new();
    let mut lines = document.lines();
    let mut commands = 0;
    while let Some(line) = lines.next() {
        written.push_str(line);
        written.push('\n');
        if line != "```console" {
            continue;
        }
        let prompt = lines.next().expect("a command");
        let words: Vec<&str> =
            prompt.strip_prefix("$ bridgewarden ").expect("a command of this program").split(' ').collect();
        lines.by_ref().find(|line| *line == "```").expect("the end of the block");
        written.push_str(&format!("{prompt}\n{}```\n", stdout(&run(&words))));
        commands += 1;
    }
    assert!(commands >= 6);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &written).expect("the document can be written");
    }
    let differs = document.lines().zip(written.lines()).find(|(old, new)| old != new);
    assert_eq!(document, written, "make bless writes {DOCUMENT}; first difference: {differs:?}");
}

#[test]
fn json_has_the_fields_of_its_published_schema_and_no_others() {
    let shop = ["reach", "-f", "examples/shop", "-o", "json"];
    let exposed = [&shop[..], &["--exposed"]].concat();
    let before_after = ["diff", "examples/reach/before.yaml", "examples/reach/after.yaml", "-o", "json"];
    for (arguments, schema, kind) in [
        (&shop[..], "docs/reach.schema.json", "reach"),
        (&exposed[..], "docs/reach.schema.json", "exposure"),
        (&before_after[..], "docs/reach-difference.schema.json", ""),
    ] {
        let printed: Value = serde_json::from_str(&stdout(&run(arguments))).expect("JSON");
        let text = fs::read_to_string(project().join(schema)).expect("a schema");
        let root: Value = serde_json::from_str(&text).expect("a schema");
        let own = if kind.is_empty() { &root } else { &root["$defs"][kind] };
        check(&printed, own, &root, "$");
    }
}

/// Checks the part of JSON Schema that our schemas use.
fn check(value: &Value, schema: &Value, root: &Value, path: &str) {
    let known = [
        "$ref",
        "$schema",
        "title",
        "description",
        "type",
        "const",
        "enum",
        "required",
        "properties",
        "items",
        "additionalProperties",
        "oneOf",
        "$defs",
    ];
    for key in schema.as_object().into_iter().flat_map(|schema| schema.keys()) {
        assert!(known.contains(&key.as_str()), "{path}: this test does not know `{key}`");
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").expect("a definition");
        check(value, &root["$defs"][name], root, path);
    }
    if let Some(one) = schema.get("const") {
        assert_eq!(value, one, "{path}");
    }
    if let Some(several) = schema["enum"].as_array() {
        assert!(several.contains(value), "{path}: {value}");
    }
    if let Some(kinds) = schema["oneOf"].as_array() {
        let has_all = |kind: &&Value| {
            kind["required"]
                .as_array()
                .into_iter()
                .flatten()
                .all(|name| value.get(name.as_str().expect("names are text")).is_some())
        };
        let fits: Vec<&Value> = kinds.iter().filter(has_all).collect();
        assert_eq!(fits.len(), 1, "{path}: {value}");
        check(value, fits[0], root, path);
    }
    match schema["type"].as_str() {
        Some("object") => {
            let object = value.as_object().unwrap_or_else(|| panic!("{path} is no object"));
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(object.contains_key(name.as_str().expect("names are text")), "{path} has no {name}");
            }
            for (name, value) in object {
                let own = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                assert!(own.is_object(), "{path}.{name} is not in the schema");
                check(value, own, root, &format!("{path}.{name}"));
            }
        }
        Some("array") => {
            for (index, item) in
                value.as_array().unwrap_or_else(|| panic!("{path} is no array")).iter().enumerate()
            {
                check(item, &schema["items"], root, &format!("{path}[{index}]"));
            }
        }
        Some("string") => assert!(value.is_string(), "{path}"),
        Some("integer") => assert!(value.is_u64(), "{path}"),
        Some("boolean") => assert!(value.is_boolean(), "{path}"),
        Some(other) => panic!("this test does not know type {other}"),
        None => {}
    }
}

#[test]
fn exit_codes_are_0_for_yes_1_for_no_and_2_for_what_cannot_be_answered() {
    let before = "examples/reach/before.yaml";
    let expectations = "examples/ci/expectations.yaml";
    for (arguments, code) in [
        (vec!["reach", "-f", "examples/shop"], 0),
        (vec!["reach", "-f", "examples/shop", "--assert", expectations], 0),
        (vec!["reach", "-f", before, "--assert", expectations], 1),
        (vec!["reach", "-f", "no-such-file"], 2),
        (vec!["reach", "-f", before, "-n", "no-such-namespace"], 2),
        (vec!["reach", "-f", before, "-o", "tap"], 2),
        (vec!["reach", "-f", before, "--from", "a b"], 2),
        (vec!["reach", "-f", before, "--assert", before], 2),
        (vec!["diff", before, before], 0),
        (vec!["diff", before, "examples/reach/after.yaml"], 1),
        (vec!["diff", before, "no-such-file"], 2),
        (vec!["diff", before, "no-such-revision:examples"], 2),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert_eq!(code == 2, stdout(&output).is_empty() && code != 0, "{arguments:?} prints data or fails");
    }
}

#[test]
fn every_format_names_every_connection() {
    let reach = |format: &str| stdout(&run(&["reach", "-f", "examples/reach/before.yaml", "-o", format]));
    let csv = reach("csv");
    assert!(csv.starts_with("from,to,allowed\n"), "{csv}");
    let line = "orders/deployment/api,orders/statefulset/db,5432/TCP\n";
    assert!(csv.contains(line) && !csv.contains("web,orders/statefulset/db"), "{csv}");
    let dot = reach("dot");
    let edge = "\"orders/deployment/api\" -> \"orders/statefulset/db\" [label=\"5432/TCP\"];";
    assert!(
        dot.starts_with("digraph reach {") && dot.contains(edge) && dot.trim_end().ends_with('}'),
        "{dot}"
    );
    let svg = reach("svg");
    let title = "<title>orders/deployment/api to orders/statefulset/db: 5432/TCP</title>";
    assert!(svg.starts_with("<svg ") && svg.contains(title) && svg.ends_with("</svg>\n"), "{svg}");
    let markdown = reach("md");
    let columns = markdown.lines().map(|line| line.matches('|').count());
    assert_eq!(columns.collect::<std::collections::BTreeSet<_>>().len(), 1, "{markdown}");
}

#[test]
fn table_that_is_too_wide_goes_on_below() {
    let output = program()
        .args(["reach", "-f", "examples/shop"])
        .env("COLUMNS", "80")
        .output()
        .expect("the program runs");
    let text = stdout(&output);
    assert!(
        text.matches("\nFROM").count() > 1 && text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn failed_expectations_are_reported_as_tap_and_as_junit() {
    let arguments =
        ["reach", "-f", "examples/reach/before.yaml", "--assert", "examples/ci/expectations.yaml"];
    let tap = stdout(&run(&arguments));
    assert!(tap.starts_with("TAP version 14\n1..3\nnot ok 1 - only the API reaches the database\n"), "{tap}");
    assert!(tap.contains("there is no end shop-data/postgres-0"), "{tap}");
    let junit = stdout(&run(&[&arguments[..], &["-o", "junit"]].concat()));
    assert!(junit.contains("tests=\"3\" failures=\"3\""), "{junit}");
    assert_eq!(junit.matches("<failure ").count(), 3, "{junit}");
}

/// What a document of `reach -o json` says, member by member: source, destination, family and ports.
fn pairs(document: &Value) -> BTreeSet<(String, String, String, String)> {
    let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for end in document["ends"].as_array().expect("ends") {
        let own = end.get("workloads").unwrap_or(&end["prefixes"]).as_array().expect("members");
        let own = own.iter().map(|member| member.as_str().expect("text")).collect();
        let name = end["name"].as_str().expect("a name");
        assert!(members.insert(name, own).is_none(), "two ends are called {name}");
    }
    let mut pairs = BTreeSet::new();
    for connection in document["connections"].as_array().expect("connections") {
        let of = |field: &str| &members[connection[field].as_str().expect("a name")];
        for (family, ports) in connection["allowed"].as_object().expect("families") {
            for (from, to) in of("from").iter().flat_map(|from| of("to").iter().map(move |to| (from, to))) {
                // A prefix has one family, and a pod has no connection to itself.
                let fits = |end: &str| {
                    !end.contains(if family == "IPv4" { "::" } else { "." }) || end.contains("/p")
                };
                if from != to && fits(from) && fits(to) {
                    pairs.insert((from.to_string(), to.to_string(), family.clone(), ports.to_string()));
                }
            }
        }
    }
    pairs
}

/// Random clusters, of which a namespace or some ends are selected.
#[test]
fn grouped_ends_hold_exactly_the_connections_of_ends_apart() {
    let mut found = 0;
    for seed in 0..24 {
        let world = worlds::world(seed);
        let pods: Vec<String> = world
            .pods
            .iter()
            .map(|pod| {
                format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or("default"), pod.metadata.name)
            })
            .collect();
        let namespace = pods[seed as usize % pods.len()].split('/').next().expect("a namespace").to_owned();
        let text = manifest::write(&world);
        // None if the namespace has no pods with a network of their own.
        let reach = |selection: &[&str], group: &str| -> Option<Value> {
            let output = with_input(
                &[&["reach", "-f", "-", "-o", "json", "--group", group], selection].concat(),
                &text,
            );
            let printed = stdout(&output);
            assert!(!printed.is_empty() || stderr(&output).contains("no connection is selected"));
            (!printed.is_empty()).then(|| serde_json::from_str(&printed).expect("JSON"))
        };
        let at = |place: usize| pods[(seed as usize + place) % pods.len()].as_str();
        for selection in [
            vec![],
            vec!["-n", &namespace],
            vec!["-n", &namespace, "--to", "outside", "--to", at(1)],
            vec!["--from", at(0), "--from", at(1), "--to", at(0), "--to", at(2), "--to", at(3)],
        ] {
            let [apart, together] = ["none", "alike"]
                .map(|group| reach(&selection, group).map(|document| pairs(&document)).unwrap_or_default());
            assert_eq!(apart, together, "world {seed}, {selection:?}");
            found += apart.len();
        }
    }
    assert!(found > 1000, "{found}");
}

#[test]
fn addresses_outside_of_both_families_that_share_a_row_have_both_in_json() {
    let printed = run(&["reach", "-f", "examples/shop", "-o", "json", "--from", "kube-system/coredns-1"]);
    let document: Value = serde_json::from_str(&stdout(&printed)).expect("JSON");
    let all = |family: &str| {
        let to = |prefix: &str| {
            let is = |(_, to, own, ports): &(String, String, String, String)| {
                to == prefix && own == family && ports == "[\"all\"]"
            };
            pairs(&document).iter().any(is)
        };
        if family == "IPv4" { to("203.0.113.66/32") } else { to("::/0") }
    };
    assert!(all("IPv4") && all("IPv6"), "{document:#}");
}

/// Two ends that begin with the same addresses, and two groups that begin with the same pod.
#[test]
fn ends_that_stand_for_different_members_have_different_names_in_every_format() {
    let block = |list: &[&str]| {
        let blocks: Vec<String> = list.iter().map(|cidr| format!("{{ipBlock: {cidr}}}")).collect();
        blocks.join(", ")
    };
    let common = ["{cidr: 192.0.2.0/28}", "{cidr: 192.0.2.32/28}"];
    let ingress = block(
        &[&common[..], &["{cidr: 0.0.0.0/0, except: [203.0.113.0/24]}", "{cidr: 198.51.100.0/24}"]].concat(),
    );
    let egress = block(
        &[&common[..], &["{cidr: 0.0.0.0/0, except: [198.51.100.0/24]}", "{cidr: 203.0.113.0/24}"]].concat(),
    );
    let text = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: s}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p, namespace: s}}
spec:
  podSelector: {{}}
  policyTypes: [Ingress, Egress]
  ingress: [{{from: [{ingress}]}}]
  egress: [{{to: [{egress}]}}]
"
    );
    let alike: String = ["a", "b", "c"]
        .map(|name| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n"))
        .concat();
    let ends = ["--from", "default/a", "--from", "default/b", "--to", "default/a", "--to", "default/c"];
    for (text, selection) in [(&text, &[][..]), (&alike, &ends[..])] {
        for format in ["json", "csv", "dot", "table", "md"] {
            let arguments = [&["reach", "-f", "-", "--group", "alike", "-o", format], selection].concat();
            let printed = stdout(&with_input(&arguments, text));
            match format {
                "json" => assert!(!pairs(&serde_json::from_str(&printed).expect("JSON")).is_empty()),
                "csv" => assert!(!printed.contains("more"), "{printed}"),
                "md" => assert!(printed.contains("\\[2\\]"), "{printed}"),
                _ => assert!(printed.contains("[2]"), "{printed}"),
            }
        }
    }
}

/// With more ends than a table shows, a program still gets a line for each pair.
#[test]
fn csv_has_a_line_for_each_pair_however_many_there_are() {
    let pod = |number: usize| {
        format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: s}}\n")
    };
    let text: String = (0..70).map(pod).collect();
    let printed = stdout(&with_input(&["reach", "-f", "-", "-o", "csv", "-n", "s", "--to", "s"], &text));
    assert_eq!(printed.lines().count(), 1 + 70 * 69 + 70, "{}", &printed[..200]);
}

/// What is printed of these expectations of some manifests, and whether all hold.
fn asserted(manifests: &str, expectations: &str) -> (String, bool) {
    let file = std::env::temp_dir().join(format!("bridgewarden-expectations-{}.yaml", std::process::id()));
    let text = format!(
        "{{apiVersion: bridgewarden.io/v1alpha1, kind: ReachExpectations, expectations: [{expectations}]}}"
    );
    fs::write(&file, text).expect("a file");
    let output = with_input(&["reach", "-f", "-", "--assert", file.to_str().expect("text")], manifests);
    let _ = fs::remove_file(&file);
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{}", stderr(&output));
    (stdout(&output), code == Some(0))
}

/// A StatefulSet of two pods without egress rules that nothing may reach, a pod of the other family, and one alone.
const FAMILIES: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: db-0, namespace: s, labels: {app: db}, ownerReferences: [{kind: StatefulSet, name: db, controller: true}]}, status: {podIP: 10.244.0.5}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db-1, namespace: s, labels: {app: db}, ownerReferences: [{kind: StatefulSet, name: db, controller: true}]}, status: {podIP: 10.244.1.5}}
---
{apiVersion: v1, kind: Pod, metadata: {name: six, namespace: six}, status: {podIP: '2001:db8:1::7'}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far, namespace: far}, status: {podIP: 10.244.0.9}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: s}, spec: {clusterIP: 10.96.0.7, selector: {app: db}, ports: [{port: 5432}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: s}, spec: {podSelector: {}, policyTypes: [Ingress]}}
";

#[test]
fn expectation_of_which_nothing_can_be_compared_does_not_hold() {
    for (expectation, fault) in [
        (
            "{from: s/sts/db, to: s/sts/db, allowed: 5432/TCP}",
            "s/statefulset/db to s/statefulset/db: not allowed: 5432/TCP",
        ),
        ("{from: s, to: s, exactly: all}", "not allowed: all"),
        ("{from: '2001:db8::1', to: far, allowed: all}", "no connection from 2001:db8::1/128 to compare"),
        ("{from: far, to: '2001:db8::1', exactly: all}", "no connection from far to compare"),
        ("{from: outside, to: outside, denied: all}", "no connection from outside to compare"),
        ("{from: far/far, to: far/far, denied: all}", "no connection from far/far to compare"),
        ("{from: [far, six], to: far, allowed: all}", "no family of addresses in common"),
        ("{from: [far, nope], to: s, denied: all}", "there is no end nope"),
        ("{from: far, to: [s, nope], denied: all}", "there is no end nope"),
        ("{from: '*', except: nope, to: s, denied: all}", "there is no end nope"),
        ("{from: far, except: far, to: s, denied: all}", "`except` leaves no end of `from`"),
        (
            "{from: [far, '2001:db8::1'], to: far, allowed: all}",
            "no connection from 2001:db8::1/128 to compare",
        ),
        ("{from: far, to: 10.244.0.5, allowed: all}", "far/far to s/statefulset/db: not allowed: all"),
        ("{from: far, to: 10.96.0.7, denied: all}", "10.96.0.7 is the address of Service s/db"),
    ] {
        let (printed, holds) = asserted(FAMILIES, expectation);
        assert!(!holds && printed.contains(fault), "{expectation}: {printed}");
    }
    for expectation in [
        "{from: '*', to: s, denied: all}",
        "{from: s, to: far, exactly: all}",
        "{from: outside, to: [far, six], allowed: all}",
        "{from: six, to: far, denied: all}",
        "{from: '2001:db8::1', to: far, exactly: []}",
        "{from: far, to: 10.244.0.5, denied: 'other protocols'}",
        "{from: 10.244.0.9, to: 192.0.2.1, allowed: all}",
    ] {
        let (printed, holds) = asserted(FAMILIES, expectation);
        assert!(holds, "{expectation}: {printed}");
    }
}

#[test]
fn address_of_a_pod_means_the_pod() {
    let reach =
        |to: &str| with_input(&["reach", "-f", "-", "-o", "csv", "--from", "far", "--to", to], FAMILIES);
    assert_eq!(stdout(&reach("10.244.0.5")), "from,to,allowed\n");
    assert_eq!(stdout(&reach("10.244.0.6")), "from,to,allowed\nfar/far,any IPv4 address outside,all\n");
    let service = reach("10.96.0.7");
    assert_eq!(service.status.code(), Some(2));
    assert!(stderr(&service).contains("10.96.0.7 is the address of Service s/db"), "{}", stderr(&service));
}

#[test]
fn standard_input_that_is_named_twice_is_an_error() {
    for arguments in [&["diff", "-", "-"][..], &["reach", "-f", "-", "-f", "-"]] {
        let output = with_input(arguments, FAMILIES);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains("can be read once"), "{}", stderr(&output));
    }
}

#[test]
fn what_cannot_be_read_or_asked_is_said_without_words_of_the_program_text() {
    let kubeconfig = std::env::temp_dir().join(format!("bridgewarden-kubeconfig-{}", std::process::id()));
    let text = "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], \
                clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: a, user: {}}]}";
    fs::write(&kubeconfig, text).expect("a file");
    let asked = |variable: &str| {
        let output = program().arg("reach").env("KUBECONFIG", variable).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    // As for kubectl, a file that is not there is skipped, and it is said why the server does not answer.
    let refused = asked(&format!("/nope:{}:", kubeconfig.display()));
    assert!(refused.contains("http://127.0.0.1:1/") && refused.contains("Connection refused"), "{refused}");
    let missing = asked("/nope");
    assert!(missing.contains("cannot use /nope: No such file or directory"), "{missing}");
    let _ = fs::remove_file(&kubeconfig);
    let misread = |expectations: &str| {
        let file = std::env::temp_dir().join(format!("bridgewarden-misfit-{}.yaml", std::process::id()));
        fs::write(&file, expectations).expect("a file");
        let path = file.to_str().expect("text").to_owned();
        let output = with_input(&["reach", "-f", "-", "--assert", &path], FAMILIES);
        let _ = fs::remove_file(&file);
        stderr(&output)
    };
    let head = "apiVersion: bridgewarden.io/v1alpha1\nkind: ReachExpectations\n";
    for said in [misread(&format!("{head}expectations: [far]\n")), misread("far\n")] {
        assert!(!said.contains("struct") && said.contains("expected"), "{said}");
    }
    let nothing = run(&["diff", "/dev/null", "examples/reach/before.yaml"]);
    let said = "warning: there are no pods, no objects that make pods and no NetworkPolicies in /dev/null";
    assert!(stderr(&nothing).contains(said), "{}", stderr(&nothing));
    let empty = with_input(&["reach", "-f", "-"], "");
    assert!(stderr(&empty).contains("there are no pods"), "{}", stderr(&empty));
}

/// A git repository whose branch changes the policies of its first commit.
struct Repository(PathBuf);

impl Repository {
    fn new(name: &str) -> Repository {
        let path = std::env::temp_dir().join(format!("bridgewarden-{name}-{}", std::process::id()));
        let repository = Repository(path);
        let deploy = repository.0.join("deploy");
        fs::create_dir_all(deploy.join("expectations")).expect("a directory");
        let example = |name: &str| project().join("examples/reach").join(name);
        fs::copy(example("before.yaml"), deploy.join("orders.yaml")).expect("a copy");
        repository.git(&["init", "-q", "-b", "main"]);
        repository.commit("before");
        repository.git(&["tag", "base"]);
        fs::copy(example("after.yaml"), deploy.join("orders.yaml")).expect("a copy");
        repository.commit("after");
        repository
    }

    fn git(&self, arguments: &[&str]) {
        let identity =
            ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
        let status = Command::new("git").args(identity).args(arguments).current_dir(&self.0).status();
        assert!(status.expect("git runs").success(), "git {arguments:?}");
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "."]);
        self.git(&["commit", "-q", "-m", message]);
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn revision_of_git_is_read_as_it_was_and_nothing_is_left_behind() {
    let repository = Repository::new("revision");
    let scratch = repository.0.join("scratch");
    fs::create_dir(&scratch).expect("a directory");
    let diff = |old: &str, new: &str| {
        program()
            .args(["diff", old, new])
            .current_dir(&repository.0)
            .env("TMPDIR", &scratch)
            .output()
            .expect("it runs")
    };
    let files = run(&["diff", "examples/reach/before.yaml", "examples/reach/after.yaml"]);
    assert_eq!(stdout(&diff("base:deploy", "deploy")), stdout(&files));
    assert_eq!(stdout(&diff("base:", "HEAD:deploy/orders.yaml")), stdout(&files));
    assert_eq!(diff("HEAD:deploy", "deploy").status.code(), Some(0));
    // From below the top of the repository, and where archives are to lack the manifests.
    fs::write(repository.0.join(".gitattributes"), "deploy/** export-ignore\n").expect("a file");
    repository.commit("ignored in archives");
    let ignored = diff("HEAD:deploy", "deploy");
    let nothing = (String::new(), String::new(), Some(0));
    assert_eq!((stdout(&ignored), stderr(&ignored), ignored.status.code()), nothing);
    repository.git(&["tag", "ignored"]);
    assert_eq!(stdout(&diff("base:deploy", "ignored:deploy")), stdout(&files));
    let below = program()
        .args(["diff", "base:orders.yaml", "ignored:../deploy"])
        .current_dir(repository.0.join("deploy"))
        .output()
        .expect("it runs");
    assert_eq!(stdout(&below), stdout(&files), "{}", stderr(&below));
    fs::write(repository.0.join("deploy/.gitignore"), "").expect("a file");
    let status = Command::new("git").args(["status", "--short"]).current_dir(&repository.0).output();
    assert_eq!(stdout(&status.expect("git runs")), "?? deploy/.gitignore\n");
    let missing = diff("base:no-such-directory", "deploy");
    assert!(stderr(&missing).contains("cannot read base:no-such-directory"), "{}", stderr(&missing));
    assert_eq!(fs::read_dir(&scratch).expect("the directory").count(), 0);
}

/// The scripts of an example for CI, in order.
fn scripts(example: &str) -> Vec<String> {
    let text = fs::read_to_string(project().join("examples/ci").join(example)).expect("an example");
    let parsed: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    let text = |value: &Value| value.as_str().expect("a script").to_owned();
    match parsed["jobs"]["reach"]["steps"].as_array() {
        Some(steps) => {
            steps.iter().filter(|step| step["run"].is_string()).map(|step| text(&step["run"])).collect()
        }
        None => {
            let lines = parsed["network-policies"]["script"].as_array().expect("a script");
            vec![lines.iter().map(text).collect::<Vec<_>>().join("\n")]
        }
    }
}

#[test]
fn scripts_of_the_ci_examples_do_what_they_promise() {
    let repository = Repository::new("ci");
    let expectations = "
apiVersion: bridgewarden.io/v1alpha1
kind: ReachExpectations
expectations: [{from: orders/deploy/web, to: orders/sts/db, denied: all}]
";
    fs::write(repository.0.join("deploy/expectations/reach.yaml"), expectations).expect("a file");
    let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden")).parent().expect("a directory");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    for (example, expected) in [("github.yaml", 3), ("gitlab.yaml", 1)] {
        let scripts = scripts(example);
        assert_eq!(scripts.len(), expected, "{example}");
        for script in scripts {
            // Comments are the business of GitHub.
            if script.contains("gh pr comment") {
                continue;
            }
            let output = Command::new("sh")
                .args(["-e", "-c", &script])
                .current_dir(&repository.0)
                .env("PATH", &path)
                .envs([("MANIFESTS", "deploy"), ("EXPECTATIONS", "deploy/expectations/reach.yaml")])
                .envs([("BASE", "base"), ("CI_MERGE_REQUEST_DIFF_BASE_SHA", "base")])
                .env("GITHUB_STEP_SUMMARY", repository.0.join("summary.md"))
                .output()
                .expect("sh runs");
            assert!(output.status.success(), "{example}: {script}\n{}", stderr(&output));
        }
        let difference = fs::read_to_string(repository.0.join("difference.md")).expect("a difference");
        assert!(
            difference.contains("| **opens** |") && difference.contains("| **closes** |"),
            "{difference}"
        );
        fs::remove_file(repository.0.join("difference.md")).expect("it is there");
    }
    let summary = fs::read_to_string(repository.0.join("summary.md")).expect("a summary");
    let junit = fs::read_to_string(repository.0.join("reach.xml")).expect("a report");
    assert!(summary.contains("| **opens** |") && junit.contains("failures=\"0\""), "{summary}{junit}");
}

/// The page of some manifests.
fn page(manifests: &str) -> String {
    stdout(&run(&["reach", "-f", manifests, "-o", "html"]))
}

#[test]
fn page_is_one_file_with_an_answer_and_its_reasons_for_each_pair() {
    let page = page("examples/reach/before.yaml");
    let loads = ["src=", "href=", "@import", "url(", "fetch("];
    assert!(loads.iter().all(|word| !page.contains(word)), "the page loads something");
    let start = page.find("id=\"data\">").expect("the data") + "id=\"data\">".len();
    let end = start + page[start..].find("</script>").expect("its end");
    let data: Value = serde_json::from_str(&page[start..end]).expect("JSON");
    let matrix = &data["matrices"][0];
    let list = |name: &str| matrix[name].as_array().expect("a list").clone();
    let (sources, destinations, cells) = (list("sources"), list("destinations"), list("cells"));
    assert_eq!(cells.len(), sources.len() * destinations.len());
    let place = |ends: &[Value], name: &str| ends.iter().position(|end| end["name"] == name).expect(name);
    let from = place(&sources, "orders/deployment/api");
    let to = place(&destinations, "orders/statefulset/db");
    let cell = &cells[from * destinations.len() + to];
    let entry = |list: &str, at: usize| &data[list][cell[at].as_u64().expect("a number") as usize];
    assert_eq!(entry("words", 0), &serde_json::json!(["5432/TCP"]));
    assert_eq!(entry("reasons", 1)["isolating"], serde_json::json!([]));
    let rule = entry("reasons", 2)["allowing"][0]["rule"].as_str().expect("a rule");
    assert!(rule.starts_with("orders/db ingress[0] (examples/reach/before.yaml:"), "{rule}");
}

/// Needs Debian's `chromium`; without it, the page is not opened.
#[test]
fn page_shows_the_policies_behind_a_pair_in_a_browser() {
    if Command::new("chromium").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no chromium to open the page with");
        return;
    }
    let directory = std::env::temp_dir().join(format!("bridgewarden-page-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("reach.html");
    fs::write(&file, page("examples/reach/before.yaml")).expect("a file");
    let dump = |hash: &str| {
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"])
            .arg(format!("--user-data-dir={}", directory.join("profile").display()))
            .arg(format!("file://{}{hash}", file.display()))
            .output()
            .expect("chromium runs");
        stdout(&output)
    };
    let pair = dump("#from=orders/deployment/api&to=orders/statefulset/db");
    assert!(pair.contains("orders/db ingress[0]") && pair.contains("<code>5432/TCP</code>"), "{pair}");
    assert!(
        pair.contains("aria-label=\"orders/deployment/web to orders/statefulset/db: nothing\""),
        "{pair}"
    );
    let graph = dump("#view=graph");
    let edge = "aria-label=\"orders/deployment/api to orders/statefulset/db: 5432/TCP\"";
    assert!(graph.contains("<svg") && graph.contains(edge), "{graph}");
    let _ = fs::remove_dir_all(&directory);
}
