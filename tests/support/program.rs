//! Runs programs in a network namespace.

use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use std::process::{Command, Stdio};

/// Runs a program in a namespace and returns its output.
///
/// # Errors
/// It cannot be started, or fails; the message contains its output.
pub fn output(namespace: &Netns, words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("there is no program")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(&mut command)?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?} in {}: {}", namespace.name(), said.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
