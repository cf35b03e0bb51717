//! Every command of docs/explain.md and docs/audit.md prints what the page shows, and does what the page says.
//!
//! `BLESS=1` rewrites the outputs on the pages.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PAGE: &str = "docs/explain.md";

/// The pages with commands, and how many each has at least.
const PAGES: [(&str, usize); 2] = [(PAGE, 8), ("docs/audit.md", 1)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(line: &str) -> Output {
    let words = line.strip_prefix("$ bridgewarden ").expect("a command of the page runs the program");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    command.current_dir(root()).args(words.split_whitespace()).stdin(Stdio::null());
    command.output().expect("the program starts")
}

/// The page with the outputs of its commands as they are now.
fn page_now(page: &str) -> String {
    let mut now = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        now += &format!("{line}\n");
        if line != "```console" {
            continue;
        }
        let command = lines.next().expect("a block begins with a command");
        now += &format!("{command}\n");
        if !command.starts_with("$ bridgewarden ") {
            continue;
        }
        let output = run(command);
        for stream in [output.stderr, output.stdout] {
            now += &String::from_utf8(stream).expect("it prints UTF-8");
        }
        for line in lines.by_ref() {
            if line == "```" {
                now += "```\n";
                break;
            }
        }
    }
    now
}

#[test]
fn pages_show_what_their_commands_print() {
    for (name, commands) in PAGES {
        let path = root().join(name);
        let page = fs::read_to_string(&path).expect("the page can be read");
        let now = page_now(&page);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &now).expect("the page can be written");
            continue;
        }
        assert!(page.matches("```console\n$ bridgewarden ").count() >= commands, "{name} has its commands");
        assert_eq!(page, now, "{name} (left) differs from what the program prints; BLESS=1 rewrites it");
    }
}

/// The commands of the page that are denied, each with its manifests, are allowed with what `--fix` prints.
#[test]
fn what_fix_prints_allows_each_denied_command_of_the_page() {
    let page = fs::read_to_string(root().join(PAGE)).expect("the page can be read");
    let commands = page.lines().filter(|line| line.starts_with("$ ") && !line.ends_with("--fix"));
    let mut denied = 0;
    for command in commands {
        let output = run(command);
        if output.status.code() == Some(0) {
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        denied += 1;
        let fixed = run(&format!("{command} --fix"));
        let file =
            std::env::temp_dir().join(format!("bridgewarden-fix-{}-{denied}.yaml", std::process::id()));
        fs::write(&file, &fixed.stdout).expect("a temporary file can be written");
        let again = run(&format!("{command} -f {}", file.display()));
        fs::remove_file(&file).expect("it can be removed");
        let printed = String::from_utf8_lossy(&fixed.stdout);
        assert_eq!(again.status.code(), Some(0), "{command} with\n{printed}");
    }
    assert!(denied >= 6, "only {denied} commands of the page are denied");
}
