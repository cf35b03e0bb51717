//! Removes what a killed demo left behind: agents that still run, namespaces, and files. An id is used by one demo at a
//! time.

use super::dir::DemoDir;
use crate::testbed::Testbed;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a leftover agent may take to end.
const END_WITHIN: Duration = Duration::from_secs(3);

/// The exclusive use of an id, which ends with this process at the latest.
#[derive(Debug)]
pub(super) struct IdLock {
    _socket: UnixListener,
}

impl IdLock {
    /// Takes an id, unless another demo uses it.
    pub(super) fn take(id: &str) -> Result<IdLock> {
        // A name in the abstract namespace leaves no file.
        let name = SocketAddr::from_abstract_name(format!("bridgewarden-demo-{id}"))?;
        match UnixListener::bind_addr(&name) {
            Ok(socket) => Ok(IdLock { _socket: socket }),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                bail!("another demo runs as `{id}`: stop it, or take another name with --id")
            }
            Err(error) => Err(error).with_context(|| format!("cannot take the id `{id}`")),
        }
    }
}

/// Ends and removes what an earlier demo of this id left, and counts the namespaces.
pub(super) fn cleanup_stale(id: &str) -> Result<usize> {
    let namespaces = node_namespaces(id);
    let left: Vec<Pid> = agents_in(&namespaces);
    for pid in &left {
        kill(*pid, Signal::SIGTERM).ok();
    }
    let deadline = Instant::now() + END_WITHIN;
    while !namespaces.is_empty() && Instant::now() < deadline {
        if agents_in(&namespaces).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    DemoDir::cleanup_stale(id);
    Ok(Testbed::sweep(id)?.len())
}

/// The device and inode numbers of the namespaces of an earlier demo's nodes.
fn node_namespaces(id: &str) -> BTreeSet<(u64, u64)> {
    let prefix = format!("bw-{id}-node-");
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    ours.filter_map(|entry| identity(&entry.path())).collect()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The agents in these namespaces; other programs there belong to the user.
fn agents_in(namespaces: &BTreeSet<(u64, u64)>) -> Vec<Pid> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        Some((pid, entry.path()))
    });
    let ours = numbered.filter(|(_, process)| {
        identity(&process.join("ns/net")).is_some_and(|namespace| namespaces.contains(&namespace))
            && fs::read(process.join("cmdline")).is_ok_and(|line| is_agent(&line))
    });
    ours.map(|(pid, _)| Pid::from_raw(pid)).collect()
}

/// Whether a command line from /proc is that of an agent.
fn is_agent(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().and_then(|path| path.rsplit(|byte| *byte == b'/').next());
    program == Some(b"bridgewarden") && words.next() == Some(b"run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_one_demos_at_a_time() {
        let id = format!("t{}", std::process::id());
        let claim = IdLock::take(&id).unwrap();
        let error = IdLock::take(&id).unwrap_err().to_string();
        assert!(error.contains("--id"), "{error}");
        drop(claim);
        IdLock::take(&id).unwrap();
    }

    #[test]
    fn other_processes_are_not_taken_for_agents() {
        assert!(is_agent(b"/usr/bin/bridgewarden\0run\0--manifests\0x\0"));
        assert!(!is_agent(b"/usr/bin/bridgewarden\0demo\0"));
        assert!(!is_agent(b"bash\0run\0"));
        assert!(!is_agent(b""));
    }
}
