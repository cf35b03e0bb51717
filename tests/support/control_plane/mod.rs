//! A real control plane: etcd and kube-apiserver as processes in a network namespace.
//!
//! Comes in: their programs and a namespace, such as that of a testbed's node. Goes out: an API server that daemons
//! reach over the network, an administrator's client, and the means to kill the server, compact its history and cut its
//! connections. Nothing here depends on the clients, or on what a policy means.
//!
//! It has no controllers and no kubelets: the client that writes a Pod also sets its node and its addresses.

mod kill_on_drop;
mod objects;
mod relay;
mod watchers;

pub use kill_on_drop::KillOnDrop;
pub use objects::Objects;
pub use relay::Relay;
pub use watchers::Watchers;

use crate::http;
use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The port of kube-apiserver, on every address of the namespace.
pub const PORT: u16 = 6443;
/// Where etcd listens, on loopback.
const ETCD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);
/// The longest that a server may take to start.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The pause between two checks whether it has started.
const PAUSE: Duration = Duration::from_millis(20);

/// The users: an administrator may do everything, and the daemon has the rights of the chart.
const TOKENS: &str = "\
admin-token,admin,admin,\"system:masters\"
daemon-token,system:serviceaccount:kube-system:bridgewarden,daemon,\"system:serviceaccounts\"
";

/// A user of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user that may do everything.
    Admin,
    /// Bridgewarden, with the rights that `install.yaml` gives it.
    Daemon,
}

impl Who {
    fn word(self) -> &'static str {
        match self {
            Who::Admin => "admin",
            Who::Daemon => "daemon",
        }
    }
}

/// etcd and kube-apiserver. Both end when this is dropped, and when this process ends for any reason.
#[derive(Debug)]
pub struct ControlPlane {
    namespace: Netns,
    address: IpAddr,
    programs: PathBuf,
    directory: PathBuf,
    objects: Option<Objects>,
    server: Option<KillOnDrop>,
    _etcd: KillOnDrop,
}

impl ControlPlane {
    /// Starts both without data, and waits until they are ready. `programs` is a directory that contains `etcd` and
    /// `kube-apiserver`; their data goes into `directory`, which is emptied first; `address` is one of the namespace's.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(
        namespace: &Netns,
        address: IpAddr,
        programs: &Path,
        directory: &Path,
    ) -> Result<ControlPlane> {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        fs::write(directory.join("tokens"), TOKENS).context("cannot write the tokens")?;
        let mut control_plane = ControlPlane {
            namespace: namespace.clone(),
            address,
            programs: programs.to_owned(),
            directory: directory.to_owned(),
            objects: None,
            server: None,
            _etcd: start_etcd(namespace, programs, directory)?,
        };
        control_plane.start_server()?;
        // The server creates its certificate before it listens.
        let begun = Instant::now();
        while control_plane.namespace.enter(|| TcpStream::connect((address, PORT)))?.is_err() {
            control_plane.may_take(begun)?;
        }
        let kubeconfig = control_plane.kubeconfig(Who::Admin, PORT)?;
        control_plane.objects = Some(Objects::new(namespace, &kubeconfig)?);
        control_plane.wait_until_ready()?;
        control_plane.objects()?.create(&rights()?)?;
        Ok(control_plane)
    }

    /// The namespace of its processes.
    pub fn namespace(&self) -> &Netns {
        &self.namespace
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    /// The id of the API server's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn server_process(&self) -> Result<u32> {
        self.server.as_ref().context("the API server was killed")?.process()
    }

    /// The administrator's client.
    ///
    /// # Errors
    /// The server has never been ready.
    pub fn objects(&self) -> Result<&Objects> {
        self.objects.as_ref().context("the API server has never been ready")
    }

    /// Writes the kubeconfig of a user that reaches it at a port of its address, and returns its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self, who: Who, port: u16) -> Result<PathBuf> {
        let server = format!("https://{}", SocketAddr::new(self.address, port));
        let authority = self.directory.join("certificates/apiserver.crt");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "s", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": "u", "user": {"token": format!("{}-token", who.word())}}],
            "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
        });
        let path = self.directory.join(format!("{}-{port}.kubeconfig", who.word()));
        fs::write(&path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Kills the API server (SIGKILL). etcd keeps running.
    pub fn kill_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts the API server with the data of etcd, and does not wait for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_server(&mut self) -> Result<()> {
        let file = |name: &str| self.directory.join(name).display().to_string();
        let key = file("certificates/apiserver.key");
        let arguments = [
            format!("--etcd-servers=http://{ETCD}"),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={PORT}"),
            // If there is none, the server creates a certificate for its address, and the authority that signs it,
            // here.
            format!("--cert-dir={}", file("certificates")),
            format!("--token-auth-file={}", file("tokens")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            // There is no controller that would create service accounts.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        let program = self.programs.join("kube-apiserver");
        let log = self.directory.join("kube-apiserver.log");
        self.server = Some(KillOnDrop::start(&self.namespace, &program, &arguments, &log)?);
        Ok(())
    }

    /// Waits until the API server is ready; returns when it first was.
    ///
    /// # Errors
    /// It ends, or takes too long.
    pub fn wait_until_ready(&mut self) -> Result<Instant> {
        let begun = Instant::now();
        while self.objects()?.page("/readyz").is_err() {
            self.may_take(begun)?;
        }
        Ok(Instant::now())
    }

    /// Makes etcd discard every revision except the current one.
    ///
    /// # Errors
    /// The error that etcd returns.
    pub fn compact(&self) -> Result<()> {
        let answer = http::post(&self.namespace, ETCD, "/v3/kv/range", r#"{"key": "AA=="}"#)?;
        let answer: Value =
            serde_json::from_str(&answer.body).context("etcd does not report its revision")?;
        let revision = &answer["header"]["revision"];
        let order = json!({"revision": revision, "physical": true});
        let answer = http::post(&self.namespace, ETCD, "/v3/kv/compaction", &order.to_string())?;
        ensure!(answer.status == 200, "etcd does not compact to {revision}: {}", answer.body);
        Ok(())
    }

    fn may_take(&mut self, begun: Instant) -> Result<()> {
        let log = || fs::read_to_string(self.directory.join("kube-apiserver.log")).unwrap_or_default();
        let ended = self.server.as_mut().map(KillOnDrop::ended).transpose()?.flatten();
        ensure!(ended.is_none(), "the API server ended ({ended:?}):\n{}", log());
        ensure!(begun.elapsed() < TIMEOUT, "the API server is not ready after {TIMEOUT:?}:\n{}", log());
        std::thread::sleep(PAUSE);
        Ok(())
    }
}

fn start_etcd(namespace: &Netns, programs: &Path, directory: &Path) -> Result<KillOnDrop> {
    let (client, peer) = (format!("http://{ETCD}"), "http://127.0.0.1:2380");
    let arguments = [
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // Its data is discarded.
        "--unsafe-no-fsync".to_owned(),
        // Bytes: room for a hundred thousand pods, each in several versions.
        format!("--quota-backend-bytes={}", 8_u64 << 30),
        "--log-level=warn".to_owned(),
    ];
    KillOnDrop::start(namespace, &programs.join("etcd"), &arguments, &directory.join("etcd.log"))
}

/// The rights that `install.yaml` gives the daemon.
fn rights() -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../install.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let read = |document| Value::deserialize(document).context("install.yaml is no YAML");
    let objects = serde_yaml_ng::Deserializer::from_str(&text).map(read).collect::<Result<Vec<_>>>()?;
    let is_right =
        |object: &Value| ["ClusterRole", "ClusterRoleBinding"].iter().any(|kind| object["kind"] == *kind);
    let rights: Vec<Value> = objects.into_iter().filter(is_right).collect();
    ensure!(
        rights.len() == 2,
        "install.yaml gives {} rights and should give a role and its binding",
        rights.len()
    );
    Ok(rights)
}
