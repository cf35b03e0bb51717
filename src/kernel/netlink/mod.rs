//! Netfilter netlink (linux/netfilter/nfnetlink.h): requests and answers as bytes, one socket to exchange
//! them, and one for what the kernel sends to a multicast group.
//!
//! It knows headers, attributes and acknowledgements; what the attributes mean is the business of its callers.

mod message;
mod multicast;
mod socket;

pub(super) use message::*;
pub(super) use multicast::*;
pub(super) use socket::*;
