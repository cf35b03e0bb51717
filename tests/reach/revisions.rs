//! Revisions of git, by themselves and in the examples for CI.

use crate::{program, project, run, stderr, stdout};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
