//! A socket for transactions and dumps of nf_tables.

use super::decode::{self, TableReader};
use super::encode::{self, Transaction};
use super::probe::SCRATCH;
use super::wire::*;
use super::writer::{TableFlags, Writer};
use crate::apply::{KernelError, TableRead};
use crate::kernel::netlink::{Failure, Netlink, whole};
use crate::netfilter::iptables::Count;
use crate::netfilter::nftables::{Batch, Change, Table, TableFamily};
use nix::libc;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// How often a table is read again because rules changed meanwhile, before the result is used as it is.
const READ_ATTEMPTS: usize = 5;

/// What a thread reads tables with and changes them by, in the network namespace of the thread that opened it.
pub(in crate::kernel) struct Nftables {
    /// For reading.
    netlink: Netlink,
    writer: Arc<Writer>,
    flags: TableFlags,
    /// The number of committed transactions.
    pub(in crate::kernel) transactions: u64,
    /// The number of elements that they added to or removed from sets of the table of family inet.
    pub(in crate::kernel) elements: u64,
}

impl Nftables {
    /// Opens the sockets.
    pub(in crate::kernel) fn open() -> Result<Nftables, KernelError> {
        Nftables::over(Arc::new(Writer::open()?), TableFlags::Open)
    }

    /// Opens the sockets. Tables that are made by them are removed when they are closed.
    pub(in crate::kernel) fn open_temporary() -> Result<Nftables, KernelError> {
        Nftables::over(Arc::new(Writer::open()?), TableFlags::Temporary)
    }

    /// The same for another thread: both write by one socket.
    pub(in crate::kernel) fn beside(&self) -> Result<Nftables, KernelError> {
        Nftables::over(self.writer.clone(), self.flags)
    }

    fn over(writer: Arc<Writer>, flags: TableFlags) -> Result<Nftables, KernelError> {
        let failed = |source| KernelError::Netlink { act: "open a socket to nf_tables", source };
        let netlink = Netlink::open().map_err(failed)?;
        Ok(Nftables { netlink, writer, flags, transactions: 0, elements: 0 })
    }

    /// From now on makes tables that no other program can change, if this kernel has them; otherwise, why it has not.
    pub(in crate::kernel) fn own_tables(&mut self) -> Result<(), KernelError> {
        let owned = Nftables::over(self.writer.clone(), TableFlags::Owned)?;
        owned.try_out(&Batch::taking(TableFamily::Inet, SCRATCH))?;
        self.flags = TableFlags::Owned;
        Ok(())
    }

    /// The netlink port by which tables are changed: what the kernel reports as changed from this port is our own doing.
    pub(in crate::kernel) fn port(&self) -> u32 {
        self.writer.port()
    }

    /// Commits batches as one transaction.
    pub(in crate::kernel) fn commit(&mut self, batches: &[Batch]) -> Result<(), KernelError> {
        if batches.iter().all(|batch| batch.changes.is_empty()) {
            return Ok(());
        }
        self.transact(batches)?;
        self.transactions += u64::from(batches.iter().any(Batch::changes_content));
        let changes = batches.iter().filter(|batch| batch.family == TableFamily::Inet);
        self.elements += changes.flat_map(|batch| &batch.changes).map(elements).sum::<u64>();
        Ok(())
    }

    fn transact(&self, batches: &[Batch]) -> Result<(), KernelError> {
        let Transaction { requests, changes } = encode::transaction(batches, self.flags);
        self.writer.transact(requests).map_err(|(place, failure)| {
            // The first message only begins the transaction.
            let change = place.checked_sub(1).and_then(|place| changes.get(place).copied());
            refused(batches, change, failure)
        })
    }

    /// Tries whether the kernel accepts a transaction. Nothing of it stays, and it is not counted.
    pub(in crate::kernel) fn try_out(&self, batch: &Batch) -> Result<(), KernelError> {
        self.transact(std::slice::from_ref(batch))?;
        self.transact(&[Batch::deleting(batch.family, &batch.table)])
    }

    /// Reads a complete table.
    pub(in crate::kernel) fn read(
        &mut self,
        family: TableFamily,
        name: &str,
    ) -> Result<TableRead, KernelError> {
        let failed = |failure: Failure| KernelError::Netlink {
            act: "read a table of nf_tables",
            source: failure.into(),
        };
        let mut read = TableRead::Absent;
        for _ in 0..READ_ATTEMPTS {
            let before = self.generation().map_err(failed)?;
            read = whole(|| self.read_once(family, name)).map_err(failed)?;
            if self.generation().map_err(failed)? == before {
                break;
            }
        }
        Ok(read)
    }

    fn generation(&mut self) -> Result<Option<u32>, Failure> {
        let mut found = None;
        self.netlink.ask(encode::generation(), |message| found = decode::generation(message))?;
        Ok(found)
    }

    fn read_once(&mut self, family: TableFamily, name: &str) -> Result<TableRead, Failure> {
        let owner = (self.flags == TableFlags::Owned).then(|| self.writer.port());
        let mut reader = TableReader::new(Table::new(family, name), owner);
        let dump = |command| encode::dump(command, family, name);
        self.netlink.ask(dump(GET_TABLES), |message| reader.table(message))?;
        if !reader.is_there() {
            return Ok(reader.end());
        }
        self.netlink.ask(dump(GET_CHAINS), |message| reader.chain(message))?;
        self.netlink.ask(dump(GET_RULES), |message| reader.rule(message))?;
        self.netlink.ask(dump(GET_OBJECTS), |message| reader.object(message))?;
        self.netlink.ask(dump(GET_SETS), |message| reader.set(message))?;
        for set in reader.asked_sets() {
            let mut request = dump(GET_ELEMENTS);
            request.put_text(ELEMENTS_SET, &set);
            self.netlink.ask(request, |message| reader.elements(message))?;
        }
        Ok(reader.end())
    }
}

/// Reads what the counters of a table counted, in the network namespace of the calling thread; of a table that is not there, nothing.
pub(in crate::kernel) fn read_counters(
    family: TableFamily,
    name: &str,
) -> Result<BTreeMap<Box<str>, Count>, KernelError> {
    let failed = |source| KernelError::Netlink { act: "read counters of nf_tables", source };
    let mut netlink = Netlink::open().map_err(failed)?;
    let read = || {
        let mut counters = BTreeMap::new();
        netlink.ask(encode::dump(GET_OBJECTS, family, name), |message| {
            counters.extend(decode::counter(message));
        })?;
        Ok(counters)
    };
    whole(read).map_err(|failure: Failure| failed(failure.into()))
}

/// How many elements a change adds or removes.
fn elements(change: &Change) -> u64 {
    match change {
        Change::AddElements(_, elements)
        | Change::AddRanges(_, elements)
        | Change::DeleteElements(_, elements)
        | Change::DeleteRanges(_, elements) => elements.len() as u64,
        Change::AddTable
        | Change::DeleteTable
        | Change::AddChain(..)
        | Change::FlushChain(_)
        | Change::DeleteChain(_)
        | Change::AddRule(..)
        | Change::AddSet(..)
        | Change::FlushSet(_)
        | Change::AddCounter(_)
        | Change::DeleteCounter(_)
        | Change::DeleteSet(_) => 0,
    }
}

/// Why a change is refused with EPERM, and what to do.
pub(in crate::kernel) const OWNED_BY_ANOTHER: &str = "another process that is running owns it, or this one lacks CAP_NET_ADMIN. See which: \
                                                      nft list tables shows its name. It must end first";

fn refused(batches: &[Batch], change: Option<(&Batch, &Change)>, failure: Failure) -> KernelError {
    let batch = change.map(|(batch, _)| batch).or(batches.first());
    let reason = match &failure {
        Failure::Refused { code: libc::EOPNOTSUPP | libc::EAFNOSUPPORT, .. }
            if batch.is_some_and(|batch| batch.family == TableFamily::Bridge) =>
        {
            "the kernel has no nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE)".to_owned()
        }
        Failure::Refused { code: libc::EPERM, .. } => OWNED_BY_ANOTHER.to_owned(),
        Failure::Refused { .. } | Failure::Overrun | Failure::System(_) => {
            io::Error::from(failure).to_string()
        }
    };
    KernelError::Table {
        table: batch.map(|batch| batch.table.to_string()).unwrap_or_default(),
        change: change.map_or_else(|| "the transaction".to_owned(), |(_, change)| format!("{change:?}")),
        reason,
    }
}
