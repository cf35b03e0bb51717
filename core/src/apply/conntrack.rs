//! What can be asked of a kernel's connection tracking, real or fake.

use super::{KernelError, PacketFilter};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The connections that a kernel tracks.
pub trait Conntrack {
    /// The live connections that have an end at one of these addresses. However few they are, the kernel walks through all
    /// that the host has.
    fn connections_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, KernelError>;

    /// Deletes a live connection, so that its next packet is evaluated as a first one. No error if it is gone already.
    fn delete(&mut self, connection: &Connection) -> Result<(), KernelError>;

    /// Sets our bit in a live connection's mark, so that the rules deny its packets both ways. No error if it is gone already.
    fn set_mark(&mut self, connection: &Connection, bit: u32) -> Result<(), KernelError>;

    /// Clears our bit in a live connection's mark: it is allowed again. No error if it is gone already.
    fn clear_mark(&mut self, connection: &Connection, bit: u32) -> Result<(), KernelError>;
}

/// A kernel: its packet filter and its connection tracking.
pub trait Kernel: PacketFilter + Conntrack {}

impl<K: PacketFilter + Conntrack> Kernel for K {}

/// A live connection as conntrack knows it, by the addresses its first packet had at the FORWARD hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// The protocol number.
    pub protocol: u8,
    /// The address that opened it: the original tuple's source.
    pub source: IpAddr,
    /// Its port; 0 for a protocol without ports.
    pub source_port: u16,
    /// The address it was opened to: the original tuple's destination, a Service's address perhaps.
    pub dialled: IpAddr,
    /// The port dialled.
    pub dialled_port: u16,
    /// The address that answers: the reply tuple's source, after destination NAT.
    pub destination: IpAddr,
    /// The port that answers.
    pub destination_port: u16,
    /// Whether one of its ends is an address of this host itself.
    pub is_of_this_host: bool,
    /// Its mark, ours and others' bits.
    pub mark: u32,
    /// The bytes of the original tuple, as they must be given back to delete the connection.
    pub tuple: Vec<u8>,
}
