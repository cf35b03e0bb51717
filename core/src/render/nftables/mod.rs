//! How one table of nf_tables says what must hold: from `Plan` to `Table`, and from `Delta` to `TableEdit`.
//!
//! Two base chains of the forward hook, one for each direction, so that `accept` in one leaves the other to decide: no mark is needed
//! to say that a policy allows. A map finds the chain of an isolated address by one look-up. All pods that the same policies
//! isolate share that chain, so a pod that starts is elements and no rules.

mod entry;
mod fields;
mod policy;
mod profile;
mod renderer;
mod set;

pub use renderer::TableRenderer;
