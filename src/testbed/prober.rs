//! Who tries connections, in namespaces of any origin: listeners that say who they are, probes, and streams.

use super::ledger::Ledger;
use super::post::Post;
use super::probe::{self, Errand};
use super::stream::{self, Push, Stream};
use super::worker::Worker;
use super::{Endpoint, Outcome, Patience, TestbedError};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Sockets in network namespaces, all on one thread. Dropping it closes them.
#[derive(Debug)]
pub struct Prober {
    pub(super) worker: Worker,
    pub(super) posts: BTreeMap<Endpoint, Post>,
    pub(super) ledger: Arc<Ledger>,
    patience: Patience,
}

impl Prober {
    /// Starts its thread.
    pub fn start() -> Result<Prober, TestbedError> {
        Ok(Prober {
            worker: Worker::start()?,
            posts: BTreeMap::new(),
            ledger: Arc::new(Ledger::default()),
            patience: Patience::default(),
        })
    }

    /// Changes how long probes and streams wait for an answer.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Tries connections, many at a time. The outcomes are in the order of the errands; one that is an outcome already
    /// stays what it is.
    pub fn try_all(&self, errands: Vec<Result<Errand, Outcome>>) -> Vec<Outcome> {
        self.worker.run(probe::run(errands, self.patience))
    }

    /// Opens a long-lived connection, over which one side sends a message every 5 ms.
    ///
    /// Over TCP the connection must come about; over UDP nothing tells whether the first datagram arrived.
    pub fn stream(&self, from: &Endpoint, errand: Errand, push: Push) -> Result<Stream, TestbedError> {
        let to = errand.to;
        self.worker
            .run(stream::open(errand, push, self.ledger.clone(), self.patience))
            .map_err(|outcome| stream::refused(from, to, &outcome))
    }

    /// How many datagrams the listeners of an endpoint have received from an address, probes included.
    pub fn received_from(&self, listener: &Endpoint, source: IpAddr) -> u64 {
        self.ledger.seen(listener, source)
    }
}
