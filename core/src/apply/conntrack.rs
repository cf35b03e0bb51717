//! The operations on a kernel's connection tracking, real or fake.

use super::{KernelError, PacketFilter};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The connections that a kernel tracks.
pub trait Conntrack {
    /// The live connections with an end at one of these addresses. The kernel walks through all connections of the
    /// host, however few match.
    fn connections_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, KernelError>;

    /// Deletes a live connection, so that the next packet of either end is evaluated like the first packet of a
    /// connection. A connection that no longer exists is no error.
    fn delete(&mut self, connection: &Connection) -> Result<(), KernelError>;

    /// Sets our bit in a live connection's mark, so that the rules deny its packets in both directions. A connection
    /// that no longer exists is no error.
    fn set_mark(&mut self, connection: &Connection, bit: u32) -> Result<(), KernelError>;

    /// Clears our bit in a live connection's mark, so that it is allowed again. A connection that no longer exists is
    /// no error.
    fn clear_mark(&mut self, connection: &Connection, bit: u32) -> Result<(), KernelError>;
}

/// A kernel: its packet filter and its connection tracking.
pub trait Kernel: PacketFilter + Conntrack {}

impl<K: PacketFilter + Conntrack> Kernel for K {}

/// A live connection in conntrack, with the addresses that its first packet had at the FORWARD hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// The protocol number.
    pub protocol: u8,
    /// The address that opened it: the original tuple's source.
    pub source: IpAddr,
    /// Its port; 0 for a protocol without ports.
    pub source_port: u16,
    /// The address it was opened to: the original tuple's destination, which may be a Service's address.
    pub dialled: IpAddr,
    /// The port it was opened to.
    pub dialled_port: u16,
    /// The address that answers: the reply tuple's source, after destination NAT.
    pub destination: IpAddr,
    /// The port that answers.
    pub destination_port: u16,
    /// Whether one of its ends is an address of this host itself.
    pub is_of_this_host: bool,
    /// Its mark, with our bit and those of other programs.
    pub mark: u32,
    /// The bytes of the original tuple, as the kernel requires them for deleting the connection.
    pub tuple: Vec<u8>,
}
