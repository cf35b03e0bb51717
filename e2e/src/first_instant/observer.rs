//! Observers: pods that exist before the starting pods, and record what they receive.

use super::arrival::arrives;
use super::{Micros, PORT, PodEvents, ProbeDatagram, now};
use anyhow::{Context, Result, anyhow};
use bridgewarden::testbed::Netns;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What an observer recorded about a starting pod.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// How many of its datagrams arrived.
    pub datagrams: u32,
    /// The first that arrived, and when.
    pub first: Option<(ProbeDatagram, Micros)>,
    /// When the last arrived.
    pub last: Micros,
    /// The probes that were sent to it.
    pub probes: Vec<SentProbe>,
}

/// A datagram that an observer sent to a pod without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentProbe {
    /// When it was sent.
    pub sent: Micros,
    /// The destination: the pod's address in its node's last CNI result.
    pub to: IpAddr,
}

type Notes = Arc<Mutex<BTreeMap<String, Observed>>>;

/// A thread in a pod's network.
#[derive(Debug)]
pub struct Observer {
    address: IpAddr,
    notes: Notes,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Observer {
    /// Starts an observer in a pod's network, at the pod's address. `pace` is the pause between two probes of a pod.
    ///
    /// # Errors
    /// The network cannot be entered, or the port is in use.
    pub fn begin(
        name: &str,
        namespace: &Netns,
        address: IpAddr,
        pod_events: &PodEvents,
        pace: Duration,
    ) -> Result<Observer> {
        let open = |port| namespace.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
        let socket = open(PORT)?.with_context(|| format!("observer {name} cannot listen"))?;
        let probe_socket = open(0)?.with_context(|| format!("observer {name} cannot probe"))?;
        let (notes, over) = (Notes::default(), Arc::new(AtomicBool::new(false)));
        let rounds = Rounds {
            name: name.to_owned(),
            socket,
            probe_socket,
            pace,
            pod_events: pod_events.clone(),
            notes: Arc::clone(&notes),
            over: Arc::clone(&over),
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || rounds.go()).context("cannot start a thread")?;
        Ok(Observer { address, notes, over, thread: Some(thread) })
    }

    /// Its pod's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What it recorded about a starting pod.
    pub fn observed(&self, starting_pod: &str) -> Observed {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(starting_pod)
            .cloned()
            .unwrap_or_default()
    }

    /// Stops it.
    ///
    /// # Errors
    /// The reason why it ended early.
    pub fn end(mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(anyhow!("an observer has panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

struct Rounds {
    name: String,
    socket: UdpSocket,
    /// Probes come from another port, so that conntrack does not treat a starting pod's datagrams as answers to them.
    probe_socket: UdpSocket,
    pace: Duration,
    pod_events: PodEvents,
    notes: Notes,
    over: Arc<AtomicBool>,
}

impl Rounds {
    fn go(self) -> Result<()> {
        let mut number = 0;
        let mut next = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            for (starting_pod, address) in self.pod_events.addresses() {
                let probe = ProbeDatagram { from: self.name.clone(), number, sent: now() };
                // A send may return the ICMP error of an earlier datagram; this one was sent anyway.
                let _ = self.probe_socket.send_to(probe.write().as_bytes(), (address, PORT));
                let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
                notes
                    .entry(starting_pod)
                    .or_default()
                    .probes
                    .push(SentProbe { sent: probe.sent, to: address });
            }
            number += 1;
            next = (next + self.pace).max(Instant::now());
            self.listen(next)?;
        }
        Ok(())
    }

    /// Records and answers datagrams until this time.
    fn listen(&self, until: Instant) -> Result<()> {
        let mut bytes = [0; 256];
        while arrives(&self.socket, until)? {
            let Ok((length, from)) = self.socket.recv_from(&mut bytes) else { continue };
            let Some(datagram) = bytes.get(..length).and_then(ProbeDatagram::read) else { continue };
            let at = now();
            let _ = self.socket.send_to(datagram.write().as_bytes(), from);
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            let observed = notes.entry(datagram.from.clone()).or_default();
            observed.datagrams += 1;
            observed.last = at;
            if observed.first.as_ref().is_none_or(|(first, _)| datagram.number < first.number) {
                observed.first = Some((datagram, at));
            }
        }
        Ok(())
    }
}
