//! One conversation with nf_tables.

use super::wire::*;
use super::{decode, encode};
use crate::apply::{KernelError, TableRead};
use crate::kernel::netlink::{Failure, Message, Netlink, whole};
use crate::netfilter::nftables::{Batch, Change, Elements, Set, SetPurpose, Table, TableFamily};
use nix::libc;
use std::collections::BTreeMap;
use std::io;

/// How often a table is read again because rules changed meanwhile, before what was read is taken as it is.
const READ_ATTEMPTS: usize = 5;
/// The bytes that one transaction may have: a thousand ports' chains and more.
const SEND_BUFFER: usize = 16 * 1024 * 1024;

/// A socket to nf_tables in the network namespace of the thread that opened it.
pub(in crate::kernel) struct Nftables {
    netlink: Netlink,
    /// Transactions carried out.
    pub(in crate::kernel) transactions: u64,
}

impl Nftables {
    /// Opens the socket.
    pub(in crate::kernel) fn open() -> Result<Nftables, KernelError> {
        let failed = |source| KernelError::Netlink { act: "open a socket to nf_tables", source };
        let netlink = Netlink::open().map_err(failed)?;
        netlink.may_send(SEND_BUFFER).map_err(failed)?;
        Ok(Nftables { netlink, transactions: 0 })
    }

    /// The netlink port of the socket: what the kernel reports as changed from this port is our own doing.
    pub(in crate::kernel) fn port(&self) -> Result<u32, KernelError> {
        let failed = |source| KernelError::Netlink { act: "read the name of a netlink socket", source };
        self.netlink.port().map_err(failed)
    }

    /// Carries out batches as one transaction.
    pub(in crate::kernel) fn commit(&mut self, batches: &[Batch]) -> Result<(), KernelError> {
        if batches.iter().all(|batch| batch.changes.is_empty()) {
            return Ok(());
        }
        self.transact(batches)?;
        self.transactions += 1;
        Ok(())
    }

    fn transact(&mut self, batches: &[Batch]) -> Result<(), KernelError> {
        let mut transaction = encode::transaction(batches);
        self.netlink.write_batch(&mut transaction.messages).map_err(|(place, failure)| {
            // The first message only begins the transaction.
            let change = place.checked_sub(1).and_then(|place| transaction.changes.get(place).copied());
            refused(batches, change, failure)
        })
    }

    /// Whether the kernel takes a transaction; nothing of it stays, and it is not counted.
    pub(in crate::kernel) fn try_out(&mut self, batch: &Batch) -> Result<(), KernelError> {
        self.transact(std::slice::from_ref(batch))?;
        self.transact(&[Batch::deleting(batch.family, &batch.table)])
    }

    /// Reads a table whole.
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
        let mut is_there = false;
        let by_table = |message: &mut Message| message.put_text(OF_TABLE, name);
        self.dump(encode::dump(GET_TABLES, family, |_| {}), |message| {
            is_there |= decode::is_of(message, name);
        })?;
        if !is_there {
            return Ok(TableRead::Absent);
        }
        let (mut table, mut foreign) = (Table::new(family, name), false);
        self.dump(encode::dump(GET_CHAINS, family, by_table), |message| {
            match decode::chain(message).filter(|_| decode::is_of(message, name)) {
                Some((chain, content)) => drop(table.chains.insert(chain, content)),
                None => foreign |= decode::is_of(message, name),
            }
        })?;
        let mut counted = BTreeMap::<Box<str>, u64>::new();
        self.dump(encode::dump(GET_RULES, family, by_table), |message| {
            if !decode::is_of(message, name) {
                return;
            }
            let read = decode::rule(message);
            match read
                .and_then(|(chain, rule, count)| Some((table.chains.get_mut(&chain)?, chain, rule, count)))
            {
                Some((place, chain, rule, count)) => {
                    place.rules.push(rule);
                    *counted.entry(chain).or_default() += count;
                }
                None => foreign = true,
            }
        })?;
        self.dump(encode::dump(GET_SETS, family, by_table), |message| {
            match decode::set(message).filter(|_| decode::is_of(message, name)) {
                Some((set, kind)) => drop(table.sets.insert(set, Set { kind, elements: Elements::new() })),
                None => foreign |= decode::is_of(message, name),
            }
        })?;
        for (set, content) in &mut table.sets {
            if matches!(content.kind.purpose, SetPurpose::Dynamic { .. }) {
                continue;
            }
            let request = encode::dump(GET_ELEMENTS, family, |message| {
                message.put_text(OF_TABLE, name);
                message.put_text(ELEMENTS_SET, set);
            });
            self.netlink.ask(request, |message| {
                foreign |= decode::elements(message, &mut content.elements).is_none();
            })?;
        }
        Ok(if foreign { TableRead::Foreign } else { TableRead::Ours { table, counted } })
    }

    fn dump(&mut self, request: Message, each: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.netlink.ask(request, each)
    }
}

fn refused(batches: &[Batch], change: Option<(&Batch, &Change)>, failure: Failure) -> KernelError {
    let batch = change.map(|(batch, _)| batch).or(batches.first());
    let reason = match &failure {
        Failure::Refused { code: libc::EOPNOTSUPP | libc::EAFNOSUPPORT, .. }
            if batch.is_some_and(|batch| batch.family == TableFamily::Bridge) =>
        {
            "the kernel has no nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE)".to_owned()
        }
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
