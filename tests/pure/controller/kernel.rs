//! A kernel in memory that a test can inspect and change while the controller uses it.

use bridgewarden::apply::{
    Connection, Conntrack, Fake, KernelError, PacketFilter, Step, TableRead, TableText, Tally,
};
use bridgewarden::net::Family;
use bridgewarden::netfilter::ipset::Set;
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::netfilter::nftables::TableFamily;
use bridgewarden::netfilter::{BackendName, SetName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A kernel that a test can inspect and change while the controller uses it.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) fake: Fake,
    /// Rejects every step.
    pub(crate) rejects_steps: bool,
    /// Keeps callers that change rules waiting.
    pub(crate) is_slow: bool,
    /// Keeps callers that read rules waiting.
    pub(crate) is_slow_to_read: bool,
    /// Has no program for the other variant of iptables.
    pub(crate) lacks_other_variant: bool,
    /// How many more lists of connections, and then how many more cuts, are rejected.
    pub(crate) hides_connections: usize,
    pub(crate) rejects_cuts: usize,
    pub(crate) live: Vec<Connection>,
    pub(crate) marked: Vec<Connection>,
    pub(crate) unmarked: Vec<Connection>,
    /// Connections that this address opened are never cut.
    pub(crate) uncuttable: Option<IpAddr>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the lock")
    }
}

impl State {
    fn cut(&mut self, connection: &Connection) -> Result<(), KernelError> {
        if let Some(left) = self.rejects_cuts.checked_sub(1) {
            self.rejects_cuts = left;
            return Err(rejected());
        }
        if self.uncuttable == Some(connection.source) { Err(rejected()) } else { Ok(()) }
    }
}

/// Whether both are one connection, whatever their marks are.
fn is_same(one: &Connection, other: &Connection) -> bool {
    *one == Connection { mark: one.mark, ..other.clone() }
}

pub(crate) fn rejected() -> KernelError {
    KernelError::Netlink { act: "do anything", source: std::io::Error::other("meant to fail") }
}

impl PacketFilter for Shared {
    fn backend(&self) -> BackendName {
        BackendName::IptablesNft
    }

    fn read_table(&mut self, variant: Variant, family: Family) -> Result<TableText, KernelError> {
        while self.state().is_slow_to_read {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut state = self.state();
        if variant == Variant::Legacy && state.lacks_other_variant {
            return Err(rejected());
        }
        state.fake.read_table(variant, family)
    }

    fn read_sets(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, KernelError> {
        self.state().fake.read_sets(prefix)
    }

    fn read_nft_table(&mut self, family: TableFamily, name: &str) -> Result<TableRead, KernelError> {
        self.state().fake.read_nft_table(family, name)
    }

    fn commit(&mut self, step: &Step) -> Result<(), KernelError> {
        while matches!(step, Step::Restore(..)) && self.state().is_slow {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut state = self.state();
        if state.rejects_steps { Err(rejected()) } else { state.fake.commit(step) }
    }

    fn tally(&self) -> Tally {
        self.state().fake.tally()
    }
}

impl Conntrack for Shared {
    fn connections_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, KernelError> {
        let mut state = self.state();
        if let Some(left) = state.hides_connections.checked_sub(1) {
            state.hides_connections = left;
            return Err(rejected());
        }
        let own = state.live.iter().filter(|connection| {
            addresses.contains(&connection.source) || addresses.contains(&connection.destination)
        });
        Ok(own.cloned().collect())
    }

    fn delete(&mut self, connection: &Connection) -> Result<(), KernelError> {
        let mut state = self.state();
        state.cut(connection)?;
        state.live.retain(|live| !is_same(live, connection));
        Ok(())
    }

    fn set_mark(&mut self, connection: &Connection, mark: u32) -> Result<(), KernelError> {
        let mut state = self.state();
        state.cut(connection)?;
        state.marked.push(connection.clone());
        for live in state.live.iter_mut().filter(|live| is_same(live, connection)) {
            live.mark |= mark;
        }
        Ok(())
    }

    fn clear_mark(&mut self, connection: &Connection, mark: u32) -> Result<(), KernelError> {
        let mut state = self.state();
        state.unmarked.push(connection.clone());
        for live in state.live.iter_mut().filter(|live| is_same(live, connection)) {
            live.mark &= !mark;
        }
        Ok(())
    }
}
