//! People who ask all agents from outside the cluster, as `kubectl bridgewarden`: an administrator, and a developer who logs in with
//! a service account's token and may edit a namespace of their own.

use super::client::Client;
use super::node::KindNode;
use super::{agents, items, waits_for};
use crate::key::ObjectKey;
use crate::object;
use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The developer's namespace.
const NAMESPACE: &str = "operators";
const DEVELOPER: &str = "developer";
/// The pods: the policy denies the client's connections to the server.
const CLIENT: &str = "client";
const SERVER: &str = "server";
const PORT: u16 = 80;
/// How long the denied connection may take to be refused.
const REFUSAL: Duration = Duration::from_secs(2);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterUser {
    /// May do everything.
    Administrator,
    /// May edit one namespace, and ask agents if the chart's `rbac.operators` says so.
    Developer,
}

/// What a user was answered.
#[derive(Debug)]
pub struct UserAnswer {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// The users, and a pod whose connection a policy denies.
#[derive(Debug)]
pub struct OperatorTrial {
    client: Client,
    worker: KindNode,
    sender: Netns,
    server: IpAddr,
    /// PATH with the plugin and the cluster's own kubectl.
    path: OsString,
    developer: PathBuf,
}

impl OperatorTrial {
    /// The name of the policy, as `wait` takes it.
    pub const POLICY: &str = "networkpolicy/operators/locked";
    /// The ends of the denied connection, as `explain` takes them.
    pub const ENDS: [&str; 2] = ["operators/client", "operators/server:80"];

    /// Starts the pods with this image, and makes the users' files in `directory`. `program` becomes a plugin of kubectl. At first the
    /// chart gives no user the right to ask agents.
    ///
    /// # Errors
    /// The cluster cannot be reached, or pods don't run.
    pub fn open(environment: &Path, image: &str, program: &Path, directory: &Path) -> Result<OperatorTrial> {
        let client = Client::new(environment)?;
        agents::are_ready(&client)?;
        agents::admit(&client, None)?;
        let worker = KindNode::find(&client, "WORKER")?;
        client.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"])?;
        client.apply(&[object::namespace(NAMESPACE, &BTreeMap::new())])?;
        client.apply(&objects(&worker.name, image))?;
        let (sender, _) = worker.running(&client, &ObjectKey::new(NAMESPACE, CLIENT))?;
        let (_, server) = worker.running(&client, &ObjectKey::new(NAMESPACE, SERVER))?;
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let developer = directory.join("developer.kubeconfig");
        let text = log_in(&client)?.to_string();
        fs::write(&developer, text).with_context(|| format!("cannot write {}", developer.display()))?;
        let path = plugin_path(&client, program, directory)?;
        Ok(OperatorTrial { client, worker, sender, server, path, developer })
    }

    /// Gives the developer the right to ask agents, by the chart.
    ///
    /// # Errors
    /// The installation fails.
    pub fn admit_developer(&self) -> Result<()> {
        agents::admit(&self.client, Some(&ObjectKey::new(NAMESPACE, DEVELOPER)))
    }

    /// Takes that right from all users.
    ///
    /// # Errors
    /// The installation fails.
    pub fn withdraw_rights(&self) -> Result<()> {
        agents::admit(&self.client, None)
    }

    /// Makes the client's connection, which must be refused.
    ///
    /// # Errors
    /// It is not.
    pub fn connect_in_vain(&self) -> Result<()> {
        let server = SocketAddr::new(self.server, PORT);
        // The policy may not be enforced yet: nothing listens, so only a record of the agent shows who refused.
        let refused = self.sender.enter(|| TcpStream::connect_timeout(&server, REFUSAL))?;
        let refused = refused.err().map(|error| error.kind());
        ensure!(
            refused == Some(ErrorKind::ConnectionRefused),
            "the connection to {server} ended with {refused:?}"
        );
        Ok(())
    }

    /// Runs `kubectl bridgewarden` with these words, as this user.
    ///
    /// # Errors
    /// kubectl cannot be started.
    pub fn ask(&self, user: ClusterUser, words: &[&str]) -> Result<UserAnswer> {
        self.kubectl(user, &[&["bridgewarden"], words].concat())
    }

    /// Runs `bridgewarden` with these words in the container of the worker's agent, as this user.
    ///
    /// # Errors
    /// kubectl cannot be started.
    pub fn ask_on_worker(&self, user: ClusterUser, words: &[&str]) -> Result<UserAnswer> {
        let pod = agents::pod_on(&self.client, &self.worker)?;
        let place =
            ["exec", "--namespace", agents::NAMESPACE, &pod, "--container", "agent", "--", "bridgewarden"];
        self.kubectl(user, &[&place, words].concat())
    }

    fn kubectl(&self, user: ClusterUser, words: &[&str]) -> Result<UserAnswer> {
        let mut command = Command::new(self.client.setting("KUBECTL")?);
        let kubeconfig = match user {
            ClusterUser::Administrator => Path::new(self.client.setting("KUBECONFIG")?),
            ClusterUser::Developer => &self.developer,
        };
        command.args(words).env("PATH", &self.path).env("KUBECONFIG", kubeconfig);
        let output = self.client.finish(&mut command, "")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(UserAnswer {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// The names of the cluster's nodes.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn nodes(&self) -> Result<Vec<String>> {
        let listed = self.client.get(&["nodes"])?;
        Ok(items(&listed).filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// Removes the pods and the developer.
    ///
    /// # Errors
    /// The namespace is not removed.
    pub fn close(self) -> Result<()> {
        self.client.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"]).map(drop)
    }
}

/// The developer with the right to edit, and the pods with their policy.
fn objects(node: &str, image: &str) -> Vec<Value> {
    let developer = json!({"namespace": NAMESPACE, "name": DEVELOPER});
    let pod =
        |name: &str| object::idle_pod(&ObjectKey::new(NAMESPACE, name), node, &json!({"app": name}), image);
    let spec = json!({"podSelector": {"matchLabels": {"app": SERVER}}, "policyTypes": ["Ingress"]});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": developer}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": developer,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": DEVELOPER, "namespace": NAMESPACE}],
        }),
        object::policy(&ObjectKey::new(NAMESPACE, "locked"), &spec),
        pod(CLIENT),
        pod(SERVER),
    ]
}

/// The developer's kubeconfig: the administrator's with another user.
fn log_in(client: &Client) -> Result<Value> {
    let text = client.kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"])?;
    let mut kubeconfig: Value =
        serde_json::from_str(&text).context("the administrator's kubeconfig is not JSON")?;
    let mut token = String::new();
    waits_for("the developer can log in", || {
        token = client.kubectl(&["-n", NAMESPACE, "create", "token", DEVELOPER]).unwrap_or_default();
        Ok(!token.is_empty())
    })?;
    let name = kubeconfig["users"][0]["name"].clone();
    kubeconfig["users"] = json!([{"name": name, "user": {"token": token.trim()}}]);
    Ok(kubeconfig)
}

/// PATH with `kubectl-bridgewarden`, and with the kubectl that runs it and that it runs.
fn plugin_path(client: &Client, program: &Path, directory: &Path) -> Result<OsString> {
    let plugin = directory.join("kubectl-bridgewarden");
    let _ = fs::remove_file(&plugin);
    symlink(program, &plugin).with_context(|| format!("cannot make {}", plugin.display()))?;
    let kubectl = Path::new(client.setting("KUBECTL")?).parent().context("kubectl is in no directory")?;
    let known = env::var_os("PATH").unwrap_or_default();
    let all = [directory.to_owned(), kubectl.to_owned()].into_iter().chain(env::split_paths(&known));
    Ok(env::join_paths(all)?)
}
