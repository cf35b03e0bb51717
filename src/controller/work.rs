//! Work of the kernel's thread, and its results.

use super::cuts::{Failures, MarkChanges};
use crate::apply::{Actual, Connection, Kernel, KernelError, Step};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A piece of work that takes longer.
#[derive(Debug)]
pub enum Work {
    /// Read our objects.
    Read,
    /// Carry out steps.
    Commit {
        /// The steps, in order.
        steps: Vec<Step>,
    },
    /// List live connections.
    List {
        /// Connections with an end at one of these addresses.
        addresses: BTreeSet<IpAddr>,
    },
    /// Cut and unmark connections.
    Cut {
        /// The connections.
        changes: MarkChanges,
        /// Our bit of their marks.
        mark: u32,
    },
}

/// The result of work.
#[derive(Debug)]
pub enum Done {
    /// Our objects in the kernel.
    Read(Box<Actual>),
    /// All steps were carried out.
    Committed,
    /// The connections.
    Listed(Vec<Connection>),
    /// All connections were cut or unmarked, except for these failures.
    Cut(Failures),
}

impl Work {
    /// Does the work. Blocks. An error means that it was done in part or not at all; connections that cannot be cut are
    /// no error.
    pub fn perform(self, kernel: &mut dyn Kernel) -> Result<Done, KernelError> {
        match self {
            Work::Read => Actual::read(kernel).map(|actual| Done::Read(Box::new(actual))),
            Work::Commit { steps } => {
                kernel.commit_all(&steps)?;
                Ok(Done::Committed)
            }
            Work::List { addresses } => kernel.connections_of(&addresses).map(Done::Listed),
            Work::Cut { changes, mark } => Ok(Done::Cut(cut(kernel, changes, mark))),
        }
    }
}

/// Deletes, cuts and unmarks connections. A failure does not delay the other connections.
fn cut(kernel: &mut dyn Kernel, MarkChanges { cut, unmark, forget }: MarkChanges, mark: u32) -> Failures {
    let mut failures = Failures::new();
    for connection in forget {
        failures.extend(kernel.delete(&connection).err().map(|error| (connection, error)));
    }
    for connection in cut {
        failures.extend(kernel.set_mark(&connection, mark).err().map(|error| (connection, error)));
    }
    for connection in unmark {
        failures.extend(kernel.clear_mark(&connection, mark).err().map(|error| (connection, error)));
    }
    failures
}
