//! kube-router on a node, for policies alone.

use crate::connection_pair::NODE;
use crate::process::RunningProgram;
use anyhow::{Context, Result};
use bridgewarden::testbed::Netns;
use serde_json::{Value, json};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use support::program::output;

/// The programs of iptables that it starts by these names.
const IPTABLES: [&str; 6] =
    ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];
/// Its arguments, with which it does nothing but policies. With IPv6, version 2.1.0 aborts each sync here, because its rules of IPv6 name a
/// set that it has not made.
const SWITCHES: [&str; 6] = [
    "--run-firewall=true",
    "--run-router=false",
    "--run-service-proxy=false",
    "--enable-ipv4=true",
    "--enable-ipv6=false",
    "--service-cluster-ip-range=10.96.0.0/16",
];
/// What its chains and sets are named.
const MARKS: [&str; 6] =
    ["KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-DEFAULT", "KUBE-SRC-", "KUBE-DST-", "kube-router"];

/// Its program, and how it is started.
#[derive(Clone, Debug)]
pub(crate) struct RouterProgram {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// The PATH on which `iptables` is the variant that it is to use.
    path: String,
    log: PathBuf,
}

impl RouterProgram {
    /// Puts the programs of a variant of iptables, `nft` or `legacy`, on its PATH. `directory` is its own.
    pub(crate) fn new(
        program: &Path,
        kubeconfig: &Path,
        variant: &str,
        directory: &Path,
    ) -> Result<RouterProgram> {
        let programs = directory.join("iptables");
        fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
        for name in IPTABLES {
            let (family, rest) = name
                .split_once('-')
                .map_or((name, String::new()), |(family, rest)| (family, format!("-{rest}")));
            let target = find(&format!("{family}-{variant}{rest}"))?;
            symlink(&target, programs.join(name)).with_context(|| format!("cannot link {name}"))?;
        }
        let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap_or_default());
        Ok(RouterProgram {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            path,
            log: directory.join("kube-router.log"),
        })
    }

    /// Starts it.
    pub(crate) fn start(&self, namespace: &Netns) -> Result<RunningProgram> {
        let mut words = vec![format!("PATH={}", self.path), self.program.display().to_string()];
        words.extend(SWITCHES.map(str::to_owned));
        words.push(format!("--kubeconfig={}", self.kubeconfig.display()));
        words.push(format!("--hostname-override={NODE}"));
        words.push("--v=1".to_owned());
        RunningProgram::start("kube-router", namespace, Path::new("env"), &words, self.log.clone())
    }
}

/// Its DaemonSet, by which `bridgewarden migrate` finds it in the cluster. There is no controller that would start its pods.
pub(crate) fn daemon_set() -> Value {
    let labels = json!({"k8s-app": "kube-router"});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"namespace": "kube-system", "name": "kube-router"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "kube-router", "image": "cloudnativelabs/kube-router", "args": SWITCHES}]},
            },
        },
    })
}

/// What it has in the kernel of a node: lines of rules and names of sets, in both variants.
pub(crate) fn left_in(namespace: &Netns) -> Result<Vec<String>> {
    let script = "for p in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do $p-save -t filter; done; \
                  ipset list -n; nft list tables";
    let text = output(namespace, &["sh", "-c", script])?;
    Ok(text.lines().filter(|line| MARKS.iter().any(|mark| line.contains(mark))).map(str::to_owned).collect())
}

/// The program of this name on PATH.
fn find(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found =
        env::split_paths(&path).map(|directory| directory.join(OsStr::new(name))).find(|file| file.exists());
    found.with_context(|| format!("{name} is not on PATH: run make setup, which installs iptables"))
}
