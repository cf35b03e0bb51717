//! The one socket by which this process changes tables: the kernel knows a table's owner by its socket.

use crate::apply::KernelError;
use crate::kernel::netlink::{Datagram, Failure, Netlink};
use std::sync::{Mutex, PoisonError};

/// The bytes that one transaction may have: the chains of a thousand ports and all rules of many namespaces. Memory is used only for
/// those that it has.
const SEND_BUFFER: usize = 64 * 1024 * 1024;

/// A socket to nf_tables that several threads write to, one transaction after the other, as the kernel carries them out.
pub(super) struct Writer {
    netlink: Mutex<Netlink>,
    port: u32,
}

impl Writer {
    /// Opens the socket.
    pub(super) fn open() -> Result<Writer, KernelError> {
        let failed = |source| KernelError::Netlink { act: "open a socket to nf_tables", source };
        let netlink = Netlink::open().map_err(failed)?;
        netlink.may_send(SEND_BUFFER).map_err(failed)?;
        let port = netlink.port().map_err(failed)?;
        Ok(Writer { netlink: Mutex::new(netlink), port })
    }

    /// The netlink port of the socket.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Sends the requests of a transaction and waits until the kernel has carried it out, and before that any of another thread.
    pub(super) fn transact(&self, requests: Datagram) -> Result<(), (usize, Failure)> {
        self.netlink.lock().unwrap_or_else(PoisonError::into_inner).write_batch(requests)
    }
}

/// Whether tables are made so that no other program can change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableFlags {
    /// Any program with CAP_NET_ADMIN can change them.
    Open,
    /// Only the socket of the writer can, until it is closed; the table stays after that.
    Owned,
    /// Only the socket of the writer can; the kernel removes the table when it is closed (Linux 5.12).
    Temporary,
}
