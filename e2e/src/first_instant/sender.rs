//! The only program of a pod that runs until its node reboots, and starts again after that.

use super::arrival::arrives;
use super::starting_pod::leave;
use super::{Micros, PORT, ProbeDatagram, now};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The interval at which the report is written.
const REPORTED_EVERY: Duration = Duration::from_secs(1);

/// Its settings.
#[derive(Debug)]
pub struct Sender {
    /// Its pod's name.
    pub name: String,
    /// Its pod's address.
    pub address: IpAddr,
    /// The address of its observer.
    pub observer: IpAddr,
    /// The pause between two datagrams.
    pub pace: Duration,
    /// The directory in which to keep the report.
    pub reports: PathBuf,
}

/// What it has recorded since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderRun {
    /// Its pod's name.
    pub name: String,
    /// Its pod's address.
    pub address: IpAddr,
    /// When its first instruction ran.
    pub began: Micros,
    /// The end of the time that this report covers.
    pub until: Micros,
    /// How many datagrams it has sent.
    pub sent: u32,
    /// How many datagrams its pod's network received and rejected before it listened.
    pub early: u64,
    /// How many datagrams of others it received.
    pub probes: u32,
    /// When it received the first of them.
    pub first_probe: Option<Micros>,
    /// When it received the first answer to one of its datagrams.
    pub first_answer: Option<Micros>,
}

impl Sender {
    /// Sends, listens and reports until it is killed.
    ///
    /// # Errors
    /// It cannot listen or write the report. A datagram that cannot be sent is no error.
    pub fn run(&self) -> Result<()> {
        let (began, start) = (now(), Instant::now());
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))
            .with_context(|| format!("cannot listen at UDP port {PORT}"))?;
        let mut run = SenderRun {
            name: self.name.clone(),
            address: self.address,
            began,
            until: began,
            sent: 0,
            early: refused_datagrams()?,
            probes: 0,
            first_probe: None,
            first_answer: None,
        };
        let file = format!("{}.{began}", self.name);
        let mut reported = start;
        for number in 0.. {
            let datagram = ProbeDatagram { from: self.name.clone(), number, sent: now() };
            // A send may return the ICMP error of an earlier datagram; this one was sent anyway.
            let _ = socket.send_to(datagram.write().as_bytes(), (self.observer, PORT));
            run.sent += 1;
            self.listen(&socket, start + self.pace * (number + 1), &mut run)?;
            if reported.elapsed() >= REPORTED_EVERY {
                run.until = now();
                leave(&self.reports, &file, &run)?;
                reported = Instant::now();
            }
        }
        Ok(())
    }

    fn listen(&self, socket: &UdpSocket, until: Instant, run: &mut SenderRun) -> Result<()> {
        let mut bytes = [0; 256];
        while arrives(socket, until)? {
            let Ok((length, _)) = socket.recv_from(&mut bytes) else { continue };
            match bytes.get(..length).and_then(ProbeDatagram::read) {
                Some(datagram) if datagram.from == self.name => {
                    run.first_answer.get_or_insert_with(now);
                }
                Some(_) => {
                    run.probes += 1;
                    run.first_probe.get_or_insert_with(now);
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// How many datagrams this network received for ports without a listener (`NoPorts` of `Udp`, RFC 4113).
fn refused_datagrams() -> Result<u64> {
    const FILE: &str = "/proc/net/snmp";
    let text = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    parse_refused(&text).with_context(|| format!("{FILE} has no NoPorts of Udp"))
}

fn parse_refused(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let place = lines.next()?.split(' ').position(|name| name == "NoPorts")?;
    lines.next()?.split(' ').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_datagrams_are_read_by_their_name() {
        let text = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts InErrors\nUdp: 17 4 2\nUdpLite: NoPorts\nUdpLite: 9\n";
        assert_eq!(parse_refused(text), Some(4));
        assert_eq!(parse_refused("Udp: InDatagrams\nUdp: 17\n"), None);
        assert!(refused_datagrams().is_ok());
    }
}
