//! A cluster whose kubectl is a script.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a slow machine; nothing waits for it to pass.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Answers `get` with files, and `exec` with the script of the pod, which gets the words of the command.
const KUBECTL: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/words"
while :; do case $1 in --context=* | --kubeconfig=*) shift ;; *) break ;; esac; done
case "$1 $2" in
"get pods") cat "$here/pods" ;;
"get networkpolicies.networking.k8s.io") cat "$here/policy" ;;
exec*)
    shift
    [ "$1" != --stdin ] || shift
    pod=$3
    shift 6
    . "$here/$pod"
    ;;
esac
"#;

/// A cluster whose kubectl is a script.
pub(crate) struct Cluster {
    pub(crate) here: PathBuf,
}

impl Cluster {
    /// A cluster with these nodes; the pod of node-a is agent-node-a, and so on.
    pub(crate) fn new(name: &str, nodes: &[&str]) -> Cluster {
        let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("agents-{name}"));
        let _ = fs::remove_dir_all(&here);
        fs::create_dir_all(&here).expect("a directory of our own");
        let cluster = Cluster { here };
        let pod = |node: &&str| {
            json!({
                "metadata": {"name": format!("agent-{node}"), "ownerReferences": [{"kind": "DaemonSet"}]},
                "spec": {"nodeName": node, "containers": [
                    {"name": "agent", "args": ["run", "--backend=nftables", "--flows-socket=/s/flows"]},
                ]},
                "status": {"phase": "Running"},
            })
        };
        let pods: Vec<Value> = nodes.iter().map(pod).collect();
        cluster.write("pods", &json!({ "items": pods }).to_string());
        cluster.write("policy", "");
        cluster.write("words", "");
        cluster.write("kubectl", KUBECTL);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(cluster.here.join("kubectl"), executable).expect("it is ours");
        cluster
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.here.join(name), text).expect("it is written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.here.join(name)).unwrap_or_default()
    }

    /// What the command in the container of a node's agent does.
    pub(crate) fn answers(&self, node: &str, script: &str) {
        self.write(&format!("agent-{node}"), script);
    }

    /// The same: it prints this text, and ends with this code.
    pub(crate) fn prints(&self, node: &str, text: &str, code: u8) {
        self.write(&format!("{node}.text"), text);
        self.answers(node, &format!("cat \"$here/{node}.text\"; exit {code}\n"));
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(words).env("PATH", format!("{}:{path}", self.here.display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.command(words).output().expect("the program runs"))
    }

    /// Waits until a file has something in it.
    pub(crate) fn await_text(&self, name: &str) -> String {
        let start = Instant::now();
        loop {
            let text = self.read(name);
            if text.ends_with('\n') {
                return text;
            }
            assert!(start.elapsed() < TIMEOUT, "nothing is in {name}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
    }
}
