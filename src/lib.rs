//! Bridgewarden enforces Kubernetes NetworkPolicies on a node whose pods are attached to a Linux bridge.
//!
//! Data flows in one direction:
//!
//! ```text
//!  API server, manifests  objects; and CNI results, bridge ports
//!       │ api             their fields
//!       ▼
//!    source               reads and checks them, fills in the API's defaults
//!       │ Change          one change of what is known
//!       ▼
//!  model::Cluster         what is known
//!       │ Touched         what the change may have affected
//!       ▼
//!  compile::Plan          what this node must enforce, in no backend's words
//!       │ Delta           what changed in it
//!       ▼
//!    render               rules and sets: Ruleset, Edit
//!       │
//!       ▼
//!    apply                the steps that lead there, in a safe order
//!       │ Step
//!       ▼
//!    kernel               the only room that changes the kernel
//!
//!  controller             one task without locks: owns Cluster and Plan, and decides when each step runs
//!  explain, observe       read state and change none
//! ```
//!
//! # Rooms
//!
//! Each module below is a room with one reason to exist. Those without I/O, clock, lock or async are the crate
//! `bridgewarden-core`. Who may import whom is a table in ARCHITECTURE.md, which a test holds the sources to.
//!
//! - [`net`]: families, protocols, ports and prefixes.
//! - [`collections`]: containers that know nothing of clusters: a hash index, an interner and a slab.
//! - [`api`]: the fields of Kubernetes objects that decide what a policy means.
//! - [`model`]: what is known of the cluster, changed by one change at a time.
//! - [`flow`]: denied flows: denied packets, aggregated for people.
//! - [`netfilter`]: the languages of iptables, ipset and nf_tables: text, parsers, tracers.
//! - [`ownership`]: how a new process recognises our chains and sets.
//! - [`compile`]: what this node must enforce; knows policies, not chains.
//! - [`render`]: the rules and sets for it; the only room that knows policies and chains.
//! - [`source`]: where changes come from: API objects, CNI results and bridge ports in, changes out.
//! - [`apply`]: the steps that make the kernel equal to what was rendered; knows chains, not policies.
//! - [`backend`]: `render` and `apply` for one packet filter; to add another, implement its trait.
//! - [`kernel`]: the kernel of this host: netlink, and the programs of iptables. The only room that changes it.
//! - [`account`]: explains a denied flow: pods, policies and the nearest rule.
//! - [`explain`]: what a policy means for one connection, by the API's text alone.
//! - [`verify`]: whether the rules in a kernel decide as policies do.
//! - [`status`]: what an agent says of itself: whether it is ready, and which policies are in force.
//! - [`reach`]: which connections policies allow between all pods and addresses, in classes.
//! - [`matrix`]: who can reach whom as a matrix, and its page for a browser.
//! - [`causes`]: the causes of an error in one line.
//! - [`observe`]: metrics, health, HTTP and the log.
//! - [`controller`]: the loop that keeps the kernel equal to what the sources report.
//! - [`daemon`]: the agent on a node: its parts, the order in which they start, and how they stop.
//! - [`testbed`]: a small real network in namespaces, for tests and the demo.
//! - [`commands`]: the commands of the program.
//!
//! # Invariants
//!
//! 1. Nothing is written before the sources have delivered their first complete list.
//! 2. An invalid part of a policy allows nothing; the policy's pods are isolated all the same, and it is reported.
//! 3. No rule ever names a set or chain that does not exist.
//! 4. Wherever an apply stops, the kernel allows nothing that both the old and the new rules deny.
//! 5. A chain that did not change is not rewritten.
//! 6. Nothing is changed except what [`ownership`] recognises.
//! 7. The same cluster gives the same bytes.
//! 8. Names depend on identities alone; two identities never share one.
//! 9. IPv4 and IPv6 go through the same code.
//! 10. A failed apply opens nothing, is reported, and is retried.

pub use bridgewarden_core::{
    account, api, apply, backend, collections, compile, explain, flow, model, net, netfilter, ownership,
    reach, render, status, verify,
};

pub mod causes;
pub mod commands;
pub mod controller;
pub mod daemon;
pub mod kernel;
pub mod matrix;
pub mod observe;
pub mod source;
pub mod testbed;
