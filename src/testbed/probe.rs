//! Probes: does a connection over a real socket succeed, and which endpoint answers?

use super::listen::{stream_socket, word};
use super::{Endpoint, Netns};
use crate::net::Protocol;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection to try.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The sender.
    pub from: Endpoint,
    /// The address to connect from, if the kernel is not to choose one of the sender's.
    pub source: Option<IpAddr>,
    /// The destination address.
    pub to: IpAddr,
    /// The protocol; SCTP only if [`has_sctp`](super::has_sctp).
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
}

impl Probe {
    /// A probe from a source address that the kernel chooses.
    pub fn new(from: Endpoint, to: IpAddr, protocol: Protocol, port: u16) -> Probe {
        Probe { from, source: None, to, protocol, port }
    }

    /// The same probe from one of the sender's addresses.
    pub fn from_address(self, source: IpAddr) -> Probe {
        Probe { source: Some(source), ..self }
    }
}

/// The outcome of a probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeOutcome {
    /// The owner of the address answered; for an address outside the testbed, any endpoint did.
    Open,
    /// The connection was refused or reset, by a packet filter or because no socket listens.
    Refused,
    /// Nothing came back.
    Timeout,
    /// Another endpoint than the owner of the address answered.
    AnsweredBy(String),
    /// Something else went wrong, in the system's words.
    Failed(String),
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeOutcome::Open => f.write_str("open"),
            ProbeOutcome::Refused => f.write_str("refused"),
            ProbeOutcome::Timeout => f.write_str("timed out"),
            ProbeOutcome::AnsweredBy(who) => write!(f, "answered by {who}"),
            ProbeOutcome::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// Timeouts, and the number of concurrent probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTimeouts {
    /// How long a TCP or SCTP probe may take. Over SCTP, a denial is a timeout, because the kernel acts on no ICMP port
    /// unreachable, and a lost first packet is sent again after three seconds. Over TCP, from a little over one second on, a lost first packet is sent again, and a
    /// connect over IPv6 that is denied by ICMP only is seen as refused, because the kernel does not give up earlier.
    pub tcp: Duration,
    /// How long a UDP probe may take. A lost datagram is sent again after half of it.
    pub udp: Duration,
    /// How many probes may wait at a time; each needs up to two file descriptors.
    pub at_once: usize,
}

impl Default for ProbeTimeouts {
    /// One second, and as many at a time as fit the usual 1024 descriptors.
    fn default() -> ProbeTimeouts {
        ProbeTimeouts { tcp: Duration::from_secs(1), udp: Duration::from_secs(1), at_once: 192 }
    }
}

/// A probe with everything resolved that it needs.
#[derive(Clone, Debug)]
pub struct ResolvedProbe {
    /// The namespace in which it starts.
    pub namespace: Netns,
    /// The source address, if the kernel is not to choose one.
    pub source: Option<IpAddr>,
    /// The destination.
    pub to: SocketAddr,
    /// The protocol; SCTP only if [`has_sctp`](super::has_sctp).
    pub protocol: Protocol,
    /// The endpoints that may answer; any if empty.
    pub owners: BTreeSet<Endpoint>,
}

/// Runs probes, many at a time; the outcomes are in their order. Must run on the testbed's thread.
pub(super) async fn run(
    probes: Vec<Result<ResolvedProbe, ProbeOutcome>>,
    timeouts: ProbeTimeouts,
) -> Vec<ProbeOutcome> {
    let mut outcomes = vec![ProbeOutcome::Timeout; probes.len()];
    let mut running = futures::stream::iter(probes.into_iter().enumerate())
        .map(async |(place, probe)| match probe {
            Ok(probe) => (place, probe.run(timeouts).await),
            Err(outcome) => (place, outcome),
        })
        .buffer_unordered(timeouts.at_once.max(1));
    while let Some((place, outcome)) = running.next().await {
        outcomes[place] = outcome;
    }
    outcomes
}

impl ResolvedProbe {
    async fn run(self, timeouts: ProbeTimeouts) -> ProbeOutcome {
        let asked = match self.protocol {
            Protocol::Tcp | Protocol::Sctp => timeout(timeouts.tcp, self.ask_stream()).await,
            Protocol::Udp => timeout(timeouts.udp, self.ask_udp(timeouts.udp / 2)).await,
        };
        match asked {
            Ok(Ok(name)) => self.judge(&name),
            Ok(Err(error)) => outcome(&error),
            Err(_) => ProbeOutcome::Timeout,
        }
    }

    fn judge(&self, answer: &[u8]) -> ProbeOutcome {
        let name = String::from_utf8_lossy(answer.strip_suffix(&[word::END]).unwrap_or(answer));
        if self.owners.is_empty() || self.owners.iter().any(|owner| owner.to_string() == name) {
            ProbeOutcome::Open
        } else {
            ProbeOutcome::AnsweredBy(name.into_owned())
        }
    }

    async fn ask_stream(&self) -> io::Result<Vec<u8>> {
        let mut stream = self.connect().await?;
        // A reset leaves neither side in TIME_WAIT, so that ports do not run out.
        stream.set_zero_linger()?;
        stream.write_u8(word::WHO).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(&[word::END]) {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::Error::other("the other end closed without saying who it is"));
            }
        }
        Ok(answer)
    }

    async fn ask_udp(&self, retry: Duration) -> io::Result<Vec<u8>> {
        let socket = self.udp()?;
        let mut answer = vec![0; 512];
        loop {
            socket.send(&[word::WHO]).await?;
            if let Ok(received) = timeout(retry, socket.recv(&mut answer)).await {
                answer.truncate(received?);
                return Ok(answer);
            }
        }
    }

    /// Connects over TCP or SCTP.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        self.namespace.hop().map_err(io::Error::other)?;
        let socket = stream_socket(self.protocol, self.to)?;
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.connect(self.to).await
    }

    /// A UDP socket that is connected to the destination.
    pub(super) fn udp(&self) -> io::Result<tokio::net::UdpSocket> {
        self.namespace.hop().map_err(io::Error::other)?;
        let any = match self.to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = std::net::UdpSocket::bind(SocketAddr::new(self.source.unwrap_or(any), 0))?;
        socket.connect(self.to)?;
        socket.set_nonblocking(true)?;
        tokio::net::UdpSocket::from_std(socket)
    }
}

/// The outcome that an error stands for.
pub(super) fn outcome(error: &io::Error) -> ProbeOutcome {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut};
    let kind = error.kind();
    if [ConnectionRefused, ConnectionReset].contains(&kind) {
        ProbeOutcome::Refused
    } else if kind == TimedOut {
        ProbeOutcome::Timeout
    } else {
        ProbeOutcome::Failed(error.to_string())
    }
}
