//! Pods that were there before, and tell what they received.

use super::arrival::arrives;
use super::{Births, Letter, Micros, PORT, now};
use anyhow::{Context, Result, anyhow};
use bridgewarden::testbed::Namespace;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a witness knows of a newborn.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// How many of its letters arrived.
    pub letters: u32,
    /// The first that arrived, and when.
    pub first: Option<(Letter, Micros)>,
    /// When the last arrived.
    pub last: Micros,
    /// Each knock at it.
    pub knocks: Vec<Knock>,
}

/// A letter that a witness sent to a pod without having heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// When it was sent.
    pub sent: Micros,
    /// Where to: the pod's address, as its node's last CNI result told it.
    pub to: IpAddr,
}

type Notes = Arc<Mutex<BTreeMap<String, Heard>>>;

/// A thread in a pod's network.
#[derive(Debug)]
pub struct Witness {
    address: IpAddr,
    notes: Notes,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Witness {
    /// Begins in a pod's network, at its address. Between two knocks at a pod lies `pace`.
    ///
    /// # Errors
    /// When the network cannot be entered, or somebody listens there already.
    pub fn begin(
        name: &str,
        namespace: &Namespace,
        address: IpAddr,
        births: &Births,
        pace: Duration,
    ) -> Result<Witness> {
        let open = |port| namespace.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
        let socket = open(PORT)?.with_context(|| format!("witness {name} cannot listen"))?;
        let knocker = open(0)?.with_context(|| format!("witness {name} cannot knock"))?;
        let (notes, over) = (Notes::default(), Arc::new(AtomicBool::new(false)));
        let rounds = Rounds {
            name: name.to_owned(),
            socket,
            knocker,
            pace,
            births: births.clone(),
            notes: Arc::clone(&notes),
            over: Arc::clone(&over),
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || rounds.go()).context("cannot start a thread")?;
        Ok(Witness { address, notes, over, thread: Some(thread) })
    }

    /// Its pod's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What it knows of a newborn.
    pub fn heard(&self, newborn: &str) -> Heard {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).get(newborn).cloned().unwrap_or_default()
    }

    /// Ends.
    ///
    /// # Errors
    /// When it ended before, and why.
    pub fn end(mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(anyhow!("a witness has panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

struct Rounds {
    name: String,
    socket: UdpSocket,
    /// Knocks come from another port, so that to no connection tracker a newborn's letters are answers to them.
    knocker: UdpSocket,
    pace: Duration,
    births: Births,
    notes: Notes,
    over: Arc<AtomicBool>,
}

impl Rounds {
    fn go(self) -> Result<()> {
        let mut number = 0;
        let mut next = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            for (newborn, address) in self.births.alive() {
                let knock = Letter { from: self.name.clone(), number, sent: now() };
                // A refusal of an earlier one may be told here; it was sent all the same.
                let _ = self.knocker.send_to(knock.write().as_bytes(), (address, PORT));
                let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
                notes.entry(newborn).or_default().knocks.push(Knock { sent: knock.sent, to: address });
            }
            number += 1;
            next = (next + self.pace).max(Instant::now());
            self.listen(next)?;
        }
        Ok(())
    }

    /// Notes and answers what comes until then.
    fn listen(&self, until: Instant) -> Result<()> {
        let mut bytes = [0; 256];
        while arrives(&self.socket, until)? {
            let Ok((length, from)) = self.socket.recv_from(&mut bytes) else { continue };
            let Some(letter) = bytes.get(..length).and_then(Letter::read) else { continue };
            let at = now();
            let _ = self.socket.send_to(letter.write().as_bytes(), from);
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            let heard = notes.entry(letter.from.clone()).or_default();
            heard.letters += 1;
            heard.last = at;
            if heard.first.as_ref().is_none_or(|(first, _)| letter.number < first.number) {
                heard.first = Some((letter, at));
            }
        }
        Ok(())
    }
}
