//! Netfilter netlink (linux/netfilter/nfnetlink.h): requests and answers as bytes, and one socket to exchange them.
//!
//! It knows headers, attributes and acknowledgements; what the attributes mean is the business of its callers.

mod message;
mod socket;

pub(super) use message::*;
pub(super) use socket::*;
