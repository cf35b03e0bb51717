//! `bridgewarden reach` and `bridgewarden diff` as their users run them: the documents' commands, the formats, the examples for CI.

mod expectations;
mod groups;
mod revisions;

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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
