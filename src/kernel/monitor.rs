//! Reports changes of nf_tables by other programs that affect our rules, so that they are repaired before the next
//! audit.
//!
//! Only nf_tables sends notifications (NFNLGRP_NFTABLES); x_tables and ipset do not.

use super::iptables::TABLE;
use super::netlink::{MessageFrame, Multicast, attributes, behind_generic, family_number, find, text, wait};
use crate::apply::KernelError;
use crate::net::Family;
use crate::ownership::{BRIDGE_TABLE, INET_TABLE, RESERVED_TABLE, owns_chain};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// NFNLGRP_NFTABLES.
const GROUP: u32 = 7;
/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u8 = 10;
/// NFT_MSG_*. A new chain removes nothing, so its message is not in this list.
const DELETE_CHAIN: u8 = 5;
const NEW_RULE: u8 = 6;
const DELETE_RULE: u8 = 8;
const DESTROY_CHAIN: u8 = 27;
const DESTROY_RULE: u8 = 28;
/// NFT_MSG_NEWGEN and NFT_MSG_TRACE, which are not about an object of a table.
const GENERATION: u8 = 15;
const TRACE: u8 = 17;
/// NFPROTO_INET and NFPROTO_BRIDGE.
const INET: u8 = 1;
const BRIDGE: u8 = 7;
/// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE and NFTA_OBJ_TABLE;
/// NFTA_CHAIN_NAME; NFTA_RULE_CHAIN.
const OF_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_CHAIN: u16 = 2;

/// The chains that may hold hooks.
const BUILT_IN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// Receives the kernel's notifications, and knows which changes this process made.
///
/// The kernel states the netlink port of a change's sender, and gives a program's first netlink socket the program's
/// process id as its port. If another socket has that port already, our program gets a different one, and its change is
/// reported once as another program's.
pub(super) struct Monitor(Arc<MonitorInner>);

struct MonitorInner {
    multicast: Multicast,
    /// One thread at a time receives; it knows our ports.
    listening: Mutex<Listening>,
    report: Box<dyn Fn(Result<(), KernelError>) + Send + Sync>,
}

struct Listening {
    buffer: Vec<u8>,
    /// The port of the program that we are running.
    own: Option<u32>,
}

/// While this exists, changes by one of our programs are not reported.
pub(super) struct OwnChanges<'a>(&'a MonitorInner);

impl Monitor {
    /// Starts a thread for the life of the process, which calls `report` when another program has changed, or may have
    /// changed, one of our chains or a built-in chain of the filter table. An error is reported last.
    ///
    /// `socket` is the port of the socket by which this process changes tables itself. Its changes wake no thread.
    pub(super) fn begin(
        socket: u32,
        report: impl Fn(Result<(), KernelError>) + Send + Sync + 'static,
    ) -> Result<Monitor, KernelError> {
        let multicast = Multicast::join(GROUP, socket).map_err(failed)?;
        let listening = Mutex::new(Listening { buffer: Multicast::buffer(), own: None });
        let inner = Arc::new(MonitorInner { multicast, listening, report: Box::new(report) });
        let on_thread = inner.clone();
        std::thread::Builder::new()
            .name("nft-monitor".to_owned())
            .spawn(move || {
                let source = on_thread.listen_on();
                (on_thread.report)(Err(failed(source)));
            })
            .map_err(failed)?;
        Ok(Monitor(inner))
    }

    /// Treats changes by this process as our own until the guard is dropped. Must be called before the process can have
    /// changed anything, and dropped after it has ended.
    pub(super) fn own_changes_of(&self, process: u32) -> OwnChanges<'_> {
        self.0.lock().own = Some(process);
        OwnChanges(&self.0)
    }
}

impl Drop for OwnChanges<'_> {
    /// Receives the notifications of its changes first: its process id may soon be that of another process.
    fn drop(&mut self) {
        let mut listening = self.0.lock();
        // An error is also seen by the thread.
        self.0.receive(&mut listening).ok();
        listening.own = None;
    }
}

impl MonitorInner {
    fn lock(&self) -> MutexGuard<'_, Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives until an error; returns it.
    fn listen_on(&self) -> io::Error {
        loop {
            if let Err(error) = wait(&self.multicast).and_then(|()| self.receive(&mut self.lock())) {
                return error;
            }
        }
    }

    fn receive(&self, listening: &mut Listening) -> io::Result<()> {
        let Listening { buffer, own } = listening;
        let mut strange = false;
        let lost = self.multicast.drain(buffer, |frame| {
            strange = strange || (Some(frame.port) != *own && matters(frame));
        })?;
        if strange || lost {
            (self.report)(Ok(()));
        }
        Ok(())
    }
}

/// Whether a change can affect our rules: one of our rules or chains in iptables, a chain with a hook, or one of our
/// tables.
fn matters(frame: &MessageFrame<'_>) -> bool {
    let [subsystem, command] = frame.kind.to_be_bytes();
    let own_tables: &[&str] = match frame.payload.first() {
        Some(&INET) => &[INET_TABLE, RESERVED_TABLE],
        Some(&BRIDGE) => &[BRIDGE_TABLE],
        Some(_) | None => &[],
    };
    if subsystem == SUBSYSTEM && !own_tables.is_empty() {
        let table = find(behind_generic(frame.payload), OF_TABLE).and_then(text);
        let is_own = table.is_some_and(|table| own_tables.contains(&table));
        return is_own && !matches!(command, GENERATION | TRACE);
    }
    let name = match command {
        NEW_RULE | DELETE_RULE | DESTROY_RULE => RULE_CHAIN,
        DELETE_CHAIN | DESTROY_CHAIN => CHAIN_NAME,
        _ => return false,
    };
    let is_iptables =
        || Family::BOTH.iter().any(|family| frame.payload.first() == Some(&family_number(*family)));
    if subsystem != SUBSYSTEM || !is_iptables() {
        return false;
    }
    let (mut table, mut chain) = (None, None);
    for attribute in attributes(behind_generic(frame.payload)) {
        match attribute.kind {
            OF_TABLE => table = text(attribute.payload),
            kind if kind == name => chain = text(attribute.payload),
            _ => {}
        }
        if table.is_some_and(|table| table != TABLE) {
            return false;
        }
        if table.is_some()
            && let Some(chain) = chain
        {
            return owns_chain(chain) || BUILT_IN.contains(&chain);
        }
    }
    false
}

fn failed(source: io::Error) -> KernelError {
    KernelError::Netlink { act: "receive changes of nf_tables", source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::{Datagram, Message, frames};

    fn matters_to_us(subsystem: u8, command: u8, family: u8, table: &str, name: (u16, &str)) -> bool {
        let mut message = Message::new(subsystem, command, 0, family);
        message.put_text(OF_TABLE, table);
        message.put(20, b"more");
        message.put_text(name.0, name.1);
        let bytes = Datagram::from(message).number(7).to_vec();
        matters(&frames(&bytes).next().expect("one frame"))
    }

    #[test]
    fn only_what_can_take_from_us_matters() {
        let rule = |command, table, chain| matters_to_us(SUBSYSTEM, command, 2, table, (RULE_CHAIN, chain));
        for chain in ["KUBE-NWPLCY-INGRESS", "KUBE-POD-SPECIFIC-FW-0AAAAAA", "FORWARD", "OUTPUT", "INPUT"] {
            for command in [NEW_RULE, DELETE_RULE, DESTROY_RULE] {
                assert!(rule(command, "filter", chain), "{chain}");
                assert!(!rule(command, "nat", chain), "{chain} of nat");
            }
            for command in [DELETE_CHAIN, DESTROY_CHAIN] {
                assert!(matters_to_us(SUBSYSTEM, command, 10, "filter", (CHAIN_NAME, chain)), "{chain}");
            }
        }
        for chain in
            ["KUBE-SERVICES", "FLANNEL-FWD", "DOCKER-USER", "KUBE-NWPLCY-DEFAULT", "BRIDGEWARDEN-PREFLIGHT"]
        {
            assert!(!rule(NEW_RULE, "filter", chain), "{chain}");
        }
        let chain = (RULE_CHAIN, "FORWARD");
        assert!(!matters_to_us(SUBSYSTEM, NEW_RULE, 1, "filter", chain), "inet");
        assert!(!matters_to_us(SUBSYSTEM, 3, 2, "filter", (CHAIN_NAME, "FORWARD")), "a chain that comes");
        assert!(!matters_to_us(SUBSYSTEM, 15, 2, "filter", chain), "a generation");
        assert!(!matters_to_us(1, NEW_RULE, 2, "filter", chain), "conntrack");
    }

    #[test]
    fn whatever_changes_in_our_own_tables_matters_and_no_other_table_of_their_families() {
        for (family, own) in [(INET, INET_TABLE), (INET, RESERVED_TABLE), (BRIDGE, BRIDGE_TABLE)] {
            let changed =
                |command, table| matters_to_us(SUBSYSTEM, command, family, table, (RULE_CHAIN, "prerouting"));
            for command in [2, 3, 5, NEW_RULE, DELETE_RULE, 11, 12, 14, 20, 26, DESTROY_RULE, 30] {
                assert!(changed(command, own), "{command}");
                assert!(!changed(command, "filter"), "{command} of another table");
            }
            assert!(!changed(GENERATION, own) && !changed(TRACE, own));
        }
    }

    #[test]
    fn message_that_is_cut_short_says_nothing() {
        let mut message = Message::new(SUBSYSTEM, NEW_RULE, 0, 2);
        message.put_text(OF_TABLE, "filter");
        let bytes = Datagram::from(message).number(7).to_vec();
        assert!(!matters(&frames(&bytes).next().expect("one frame")));
    }
}
