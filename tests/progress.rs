//! What a command shows on a terminal while it takes long.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Needs Debian's `bsdutils`, whose `script` makes a terminal. The manifests come through a pipe, so that reading them takes until
/// progress is shown.
#[test]
fn progress_is_shown_on_a_terminal_while_it_takes_long_and_cleared_before_the_answer() {
    let directory = std::env::temp_dir().join(format!("bridgewarden-progress-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let pipe = directory.join("manifests");
    let _ = fs::remove_file(&pipe);
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let program = env!("CARGO_BIN_EXE_bridgewarden");
    let words = format!("stty cols 100 rows 24; exec {program} reach -f - <{}", pipe.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--flush", "--command", &words, "/dev/null"]);
    command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut terminal = command.spawn().expect("script runs");
    let mut manifests = fs::File::options().write(true).open(&pipe).expect("the program reads");
    let mut shown = String::new();
    let mut output = terminal.stdout.take().expect("it is piped");
    while !shown.contains("reading the manifests, 2s") {
        let mut bytes = [0; 4096];
        let count = output.read(&mut bytes).expect("the terminal's output");
        assert!(count > 0, "no progress is shown: {shown:?}");
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/reach/before.yaml"))
        .expect("manifests");
    manifests.write_all(&text).expect("the program reads");
    drop(manifests);
    output.read_to_string(&mut shown).expect("the terminal's output");
    assert!(terminal.wait().expect("it ends").success(), "{shown}");
    let (progress, answer) = shown.split_at(shown.rfind("\u{1b}[2K").expect("the line is cleared"));
    assert!(!answer.contains("reading") && answer.contains("5432/TCP"), "{answer}");
    assert!(!progress.contains("\u{1b}[3"), "it has colours: {progress:?}");
    let _ = fs::remove_dir_all(&directory);
}
