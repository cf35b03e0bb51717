//! Ensures that only one agent runs in a network namespace.
//!
//! The lock is an abstract Unix socket. Its name belongs to the network namespace, as rules do; it leaves no file, and
//! it is free again when its process ends for any reason.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// The name of the socket, after the NUL that makes it abstract.
const NAME: &str = "bridgewarden/packet-filter";

/// The right to change the packet filter of a network namespace; it ends when this is dropped.
#[derive(Debug)]
pub struct Lock {
    _socket: UnixListener,
}

impl Lock {
    /// Takes the lock of the calling thread's network namespace; `None` if another process has it.
    ///
    /// # Errors
    /// The socket could not be created.
    pub fn take() -> io::Result<Option<Lock>> {
        match UnixListener::bind_addr(&SocketAddr::from_abstract_name(NAME)?) {
            Ok(socket) => Ok(Some(Lock { _socket: socket })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The command that shows which process has the lock.
    pub fn holder_command() -> String {
        format!("ss -xlp | grep @{NAME}")
    }
}
