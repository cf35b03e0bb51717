//! Processes that end at the latest with the process that started them.

use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a shell may take to start its program.
const START: Duration = Duration::from_secs(5);

/// Runs a program until it ends, or until the shell's input is closed, which happens when the process at the other end
/// ends for any reason. Then the program is killed (SIGKILL), by its own process id.
const SHELL: &str = r#"exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
{ read -r _; kill -9 "$program"; } <&3 2>/dev/null &
exec 3<&-
wait "$program""#;

/// A process that is killed when this is dropped, and when the process that owns this ends for any reason.
#[derive(Debug)]
pub struct KillOnDrop {
    shell: Child,
}

impl KillOnDrop {
    /// Starts a program in a namespace. Its output is appended to `log`.
    ///
    /// # Errors
    /// The log cannot be written, or the shell cannot be started.
    pub fn start(namespace: &Netns, program: &Path, arguments: &[String], log: &Path) -> Result<KillOnDrop> {
        let failed = || format!("cannot write {}", log.display());
        let output = File::options().create(true).append(true).open(log).with_context(failed)?;
        let mut command = Command::new("sh");
        command.args(["-c", SHELL, "sh"]).arg(program).args(arguments);
        command.stdin(Stdio::piped()).stdout(output.try_clone().with_context(failed)?).stderr(output);
        Ok(KillOnDrop { shell: namespace.spawn(&mut command)? })
    }

    /// The id of the program's process.
    ///
    /// # Errors
    /// It has ended.
    pub fn process(&self) -> Result<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let begun = Instant::now();
        loop {
            let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            // The shell starts the program first. Before that it has no child.
            if let Some(process) = children.split(' ').next().and_then(|word| word.parse().ok()) {
                return Ok(process);
            }
            ensure!(begun.elapsed() < START, "a shell starts no program");
            std::thread::yield_now();
        }
    }

    /// Kills the program, and waits for that.
    pub fn kill(self) {
        drop(self);
    }

    /// How the program ended, if it did.
    ///
    /// # Errors
    /// The operating system does not report it.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.shell.try_wait().context("cannot ask whether a process runs")
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(name: &str, script: &str) -> (KillOnDrop, std::path::PathBuf) {
        let log = std::env::temp_dir().join(format!("bridgewarden-child-{}-{name}", std::process::id()));
        let own = Netns::open("own", Path::new("/proc/self/ns/net")).unwrap();
        let words = ["-c", script].map(str::to_owned);
        (KillOnDrop::start(&own, Path::new("sh"), &words, &log).unwrap(), log)
    }

    fn said(log: &Path) -> String {
        let start = Instant::now();
        loop {
            let said = fs::read_to_string(log).unwrap();
            if said.ends_with('\n') || start.elapsed() > Duration::from_secs(10) {
                return said.trim().to_owned();
            }
        }
    }

    #[test]
    fn process_ends_when_it_is_dropped() {
        assert!(nix::unistd::geteuid().is_root(), "entering a namespace needs root; run: sudo -E make test");
        let (child, log) = start("ends", "echo $$; exec sleep 600");
        let id = said(&log);
        assert_eq!(child.process().unwrap().to_string(), id);
        let process = Path::new("/proc").join(id);
        assert!(process.exists());
        drop(child);
        assert!(!process.exists());
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn end_of_a_process_is_reported() {
        assert!(nix::unistd::geteuid().is_root(), "entering a namespace needs root; run: sudo -E make test");
        let (mut child, log) = start("reported", "exit 7");
        let start = Instant::now();
        let status = loop {
            match child.ended().unwrap() {
                None if start.elapsed() < Duration::from_secs(10) => {}
                other => break other,
            }
        };
        assert_eq!(status.and_then(|status| status.code()), Some(7));
        fs::remove_file(log).unwrap();
    }
}
