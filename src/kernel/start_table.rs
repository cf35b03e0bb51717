//! The table that denies all traffic of pods from the agent's first milliseconds on, if the kernel has no rules of it.
//!
//! After a reboot, pods may start at the same time as the agent. To read the kernel and to write rules takes a tenth of a second and
//! more on a busy node; this table is one transaction. Its socket owns it, so it cannot outlive the agent.

use super::ipset::Ipset;
use super::nftables::Nftables;
use super::table_list;
use crate::apply::{KernelError, OtherController};
use crate::netfilter::nftables::{Batch, Table, TableFamily};
use crate::ownership::{own_tables, owns_set};

/// The table. It is gone some time after this is dropped: a program that the agent starts meanwhile holds a copy of the socket until it
/// is executed.
pub struct StartTable {
    /// Its owner.
    socket: Nftables,
    name: Box<str>,
}

impl StartTable {
    /// Creates this table in the network namespace of the calling thread. `None`, with no change, if an earlier run of the agent or
    /// another NetworkPolicy controller has left something: their rules stay in force.
    ///
    /// # Errors
    /// The kernel has no tables that end with their owner (Linux 5.12), or CAP_NET_ADMIN is missing.
    pub fn create(table: &Table) -> Result<Option<StartTable>, KernelError> {
        let tables = table_list::list()?;
        let own = own_tables();
        if tables.keys().any(|table| own.contains(table) || OtherController::of_table(table).is_some()) {
            return Ok(None);
        }
        // Version 0.1.0 had rules and sets, and no tables of its own. A kernel without ipset has no sets.
        let sets = Ipset::open().and_then(|mut ipset| ipset.names()).unwrap_or_default();
        if sets.iter().any(|set| owns_set(set) || OtherController::may_own_set(set)) {
            return Ok(None);
        }
        let mut socket = Nftables::open_temporary()?;
        socket.commit(&[Batch::creating(table)])?;
        Ok(Some(StartTable { socket, name: table.name.clone() }))
    }

    /// Removes the table at once.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn remove(mut self) -> Result<(), KernelError> {
        self.socket.commit(&[Batch::deleting(TableFamily::Inet, &self.name)])
    }
}
