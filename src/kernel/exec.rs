//! The only code that starts programs: passes a text as input, returns the output, and enforces a deadline.

use super::monitor::Monitor;
use crate::apply::KernelError;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program may run.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a killed program may take to exit.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// How long to wait before checking again whether a program that closed its output has exited.
const PAUSE: Duration = Duration::from_micros(200);
/// The largest output of a program, in bytes: a hundred times a large rule set.
const OUTPUT_MAX: usize = 256 * 1024 * 1024;
/// How many bytes of its standard error are kept.
const COMPLAINT_MAX: usize = 16 * 1024;

/// Starts programs, and counts them.
pub(super) struct Runner {
    /// Programs started.
    pub(super) started: u64,
    /// Must know which programs are ours.
    pub(super) monitor: Option<Monitor>,
    deadline: Duration,
    /// Programs that wait for their input, by command line.
    waiting: BTreeMap<String, Child>,
}

/// The result of a program.
#[derive(Debug)]
pub(super) struct Finished {
    /// Its exit status.
    pub(super) status: ExitStatus,
    /// Its standard output.
    pub(super) output: String,
    /// Its standard error.
    pub(super) complaint: String,
}

impl Runner {
    /// A runner that has started nothing.
    pub(super) fn new() -> Runner {
        Runner { started: 0, monitor: None, deadline: DEADLINE, waiting: BTreeMap::new() }
    }

    /// Runs a program of a package in the network namespace of the calling thread, with `input` as its standard input.
    /// An exit status other than 0 is no error here.
    pub(super) fn run(
        &mut self,
        program: &str,
        package: &'static str,
        arguments: &[&str],
        input: &str,
    ) -> Result<Finished, KernelError> {
        let mut child = match self.waiting(program, arguments) {
            Some(child) => child,
            None => spawn(program, arguments).map_err(|source| KernelError::Start {
                program: program.to_owned(),
                package,
                source,
            })?,
        };
        self.started += 1;
        // It waits for its input, so it has not changed anything yet.
        let _own_changes = self.monitor.as_ref().map(|monitor| monitor.own_changes_of(child.id()));
        let until = Instant::now() + self.deadline;
        let printed = converse(&mut child, input.as_bytes(), until);
        let status = printed.and_then(|printed| Ok((wait(&mut child, until)?, printed)));
        match status {
            Ok((status, (output, complaint))) => Ok(Finished { status, output, complaint }),
            Err(error) => {
                kill(&mut child);
                Err(KernelError::Program {
                    program: command_line(program, arguments),
                    status: "killed".to_owned(),
                    stderr: error.to_string(),
                    line: None,
                })
            }
        }
    }
}

impl Runner {
    /// Starts a program for the next [`Runner::run`] with the same arguments, which then does not wait until a new process is
    /// ready to read (2 ms). Before it has read its input, the program must read and change nothing and hold no lock. If it
    /// cannot be started, the next run reports it.
    pub(super) fn start_ahead(&mut self, program: &str, arguments: &[&str]) {
        if let Ok(child) = spawn(program, arguments)
            && let Some(mut old) = self.waiting.insert(command_line(program, arguments), child)
        {
            kill(&mut old);
        }
    }

    /// The process that waits for this input, if it still does.
    fn waiting(&mut self, program: &str, arguments: &[&str]) -> Option<Child> {
        let mut child = self.waiting.remove(&command_line(program, arguments))?;
        matches!(child.try_wait(), Ok(None)).then_some(child)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.waiting.values_mut().for_each(kill);
    }
}

fn spawn(program: &str, arguments: &[&str]) -> io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = wait(child, Instant::now() + KILL_GRACE);
}

/// A program and its arguments, as one would type them.
pub(super) fn command_line(program: &str, arguments: &[&str]) -> String {
    std::iter::once(&program).chain(arguments).copied().collect::<Vec<_>>().join(" ")
}

/// Writes the input while reading both outputs, so that neither side blocks the other.
fn converse(child: &mut Child, mut input: &[u8], until: Instant) -> io::Result<(String, String)> {
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    for pipe in
        [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)]
    {
        fcntl(pipe.ok_or(ErrorKind::BrokenPipe)?, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let mut output = Vec::new();
    let mut complaint = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while stdin.is_some() || stdout.is_some() || stderr.is_some() {
        if stdin.as_mut().is_some_and(|stdin| !write_some(stdin, &mut input)) {
            stdin = None;
        }
        if stdout.as_mut().is_some_and(|stdout| !read_some(stdout, &mut chunk, &mut output)) {
            stdout = None;
        }
        if stderr.as_mut().is_some_and(|stderr| !read_some(stderr, &mut chunk, &mut complaint)) {
            stderr = None;
        }
        complaint.truncate(COMPLAINT_MAX);
        if output.len() > OUTPUT_MAX {
            return Err(io::Error::other(format!("it printed more than {OUTPUT_MAX} bytes")));
        }
        let mut pipes: Vec<PollFd<'_>> = Vec::with_capacity(3);
        pipes.extend(stdin.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
        pipes.extend(stdout.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        pipes.extend(stderr.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        if !pipes.is_empty() {
            let left = remaining(until)?;
            match poll(&mut pipes, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok((String::from_utf8_lossy(&output).into_owned(), String::from_utf8_lossy(&complaint).trim().to_owned()))
}

fn remaining(until: Instant) -> io::Result<Duration> {
    match until.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        Some(_) | None => Err(io::Error::new(ErrorKind::TimedOut, "it did not end in time")),
    }
}

/// Writes what the pipe accepts. Returns false if there is no more to write, or the reader has closed the pipe.
fn write_some(pipe: &mut impl Write, input: &mut &[u8]) -> bool {
    while !input.is_empty() {
        match pipe.write(input) {
            Ok(written) => *input = &input[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    false
}

/// Reads what the pipe contains, at most a chunk. Returns false at its end.
fn read_some(pipe: &mut impl Read, chunk: &mut [u8], into: &mut Vec<u8>) -> bool {
    match pipe.read(chunk) {
        Ok(0) => false,
        Ok(read) => {
            into.extend_from_slice(&chunk[..read]);
            true
        }
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

fn wait(child: &mut Child, until: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        remaining(until)?;
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str], input: &str) -> Result<Finished, KernelError> {
        Runner::new().run("sh", "dash", arguments, input)
    }

    #[test]
    fn large_input_and_output_pass_without_either_side_waiting() {
        let input = "0123456789abcde\n".repeat(100_000);
        let finished = run(&["-c", "cat; echo lost >&2; exit 3"], &input).expect("it ran");
        assert_eq!(finished.output.len(), input.len());
        assert_eq!(finished.complaint, "lost");
        assert_eq!(finished.status.code(), Some(3));
    }

    #[test]
    fn program_that_reads_nothing_is_no_failure() {
        let finished = run(&["-c", "exit 0"], &"x".repeat(1 << 20)).expect("it ran");
        assert!(finished.status.success());
    }

    #[test]
    fn endless_complaints_are_cut() {
        let finished = run(&["-c", "head -c 1000000 /dev/zero | tr '\\0' x >&2"], "").expect("it ran");
        assert_eq!(finished.complaint.len(), COMPLAINT_MAX);
    }

    #[test]
    fn stuck_program_is_killed_and_counted() {
        let mut runner = Runner::new();
        runner.deadline = Duration::from_millis(100);
        let begun = Instant::now();
        let error = runner.run("sleep", "coreutils", &["30"], "").expect_err("it was stuck");
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(error.to_string(), "sleep 30 failed (killed): it did not end in time");
        assert_eq!(runner.started, 1);
    }

    #[test]
    fn program_that_waits_gets_the_next_input_and_one_that_has_ended_is_started_again() {
        let mut runner = Runner::new();
        let arguments = ["-c", "echo $$; cat"];
        runner.start_ahead("sh", &arguments);
        let id = runner.waiting.values().next().map(Child::id).expect("it waits");
        let finished = runner.run("sh", "dash", &arguments, "input").expect("it ran");
        assert_eq!(finished.output, format!("{id}\ninput"));
        assert_eq!((runner.waiting.len(), runner.started), (0, 1));

        runner.start_ahead("sh", &arguments);
        let ended = runner.waiting.values_mut().next().expect("it waits");
        kill(ended);
        let finished = runner.run("sh", "dash", &arguments, "more").expect("it ran");
        assert!(finished.status.success() && finished.output.ends_with("\nmore"), "{finished:?}");
    }

    #[test]
    fn programs_that_wait_end_with_the_runner() {
        let mut runner = Runner::new();
        let ids: Vec<u32> = (0..2)
            .map(|_| {
                runner.start_ahead("cat", &[]);
                runner.waiting.values().next().map(Child::id).expect("it waits")
            })
            .collect();
        drop(runner);
        for id in ids {
            assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "{id}");
        }
    }

    #[test]
    fn program_that_is_not_there_is_named_with_its_package() {
        let error = Runner::new().run("no-such-program", "iptables", &[], "").expect_err("it is not there");
        let text = error.to_string();
        assert!(text.contains("no-such-program") && text.contains("apt install iptables"), "{text}");
    }
}
