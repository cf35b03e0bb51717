//! The kernel's ipset protocol (NFNL_SUBSYS_IPSET), without libipset.
//!
//! Comes in: sets and elements, sent as requests. Goes out: sets, or errors in words. It does not know what the sets
//! are for.

mod codec;
mod refusal;
mod session;

pub(super) use session::{Ipset, Members};
