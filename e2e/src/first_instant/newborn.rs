//! The only program of a newborn's only container.

use super::arrival::arrives;
use super::{Letter, Micros, PORT, now};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two letters to a witness.
const PACE: Duration = Duration::from_millis(2);

/// What it is to do.
#[derive(Debug)]
pub struct Newborn {
    /// Its pod's name.
    pub name: String,
    /// Whom it writes to.
    pub witnesses: Vec<IpAddr>,
    /// When to end.
    pub lifetime: Duration,
    /// Whether to end as soon as every witness has answered.
    pub until_answered: bool,
    /// The directory in which to leave the report.
    pub reports: PathBuf,
}

/// What it saw.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// When its first instruction ran.
    pub began: Micros,
    /// When it stopped.
    pub ended: Micros,
    /// When it wrote each letter; every witness got the same.
    pub sent: Vec<Micros>,
    /// Letters that were answered, the first one of each witness.
    pub answered: BTreeMap<IpAddr, Letter>,
    /// Letters that others wrote and that reached it.
    pub knocks: u32,
}

impl Newborn {
    /// Writes and listens until its time is over, and leaves a report.
    ///
    /// # Errors
    /// When it cannot listen, or cannot leave the report. That a letter cannot be sent is no error.
    pub fn live(&self) -> Result<()> {
        let (began, start) = (now(), Instant::now());
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot listen")?;
        let mut report =
            Report { began, ended: began, sent: Vec::new(), answered: BTreeMap::new(), knocks: 0 };
        for number in 0.. {
            if start.elapsed() >= self.lifetime {
                break;
            }
            let letter = Letter { from: self.name.clone(), number, sent: now() };
            for witness in &self.witnesses {
                // A refusal of an earlier one may be told here; it was sent all the same.
                let _ = socket.send_to(letter.write().as_bytes(), (*witness, PORT));
            }
            report.sent.push(letter.sent);
            self.listen(&socket, start + PACE * (number + 1), &mut report)?;
            if self.until_answered && report.answered.len() == self.witnesses.len() {
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
            match bytes.get(..length).and_then(Letter::read) {
                Some(letter) if letter.from == self.name => self.note(letter, from, report),
                Some(_) => report.knocks += 1,
                None => {}
            }
        }
        Ok(())
    }

    fn note(&self, letter: Letter, from: SocketAddr, report: &mut Report) {
        let first = report.answered.entry(from.ip()).or_insert_with(|| letter.clone());
        if letter.number < first.number {
            *first = letter;
        }
    }
}

/// Under its name only when it is whole.
pub(super) fn leave(directory: &Path, name: &str, report: &impl Serialize) -> Result<()> {
    let (begun, whole) = (directory.join(format!(".{name}")), directory.join(name));
    let text = serde_json::to_string(report).context("cannot write the report")?;
    fs::write(&begun, text).with_context(|| format!("cannot write {}", begun.display()))?;
    fs::rename(&begun, &whole).with_context(|| format!("cannot name {}", whole.display()))
}
