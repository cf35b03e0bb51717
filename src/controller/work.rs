//! What the loop hands to the kernel's thread, and what comes back.

use crate::apply::{Actual, Connection, Kernel, KernelError, Step, Tally};
use crate::compile::Flow;
use crate::net::{Family, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A piece of work for the kernel's thread.
#[derive(Debug)]
pub(super) enum Work {
    /// Read all that is ours.
    Read,
    /// Carry out steps.
    Commit { steps: Vec<Step> },
    /// List the live connections of these addresses.
    List { addresses: BTreeSet<IpAddr> },
    /// Cut these connections; this is our bit of their marks.
    Cut { connections: Vec<Connection>, mark: u32 },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Read(Actual),
    Committed,
    Listed(Vec<Connection>),
    Cut,
}

/// The kernel back from its thread.
pub(super) struct Returned {
    pub(super) kernel: Box<dyn Kernel + Send>,
    pub(super) done: Result<Done, KernelError>,
    pub(super) took: Duration,
    pub(super) tally: Tally,
}

/// Does a piece of work. Blocks.
pub(super) fn perform(mut kernel: Box<dyn Kernel + Send>, work: Work) -> Returned {
    let start = Instant::now();
    let done = attempt(kernel.as_mut(), work);
    let tally = kernel.tally();
    Returned { kernel, done, took: start.elapsed(), tally }
}

fn attempt(kernel: &mut dyn Kernel, work: Work) -> Result<Done, KernelError> {
    match work {
        Work::Read => Actual::read(kernel).map(Done::Read),
        Work::Commit { steps } => {
            steps.iter().try_for_each(|step| kernel.commit(step))?;
            Ok(Done::Committed)
        }
        Work::List { addresses } => connections_of(kernel, &addresses).map(Done::Listed),
        Work::Cut { connections, mark } => {
            for connection in &connections {
                if connection.protocol == Protocol::Tcp.number() {
                    kernel.condemn(connection, mark)?;
                } else {
                    kernel.forget(connection)?;
                }
            }
            Ok(Done::Cut)
        }
    }
}

fn connections_of(
    kernel: &mut dyn Kernel,
    addresses: &BTreeSet<IpAddr>,
) -> Result<Vec<Connection>, KernelError> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        if addresses.iter().any(|address| Family::of(*address) == family) {
            let all = kernel.connections(family)?.into_iter();
            found.extend(all.filter(|connection| {
                addresses.contains(&connection.source) || addresses.contains(&connection.destination)
            }));
        }
    }
    Ok(found)
}

/// The connection's first packet, as the FORWARD hook saw it.
pub(super) fn first_packet(connection: &Connection) -> Flow {
    let protocol = Protocol::from_number(connection.protocol);
    Flow {
        source: connection.source,
        destination: connection.destination,
        port: protocol.map(|protocol| (protocol, connection.destination_port)),
    }
}
