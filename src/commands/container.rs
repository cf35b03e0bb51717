//! `bridgewarden container`: what the chart's other containers run, so that the image needs no shell.

use crate::kernel::preflight::{CALL_IP6TABLES, CALL_IPTABLES};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How long one try to connect may take.
const TRY: Duration = Duration::from_secs(2);

/// Does what the chart's other containers need.
#[derive(Debug, Args)]
pub(super) struct ContainerCommand {
    #[command(subcommand)]
    task: ContainerTask,
}

#[derive(Debug, Subcommand)]
enum ContainerTask {
    /// Waits until it is stopped.
    Pause,
    /// Writes 1 to the sysctls that make bridged packets pass iptables.
    SetSysctls {
        /// Where /proc/sys/net/bridge of the host is
        directory: PathBuf,
    },
    /// Accepts TCP connections and ends each.
    Listen {
        /// The port, on all addresses
        port: u16,
    },
    /// Checks whether a TCP connection is possible.
    Connect {
        /// What must be so
        #[command(subcommand)]
        wanted: WantedConnection,
    },
}

#[derive(Debug, Subcommand)]
enum WantedConnection {
    /// One of the tries connects.
    Open(ConnectionTarget),
    /// None of the tries connects.
    Denied(ConnectionTarget),
}

#[derive(Debug, Args)]
struct ConnectionTarget {
    /// The server's name or address
    host: String,
    /// Its port
    port: u16,
    /// How often to try, once a second
    #[arg(long, default_value_t = 3)]
    tries: u32,
}

impl ContainerCommand {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        match &self.task {
            ContainerTask::Pause => pause(),
            ContainerTask::SetSysctls { directory } => set_sysctls(directory),
            ContainerTask::Listen { port } => listen(*port),
            ContainerTask::Connect { wanted: WantedConnection::Open(server) } => server.expect(true, out),
            ContainerTask::Connect { wanted: WantedConnection::Denied(server) } => server.expect(false, out),
        }
    }
}

/// The signals are blocked before it waits, so none is lost. A process with the id 1 has no other reaction to them.
fn pause() -> Result<ExitCode> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().context("cannot block signals")?;
    signals.wait().context("cannot wait for a signal")?;
    Ok(ExitCode::SUCCESS)
}

fn set_sysctls(directory: &Path) -> Result<ExitCode> {
    for name in [CALL_IPTABLES, CALL_IP6TABLES] {
        let file = directory.join(name.rsplit('.').next().unwrap_or(name));
        std::fs::write(&file, "1\n").with_context(|| {
            format!("cannot set {}: is br_netfilter loaded (modprobe br_netfilter)?", file.display())
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn listen(port: u16) -> Result<ExitCode> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .with_context(|| format!("cannot listen on port {port}"))?;
    loop {
        match listener.accept() {
            Ok(connection) => drop(connection),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => bail!("cannot accept connections on port {port}: {error}"),
        }
    }
}

impl ConnectionTarget {
    fn expect(&self, open: bool, out: &mut impl Write) -> Result<ExitCode> {
        let ConnectionTarget { host, port, tries } = self;
        let server = format!("port {port} of {host}");
        let addresses =
            (host.as_str(), *port).to_socket_addrs().with_context(|| format!("cannot resolve {host}"))?;
        let addresses: Vec<_> = addresses.collect();
        for attempt in 0..*tries {
            if attempt > 0 {
                std::thread::sleep(Duration::from_secs(1));
            }
            if addresses.iter().any(|address| TcpStream::connect_timeout(address, TRY).is_ok()) {
                return if open {
                    writeln!(out, "{server} answers, as it must")?;
                    Ok(ExitCode::SUCCESS)
                } else {
                    let text =
                        "although the NetworkPolicy does not allow this pod. Is the agent on its node ready?";
                    writeln!(out, "{server} answers, {text}")?;
                    Ok(ExitCode::FAILURE)
                };
            }
        }
        if open {
            let text = "a pod that the NetworkPolicy allows. Do pods reach each other at all?";
            writeln!(out, "{server} does not answer {text}")?;
            return Ok(ExitCode::FAILURE);
        }
        writeln!(out, "{server} answered none of {tries} tries, as it must")?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connects(port: u16, open: bool) -> (bool, String) {
        let mut out = Vec::new();
        let server = ConnectionTarget { host: "127.0.0.1".to_owned(), port, tries: 1 };
        let code = server.expect(open, &mut out).expect("the address is known");
        (code == ExitCode::SUCCESS, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn connection_is_checked_both_ways() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it has one").port();
        assert!(connects(port, true).0);
        let (passed, text) = connects(port, false);
        assert!(!passed && text.contains("although"), "{text}");
        drop(listener);
        assert!(connects(port, false).0);
        let (passed, text) = connects(port, true);
        assert!(!passed && text.contains("does not answer"), "{text}");
    }

    #[test]
    fn sysctls_are_written_and_a_missing_one_is_named() {
        let directory = std::env::temp_dir().join(format!("bridgewarden-sysctls-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        set_sysctls(&directory).expect("they are written");
        for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            assert_eq!(std::fs::read_to_string(directory.join(name)).expect("it is there"), "1\n");
        }
        std::fs::remove_dir_all(&directory).expect("it was ours");
        let error = set_sysctls(&directory).expect_err("there is no directory");
        assert!(error.to_string().contains("bridge-nf-call-iptables: is br_netfilter loaded"), "{error}");
    }
}
