//! Probes, streams and listeners in namespaces of any origin.

use super::listeners::Listeners;
use super::probe::{self, ResolvedProbe};
use super::received::Received;
use super::stream::{self, Push, Stream};
use super::worker::Worker;
use super::{Endpoint, ProbeOutcome, ProbeTimeouts, TestbedError};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Sockets in network namespaces, all on one thread. Dropping it closes them.
#[derive(Debug)]
pub struct Prober {
    pub(super) worker: Worker,
    pub(super) listeners: BTreeMap<Endpoint, Listeners>,
    pub(super) received: Arc<Received>,
    timeouts: ProbeTimeouts,
}

impl Prober {
    /// Starts its thread.
    pub fn start() -> Result<Prober, TestbedError> {
        Ok(Prober {
            worker: Worker::start()?,
            listeners: BTreeMap::new(),
            received: Arc::new(Received::default()),
            timeouts: ProbeTimeouts::default(),
        })
    }

    /// Changes how long probes and streams wait for an answer.
    pub fn set_timeouts(&mut self, timeouts: ProbeTimeouts) {
        self.timeouts = timeouts;
    }

    /// Tries connections, many at a time. The outcomes are in the order of the probes; one that is an outcome already
    /// stays what it is.
    pub fn try_all(&self, probes: Vec<Result<ResolvedProbe, ProbeOutcome>>) -> Vec<ProbeOutcome> {
        self.worker.run(probe::run(probes, self.timeouts))
    }

    /// Opens a long-lived connection, over which one side sends a message every 5 ms.
    ///
    /// Over TCP the connection must be established; over UDP the first datagram may be lost unnoticed.
    pub fn stream(&self, from: &Endpoint, probe: ResolvedProbe, push: Push) -> Result<Stream, TestbedError> {
        let to = probe.to;
        self.worker
            .run(stream::open(probe, push, self.received.clone(), self.timeouts))
            .map_err(|outcome| stream::refused(from, to, &outcome))
    }

    /// How many datagrams the listeners of an endpoint have received from an address, probes included.
    pub fn received_from(&self, listener: &Endpoint, source: IpAddr) -> u64 {
        self.received.datagrams(listener, source)
    }
}
