//! nf_tables over netlink: transactions out, whole tables in. Starts no program and needs no library.

mod decode;
mod encode;
mod encode_elements;
mod encode_rule;
mod numbers;
mod probe;
mod session;
mod wire;

pub(super) use probe::probe;
pub(super) use session::*;
