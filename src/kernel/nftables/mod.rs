//! nf_tables through netlink: sends transactions, and reads complete tables. Starts no program and needs no library.

mod attribute_set;
mod decode;
mod decode_elements;
mod decode_rule;
mod encode;
mod encode_elements;
mod encode_rule;
mod numbers;
mod probe;
#[cfg(test)]
mod recorded;
mod session;
mod wire;
mod writer;

pub(super) use probe::{probe, probe_binding};
pub(super) use session::*;
