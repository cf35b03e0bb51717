//! Converts NetworkPolicies to packet filter rules: what must hold on a node, and how iptables, ipset and nf_tables
//! express it.
//!
//! ```text
//!   Change                one change of what is known: a pod, a policy, a namespace, a port of the bridge
//!       ▼
//!  model::Cluster         what is known
//!       │ Touched         what the change may have affected
//!       ▼
//!  compile::Plan          what this node must enforce, in no backend's words
//!       │ Delta           what changed in it
//!       ▼
//!    render               rules and sets: Ruleset, Edit
//!       ▼
//!    apply                the steps that lead there, in a safe order: Step
//!
//!    backend              the two above for one packet filter
//! ```
//!
//! Nothing here has I/O, a clock, a lock or async: the same input always gives the same output. The program that reads the API
//! server and changes the kernel is the crate `bridgewarden`.

pub mod account;
pub mod api;
pub mod apply;
pub mod backend;
pub mod collections;
pub mod compile;
pub mod explain;
pub mod flow;
pub mod model;
pub mod net;
pub mod netfilter;
pub mod ownership;
pub mod reach;
pub mod render;
pub mod status;
pub mod verify;
