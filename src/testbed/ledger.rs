//! What arrived: counts shared between the thread that serves and the threads that ask.

use super::Endpoint;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The messages that arrived over one stream.
#[derive(Debug, Default)]
pub(super) struct Flow {
    state: Mutex<Progress>,
    moved: Condvar,
}

/// How far a stream has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Messages received.
    pub(super) received: u64,
    /// When the last one was.
    pub(super) last: Option<Instant>,
    /// Why it ended, if it did.
    pub(super) ended: Option<String>,
}

impl Flow {
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

    /// Notes why it ended; the first reason stays.
    pub(super) fn end(&self, reason: String) {
        lock(&self.state).ended.get_or_insert(reason);
        self.moved.notify_all();
    }

    /// Waits until a message arrives; `false` when none did within `patience`.
    pub(super) fn moves_within(&self, patience: Duration) -> bool {
        let state = lock(&self.state);
        let before = state.received;
        let waited = self.moved.wait_timeout_while(state, patience, |state| state.received == before);
        waited.unwrap_or_else(PoisonError::into_inner).0.received != before
    }

    /// Waits until none has arrived for `quiet`; `false` when that did not happen within `patience`.
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

/// Everything that listeners saw.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    flows: Mutex<BTreeMap<u64, Arc<Flow>>>,
    sources: Mutex<BTreeMap<(Endpoint, IpAddr), u64>>,
}

impl Ledger {
    /// Opens a flow under a number of its own.
    pub(super) fn open(&self) -> (u64, Arc<Flow>) {
        let mut flows = lock(&self.flows);
        let id = flows.last_key_value().map_or(0, |(last, _)| last + 1);
        let flow = Arc::new(Flow::default());
        flows.insert(id, flow.clone());
        (id, flow)
    }

    /// The flow with a number.
    pub(super) fn flow(&self, id: u64) -> Option<Arc<Flow>> {
        lock(&self.flows).get(&id).cloned()
    }

    /// Forgets a flow.
    pub(super) fn close(&self, id: u64) {
        lock(&self.flows).remove(&id);
    }

    /// Notes a datagram that `listener` received from `source`.
    pub(super) fn saw(&self, listener: &Endpoint, source: IpAddr) {
        *lock(&self.sources).entry((listener.clone(), source)).or_default() += 1;
    }

    /// How many datagrams `listener` received from `source`.
    pub(super) fn seen(&self, listener: &Endpoint, source: IpAddr) -> u64 {
        lock(&self.sources).get(&(listener.clone(), source)).copied().unwrap_or_default()
    }

    /// Forgets what a listener saw.
    pub(super) fn forget(&self, listener: &Endpoint) {
        lock(&self.sources).retain(|(other, _), _| other != listener);
    }
}

/// Locks; a count is right even if some other thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
