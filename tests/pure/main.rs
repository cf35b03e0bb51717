//! What needs no kernel: policies to rules, steps and decisions, against a kernel in memory, the oracle and the tracer.

mod beside;
mod bound_ports;
mod chain_names;
mod controller;
mod convergence;
mod costly;
mod equivalence;
mod explain;
mod first_names;
mod forward;
mod moving_ports;
mod oracle;
mod reach;
mod sandboxes;
mod shortfalls;
mod slices;
mod unchanged;
mod variants;
mod verify;
mod watches;
