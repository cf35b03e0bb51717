//! `bridgewarden flows` against a socket that a test answers: how it ends, and what it prints.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a slow machine; nothing waits for it to pass.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A daemon whose answers the test writes.
struct Daemon {
    path: PathBuf,
    listener: UnixListener,
}

impl Daemon {
    fn new(name: &str) -> Daemon {
        let path = std::env::temp_dir().join(format!("bridgewarden-{name}-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a socket");
        Daemon { path, listener }
    }

    /// Starts `bridgewarden flows`, and says the first words to it.
    fn ask(&self, more: &[&str], words: &str) -> (Child, UnixStream) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
        command.args(["flows", "--socket"]).arg(&self.path).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the program runs");
        let (mut stream, _) = self.listener.accept().expect("it asks");
        stream.write_all(words.as_bytes()).expect("it listens");
        (child, stream)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether it ended well, and what it said on standard error.
fn end(mut child: Child) -> (bool, String) {
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            break status;
        }
        assert!(start.elapsed() < TIMEOUT, "it does not end");
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("it is text");
    (status.success(), said)
}

#[test]
fn all_that_is_kept_is_printed_and_nothing_is_fine() {
    let daemon = Daemon::new("kept");
    let (child, _stream) = daemon.ask(&[], "\n");
    assert_eq!(end(child), (true, String::new()));
}

#[test]
fn follower_whose_output_nobody_reads_ends_though_nothing_is_denied() {
    let daemon = Daemon::new("unread");
    let (mut child, stream) = daemon.ask(&["--follow"], "\n");
    drop(child.stdout.take());
    assert_eq!(end(child), (true, String::new()));
    // The daemon notices, too, and its place is free.
    stream.set_read_timeout(Some(TIMEOUT)).expect("a limit");
    assert_eq!((&stream).read(&mut [0]).expect("it is closed"), 0);
}

#[test]
fn follower_ends_with_the_input_that_was_held_open_for_it() {
    let daemon = Daemon::new("input");
    let (mut child, stream) = daemon.ask(&["--follow", "-o", "json"], "\n");
    // Held open when it begins to watch: it has a second thread by then.
    let threads = format!("/proc/{}/task", child.id());
    let start = Instant::now();
    while std::fs::read_dir(&threads).map_or(0, Iterator::count) < 2 {
        assert!(start.elapsed() < TIMEOUT, "it does not watch");
    }
    std::thread::sleep(Duration::from_millis(50));
    drop(child.stdin.take());
    assert_eq!(end(child), (true, String::new()));
    drop(stream);
}

#[test]
fn listener_too_many_fails_with_the_reason() {
    let daemon = Daemon::new("refused");
    let (child, _stream) = daemon.ask(&["--follow"], "\n! 16 listen already\n");
    let (well, said) = end(child);
    assert!(!well && said.contains("16 listen already"), "{said}");
    let (child, _stream) = daemon.ask(&[], "! too many clients are connected\n");
    let (well, said) = end(child);
    assert!(!well && said.contains("too many clients are connected"), "{said}");
}

#[test]
fn daemon_that_ends_before_all_is_sent_is_a_failure_and_not_silence() {
    let daemon = Daemon::new("gone");
    for (more, words) in [(&[][..], ""), (&["--follow"][..], "\n")] {
        let (child, stream) = daemon.ask(more, words);
        drop(stream);
        let (well, said) = end(child);
        assert!(!well && said.contains("has ended"), "{said}");
    }
}
