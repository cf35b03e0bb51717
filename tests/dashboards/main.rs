//! Dashboards and alerts, put to a real Prometheus that scrapes real agents.
//!
//! The agents run once, with load and with faults (`scene.rs`); then every panel and every alert is asked. With `DRAW=1`
//! the pictures in docs/dashboards are redrawn from that run. Needs root; everything happens in namespaces of its own.

mod agent;
mod api;
mod board;
mod coverage;
mod draw;
mod form;
mod live;
mod objects;
mod prometheus;
mod rules;
mod scene;
mod unit;

use libtest_mimic::{Arguments, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let shared = Arc::new(live::SharedRun::default());
    let mut trials = form::tests();
    trials.extend(coverage::tests());
    trials.extend(live::tests(&shared).unwrap_or_else(|problem| {
        vec![test("dashboards_and_rules_can_be_read", move || Err(problem.clone()))]
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    shared.clear();
    conclusion.exit_code()
}

/// A test that fails with a sentence.
fn test(name: &str, body: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::test(name, move || body().map_err(Into::into))
}

/// A test that fails with every one of these complaints.
fn complaints(name: &str, find: impl FnOnce() -> Result<Vec<String>, String> + Send + 'static) -> Trial {
    test(name, move || {
        let found = find()?;
        if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
    })
}

/// A path of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
