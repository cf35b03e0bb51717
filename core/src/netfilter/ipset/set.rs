//! An ipset: its type, its family and its elements.

use crate::net::{Family, IpNet, Protocol};
use crate::netfilter::SetName;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// The set types in use (ipset(8), SET TYPES).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// `hash:ip`: addresses.
    HashIp,
    /// `hash:net`: prefixes. The longest one that contains an address decides, and with `nomatch` the address is not in
    /// the set.
    HashNet,
    /// `hash:ip,port`: an address with a protocol and port.
    HashIpPort,
}

impl Type {
    /// The kernel's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Type::HashIp => "hash:ip",
            Type::HashNet => "hash:net",
            Type::HashIpPort => "hash:ip,port",
        }
    }

    /// The type with this kernel name, if it is in use here.
    pub fn parse(name: &str) -> Option<Type> {
        [Type::HashIp, Type::HashNet, Type::HashIpPort].into_iter().find(|known| known.name() == name)
    }
}

/// What makes two sets interchangeable: their type and family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The type.
    pub of: Type,
    /// The family of its addresses.
    pub family: Family,
}

/// The maximum number of elements (IPSET_ATTR_MAXELEM). The kernel does not reserve memory for it.
pub const MAX_ELEMENTS: u32 = 1 << 24;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// An address, in `hash:ip`.
    Address(IpAddr),
    /// A prefix of at least 1 bit, in `hash:net`; the kernel has no prefix of 0 bits.
    Net {
        /// The prefix, host bits cleared.
        net: IpNet,
        /// Whether addresses in it are *not* in the set.
        nomatch: bool,
    },
    /// An address with a port, in `hash:ip,port`.
    AddressPort(IpAddr, Protocol, u16),
}

impl fmt::Display for Element {
    /// As `ipset save` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Address(address) => write!(f, "{address}"),
            Element::Net { net, nomatch } => {
                if net.prefix_len() == net.max_prefix_len() {
                    write!(f, "{}", net.addr())?;
                } else {
                    write!(f, "{net}")?;
                }
                if *nomatch { f.write_str(" nomatch") } else { Ok(()) }
            }
            Element::AddressPort(address, protocol, port) => {
                write!(f, "{address},{}:{port}", protocol.lowercase())
            }
        }
    }
}

/// A whole set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its type and family.
    pub kind: Kind,
    /// Its elements.
    pub elements: BTreeSet<Element>,
}

impl Set {
    /// The set in the format of `ipset restore`: one `create` line, then one `add` line per element.
    pub fn text(&self, name: &SetName) -> String {
        use fmt::Write;
        let family = match self.kind.family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        let mut text =
            format!("create {name} {} family {family} maxelem {MAX_ELEMENTS}\n", self.kind.of.name());
        for element in &self.elements {
            let _ = writeln!(text, "add {name} {element}");
        }
        text
    }
}

impl Set {
    /// Whether the kernel would find an address, with a port for `hash:ip,port`, in the set.
    pub fn contains(&self, address: IpAddr, port: Option<(Protocol, u16)>) -> bool {
        match self.kind.of {
            Type::HashIp => self.elements.contains(&Element::Address(address)),
            Type::HashIpPort => port.is_some_and(|(protocol, port)| {
                self.elements.contains(&Element::AddressPort(address, protocol, port))
            }),
            Type::HashNet => self.longest_match(address).is_some_and(|nomatch| !nomatch),
        }
    }

    fn longest_match(&self, address: IpAddr) -> Option<bool> {
        let mut longest = None;
        for element in &self.elements {
            if let Element::Net { net, nomatch } = element
                && net.contains(&address)
                && longest.is_none_or(|(length, _)| length < net.prefix_len())
            {
                longest = Some((net.prefix_len(), *nomatch));
            }
        }
        longest.map(|(_, nomatch)| nomatch)
    }
}
