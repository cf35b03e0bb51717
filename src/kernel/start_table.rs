//! The table that denies all traffic of pods from the agent's first milliseconds on, if the kernel has no rules of it.
//!
//! After a reboot, pods may start at the same time as the agent. To read the kernel and to write rules takes a tenth of a second and
//! more on a busy node; this table is one transaction. Its socket owns it, so it cannot outlive the agent.

use super::ipset::Ipset;
use super::nft_tables;
use super::nftables::Nftables;
use crate::apply::{KernelError, OtherController};
use crate::netfilter::nftables::{Batch, Table};
use crate::ownership::{BRIDGE_TABLE, BRIDGE_TABLE_NEXT, INET_TABLE, INET_TABLE_NEXT, RESERVED_TABLE};

/// The names of the tables by which an earlier run of the agent is recognised.
const OWN: [&str; 5] = [BRIDGE_TABLE, BRIDGE_TABLE_NEXT, INET_TABLE, INET_TABLE_NEXT, RESERVED_TABLE];

/// The table, which is there until this is dropped.
pub struct StartTable {
    /// Its owner.
    _socket: Nftables,
}

impl StartTable {
    /// Creates this table in the network namespace of the calling thread. `None`, with no change, if an earlier run of the agent or
    /// another NetworkPolicy controller has left something: their rules stay in force.
    ///
    /// # Errors
    /// The kernel has no tables that end with their owner (Linux 5.12), or CAP_NET_ADMIN is missing.
    pub fn create(table: &Table) -> Result<Option<StartTable>, KernelError> {
        let tables = nft_tables::list()?;
        let is_own = |table: &String| table.split_once(' ').is_some_and(|(_, name)| OWN.contains(&name));
        if tables.keys().any(|table| is_own(table) || OtherController::of_table(table).is_some()) {
            return Ok(None);
        }
        // A kernel without ipset has no sets of other controllers.
        let sets = Ipset::open().and_then(|mut ipset| ipset.names()).unwrap_or_default();
        if sets.iter().any(|set| OtherController::may_own_set(set)) {
            return Ok(None);
        }
        let mut socket = Nftables::open_temporary()?;
        socket.commit(&[Batch::creating(table)])?;
        Ok(Some(StartTable { _socket: socket }))
    }
}
