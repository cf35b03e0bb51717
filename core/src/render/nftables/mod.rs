//! Renders the plan as one table of nf_tables: from `Plan` to `Table`, and from `Delta` to `TableEdit`.
//!
//! The forward hook has two base chains, one for each direction. `accept` in one of them does not skip the other, so no
//! mark is needed to note that a policy allows. A map finds the chain of an isolated address in one lookup. All pods
//! that the same policies isolate share that chain, so a new pod adds elements and no rules.

mod audit;
mod entry;
mod fields;
mod policy;
mod profile;
mod renderer;
mod set;
mod start;

pub use renderer::TableRenderer;
pub use start::start_table;
