//! One run of a program from its start to its end: how long it took, and how much memory it had at most.

use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use nix::sys::resource::{UsageWho, getrusage};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The command of the bench that runs a program once. It is a process of its own, because the kernel keeps only the highest memory
/// of all that a process has started.
pub(crate) const ONCE: &str = "once";

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneRun {
    pub(crate) seconds: f64,
    /// The most resident memory, in MiB.
    pub(crate) mebibytes: f64,
}

impl OneRun {
    /// Runs a program in this network, or in that of the bench, and waits until it ends with one of these codes.
    pub(crate) fn of(
        network: Option<&Netns>,
        program: &Path,
        words: &[impl AsRef<OsStr>],
        codes: &[i32],
    ) -> Result<OneRun> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.args([ONCE.as_ref(), program.as_os_str()]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = match network {
            Some(network) => network.spawn(&mut command)?,
            None => command.spawn().context("cannot start this program again")?,
        };
        let output = child.wait_with_output().context("cannot wait for a run")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seconds, kibibytes, code] = numbers[..] else {
            anyhow::bail!("a run of {} did not come to an end", program.display())
        };
        ensure!(codes.iter().any(|may| f64::from(*may) == code), "{} ended with {code}", program.display());
        Ok(OneRun { seconds, mebibytes: kibibytes / 1024.0 })
    }
}

/// Runs a command, and prints the seconds, the KiB and the exit code.
pub(crate) fn run(command: &[OsString]) -> Result<()> {
    let (program, words) = command.split_first().context("there is no command to run")?;
    let begun = Instant::now();
    let status = Command::new(program).args(words).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let kibibytes = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot ask for its memory")?.max_rss();
    let code = status.code().context("a signal ended it")?;
    writeln!(std::io::stdout(), "{seconds} {kibibytes} {code}").context("cannot print what a run took")
}
