//! Runs kubectl and docker where they can reach the cluster and its engine.

use super::{PATIENCE, PAUSE};
use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// How to reach a cluster.
#[derive(Debug)]
pub(super) struct Client {
    settings: BTreeMap<String, String>,
    network: Option<Netns>,
}

impl Client {
    /// Reads a file of KEY=VALUE lines.
    pub(super) fn new(path: &Path) -> Result<Client> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read {}: bring a cluster up with e2e/cluster/up, or use e2e/run", path.display())
        })?;
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let settings: BTreeMap<String, String> =
            lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let network = settings.get("NETNS").filter(|path| !path.is_empty());
        let network = network.map(|path| Netns::open("the engine's", Path::new(path))).transpose()?;
        Ok(Client { settings, network })
    }

    /// A setting.
    pub(super) fn setting(&self, key: &str) -> Result<&str> {
        self.settings.get(key).map(String::as_str).with_context(|| format!("the cluster's file has no {key}"))
    }

    /// The network from which the cluster can be reached; `None` for this machine's own.
    pub(super) fn network(&self) -> Option<&Netns> {
        self.network.as_ref()
    }

    /// This machine's root directory as the engine sees it: it may have namespaces of its own.
    pub(super) fn engine_root(&self) -> PathBuf {
        let process = self.settings.get("NETNS").and_then(|path| path.strip_suffix("/ns/net"));
        process.map_or(PathBuf::from("/"), |process| Path::new(process).join("root"))
    }

    /// Runs a program with a text as its standard input, and returns its output.
    pub(super) fn run(&self, program: &str, words: &[&str], input: &str) -> Result<String> {
        let output = self.finish(Command::new(program).args(words).envs(&self.settings), input)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command where the cluster can be reached, to its end, however it ends.
    pub(super) fn finish(&self, command: &mut Command, input: &str) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match &self.network {
            Some(network) => network.spawn(command)?,
            None => command.spawn().with_context(|| format!("cannot start {program}"))?,
        };
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input.as_bytes()).with_context(|| format!("cannot write to {program}"))?;
        }
        child.wait_with_output().with_context(|| format!("cannot wait for {program}"))
    }

    /// Runs kubectl.
    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.run(self.setting("KUBECTL")?, words, "")
    }

    /// The output of `kubectl get`.
    pub(super) fn get(&self, words: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get"], words, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {}", words.join(" ")))
    }

    /// Applies objects; fields that only earlier versions had are removed. A new namespace has no service account for a
    /// moment, and accepts no pods until then.
    pub(super) fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let words = ["apply", "--server-side", "--force-conflicts", "--field-manager=e2e", "-f", "-"];
        let start = Instant::now();
        loop {
            let applied = self.run(self.setting("KUBECTL")?, &words, &list);
            match &applied {
                Err(error)
                    if start.elapsed() < PATIENCE && format!("{error:#}").contains("serviceaccount") =>
                {
                    std::thread::sleep(PAUSE);
                }
                _ => return applied.map(drop),
            }
        }
    }

    /// Runs docker.
    pub(super) fn docker(&self, words: &[&str]) -> Result<String> {
        self.run("docker", words, "")
    }

    /// The image of scenarios' pods, which the nodes already have.
    pub(super) fn pod_image(&self) -> Result<String> {
        let listed =
            self.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names[*]}"])?;
        let image = listed.split_whitespace().find(|name| name.contains("/agnhost:"));
        image.map(str::to_owned).context("the nodes have no agnhost image: recreate the cluster")
    }
}
