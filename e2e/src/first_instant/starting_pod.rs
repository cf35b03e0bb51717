//! The only program of a starting pod's only container.

use super::arrival::arrives;
use super::{Micros, PORT, ProbeDatagram, now};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The pause between two datagrams to an observer.
const PACE: Duration = Duration::from_millis(2);

/// Its settings.
#[derive(Debug)]
pub struct StartingPod {
    /// Its pod's name.
    pub name: String,
    /// The addresses of its observers.
    pub observers: Vec<IpAddr>,
    /// When to end.
    pub lifetime: Duration,
    /// Whether to end as soon as every observer has answered.
    pub until_answered: bool,
    /// The directory in which to leave the report.
    pub reports: PathBuf,
}

/// What it recorded.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// When its first instruction ran.
    pub began: Micros,
    /// When it stopped.
    pub ended: Micros,
    /// When it sent each datagram; every observer was sent the same.
    pub sent: Vec<Micros>,
    /// Datagrams that were answered, the first one of each observer.
    pub answered: BTreeMap<IpAddr, ProbeDatagram>,
    /// The number of received datagrams that observers sent on their own.
    pub probes: u32,
}

impl StartingPod {
    /// Sends and listens until its lifetime is over, and writes a report.
    ///
    /// # Errors
    /// It cannot listen or write the report. A datagram that cannot be sent is no error.
    pub fn run(&self) -> Result<()> {
        let (began, start) = (now(), Instant::now());
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot listen")?;
        let mut report =
            Report { began, ended: began, sent: Vec::new(), answered: BTreeMap::new(), probes: 0 };
        for number in 0.. {
            if start.elapsed() >= self.lifetime {
                break;
            }
            let datagram = ProbeDatagram { from: self.name.clone(), number, sent: now() };
            for observer in &self.observers {
                // A send may return the ICMP error of an earlier datagram; this one was sent anyway.
                let _ = socket.send_to(datagram.write().as_bytes(), (*observer, PORT));
            }
            report.sent.push(datagram.sent);
            self.listen(&socket, start + PACE * (number + 1), &mut report)?;
            if self.until_answered && report.answered.len() == self.observers.len() {
                break;
            }
        }
        report.ended = now();
        leave(&self.reports, &self.name, &report)
    }

    fn listen(&self, socket: &UdpSocket, until: Instant, report: &mut Report) -> Result<()> {
        let mut bytes = [0; 256];
        while arrives(socket, until)? {
            let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
            match bytes.get(..length).and_then(ProbeDatagram::read) {
                Some(datagram) if datagram.from == self.name => self.note(datagram, from, report),
                Some(_) => report.probes += 1,
                None => {}
            }
        }
        Ok(())
    }

    fn note(&self, datagram: ProbeDatagram, from: SocketAddr, report: &mut Report) {
        let first = report.answered.entry(from.ip()).or_insert_with(|| datagram.clone());
        if datagram.number < first.number {
            *first = datagram;
        }
    }
}

/// Writes a report atomically: under its name only once it is complete.
pub(super) fn leave(directory: &Path, name: &str, report: &impl Serialize) -> Result<()> {
    let (begun, whole) = (directory.join(format!(".{name}")), directory.join(name));
    let text = serde_json::to_string(report).context("cannot write the report")?;
    fs::write(&begun, text).with_context(|| format!("cannot write {}", begun.display()))?;
    fs::rename(&begun, &whole).with_context(|| format!("cannot name {}", whole.display()))
}
