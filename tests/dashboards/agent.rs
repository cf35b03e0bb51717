//! The program on a node.

use bridgewarden::testbed::Netns;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::http;

/// Where it serves its pages, as its own node sees it.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20245);

/// Where it learns what is true.
pub(crate) enum ObjectSource {
    Manifests { directory: PathBuf, results: PathBuf },
    Cluster { kubeconfig: PathBuf },
}

/// A program that runs until this is dropped.
pub(crate) struct ScrapedAgent {
    child: Child,
    namespace: Netns,
    log: PathBuf,
}

impl ScrapedAgent {
    /// Starts it. While there is a file `broken`, its iptables fails.
    pub(crate) fn start(
        namespace: &Netns,
        directory: &Path,
        node: &str,
        origin: &ObjectSource,
        broken: Option<&Path>,
    ) -> Result<ScrapedAgent, String> {
        let log = directory.join(format!("{node}.log"));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
        command.args(["run", "--node-name", node, "--backend", "iptables-nft"]);
        command.args([
            "--http-addr",
            "0.0.0.0:20245",
            "--audit-interval-seconds",
            "1",
            "--flows-socket=",
            "--status-socket=",
        ]);
        // So that promtool sees these names too, and panels of policies have data.
        command.args(["--metrics-compat=kube-router", "--metrics-per-policy=on"]);
        match origin {
            ObjectSource::Manifests { directory, results } => {
                command.arg("--manifests").arg(directory).arg("--cni-results-dir").arg(results)
            }
            ObjectSource::Cluster { kubeconfig } => {
                command.arg("--kubeconfig").arg(kubeconfig).args(["--cni-results-dir=", "--events=off"])
            }
        };
        if let Some(broken) = broken {
            let own = directory.join("bin");
            fragile(&own, broken).map_err(|error| format!("{}: {error}", own.display()))?;
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", own.display()));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = namespace.spawn(&mut command).map_err(|error| error.to_string())?;
        Ok(ScrapedAgent { child, namespace: namespace.clone(), log })
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A page of it, without its head.
    pub(crate) fn page(&self, path: &str) -> Result<String, String> {
        let answer = http::get(&self.namespace, ADDRESS, path, Duration::from_secs(10));
        answer.map(|answer| answer.body).map_err(|error| format!("{error:#}"))
    }
}

impl Drop for ScrapedAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with an iptables-restore that fails if there is a file `broken` when it has read its input: an agent starts it before
/// it has any. The program keeps the process of the script, by which the agent knows its own changes.
fn fragile(directory: &Path, broken: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for program in ["iptables-nft-restore", "ip6tables-nft-restore"] {
        let path = directory.join(program);
        let script = format!(
            "#!/bin/sh\ninput={}.$$\ncat >\"$input\"\nexec <\"$input\"\nrm \"$input\"\n\
             if [ -e '{}' ]; then echo 'made to fail' >&2; exit 1; fi\nPATH=${{PATH#*:}} exec {program} \"$@\"\n",
            path.display(),
            broken.display()
        );
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}
