//! The kernel's ipset protocol (NFNL_SUBSYS_IPSET), spoken without libipset.
//!
//! Sets and elements come in, requests go out; what the kernel answers comes back as sets or as an error in words.
//! It knows nothing of what the sets are for.

mod codec;
mod refusal;
mod session;

pub(super) use session::{Ipset, Members};
