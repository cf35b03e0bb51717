//! Netfilter netlink (linux/netfilter/nfnetlink.h): requests and responses as bytes, a socket to exchange them, and a
//! socket for the messages that the kernel sends to a multicast group.
//!
//! It handles headers, attributes and acknowledgements; the meaning of attributes is up to the callers.

mod message;
mod multicast;
mod socket;

pub(super) use message::*;
pub(super) use multicast::*;
pub(super) use socket::*;
