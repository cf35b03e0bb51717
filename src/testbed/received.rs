//! Counts of what was received, shared between the listening thread and the callers.

use super::Endpoint;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The messages that arrived over one stream.
#[derive(Debug, Default)]
pub(super) struct StreamCounter {
    state: Mutex<Progress>,
    moved: Condvar,
}

/// The progress of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Messages received.
    pub(super) received: u64,
    /// When the last one was.
    pub(super) last: Option<Instant>,
    /// Why it ended, if it did.
    pub(super) ended: Option<String>,
}

impl StreamCounter {
    /// How far it has come.
    pub(super) fn progress(&self) -> Progress {
        lock(&self.state).clone()
    }

    /// Counts messages.
    pub(super) fn count(&self, messages: u64) {
        let mut state = lock(&self.state);
        state.received += messages;
        state.last = Some(Instant::now());
        self.moved.notify_all();
    }

    /// Records why it ended; only the first reason is kept.
    pub(super) fn end(&self, reason: String) {
        lock(&self.state).ended.get_or_insert(reason);
        self.moved.notify_all();
    }

    /// Waits until a message arrives; returns `false` if none arrives within `patience`.
    pub(super) fn moves_within(&self, patience: Duration) -> bool {
        let state = lock(&self.state);
        let before = state.received;
        let waited = self.moved.wait_timeout_while(state, patience, |state| state.received == before);
        waited.unwrap_or_else(PoisonError::into_inner).0.received != before
    }

    /// Waits until no message has arrived for `quiet`; returns `false` if that does not happen within `patience`.
    pub(super) fn falls_silent(&self, quiet: Duration, patience: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < patience {
            if !self.moves_within(quiet) {
                return true;
            }
        }
        false
    }
}

/// Everything that listeners received.
#[derive(Debug, Default)]
pub(super) struct Received {
    streams: Mutex<BTreeMap<u64, Arc<StreamCounter>>>,
    sources: Mutex<BTreeMap<(Endpoint, IpAddr), u64>>,
}

impl Received {
    /// Creates a counter with a new number.
    pub(super) fn open(&self) -> (u64, Arc<StreamCounter>) {
        let mut streams = lock(&self.streams);
        let id = streams.last_key_value().map_or(0, |(last, _)| last + 1);
        let counter = Arc::new(StreamCounter::default());
        streams.insert(id, counter.clone());
        (id, counter)
    }

    /// The counter with a number.
    pub(super) fn stream(&self, id: u64) -> Option<Arc<StreamCounter>> {
        lock(&self.streams).get(&id).cloned()
    }

    /// Removes a counter.
    pub(super) fn close(&self, id: u64) {
        lock(&self.streams).remove(&id);
    }

    /// Notes a datagram that `listener` received from `source`.
    pub(super) fn count_datagram(&self, listener: &Endpoint, source: IpAddr) {
        *lock(&self.sources).entry((listener.clone(), source)).or_default() += 1;
    }

    /// How many datagrams `listener` received from `source`.
    pub(super) fn datagrams(&self, listener: &Endpoint, source: IpAddr) -> u64 {
        lock(&self.sources).get(&(listener.clone(), source)).copied().unwrap_or_default()
    }

    /// Removes the counts of a listener.
    pub(super) fn forget(&self, listener: &Endpoint) {
        lock(&self.sources).retain(|(other, _), _| other != listener);
    }
}

/// Locks; the counts are correct even if another thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
