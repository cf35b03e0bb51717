//! Netfilter netlink (linux/netfilter/nfnetlink.h): requests and answers as bytes, one socket to exchange
//! them, and one to hear what the kernel tells everybody.
//!
//! It knows headers, attributes and acknowledgements; what the attributes mean is the business of its callers.

mod message;
mod multicast;
mod socket;

pub(super) use message::*;
pub(super) use multicast::*;
pub(super) use socket::*;
