//! Bridgewarden enforces Kubernetes NetworkPolicies on a node whose pods are attached to a Linux bridge.
//!
//! One direction, no way back:
//!
//! ```text
//!  API server, manifests  objects; and CNI results, bridge ports
//!       │ api             their fields
//!       ▼
//!    source               reads, checks, fills in the API's defaults
//!       │ Change          one fact
//!       ▼
//!  model::Cluster         what is true
//!       │ Touched         what the fact may have affected
//!       ▼
//!  compile::Plan          what must hold on this node, in no backend's words
//!       │ Delta           what changed in it
//!       ▼
//!    render               how iptables and ipset say it: Ruleset, Edit
//!       │
//!       ▼
//!    apply ──────────▶    the kernel: the only hands
//!
//!  controller             one task, one loop: decides when, owns everything above
//!  explain, observe       read facts, change none
//! ```
//!
//! # Rooms
//!
//! Each module below is a room with one reason to exist. Those without I/O, clock, lock or async are the crate
//! `bridgewarden-core`. Who may import whom is a table in ARCHITECTURE.md, which a test holds the sources to.
//!
//! - [`net`]: families, protocols, ports and prefixes.
//! - [`api`]: the Kubernetes objects, as slim as the work allows.
//! - [`model`]: what is true of the cluster, changed one fact at a time.
//! - [`flow`]: denied flows: packets that were refused, gathered so that people can read them.
//! - [`netfilter`]: the languages of iptables and ipset: text, parsers, a tracer.
//! - [`ownership`]: how a fresh process recognises its own chains and sets.
//! - [`compile`]: what must hold on this node; knows policies, not chains.
//! - [`render`]: how iptables and ipset say it; the only room that knows policies and chains.
//! - [`source`]: where changes come from: API objects, CNI results and bridge ports in, changes out.
//! - [`apply`]: the only hands; knows chains, not policies.
//! - [`account`]: what is known of a denied flow, for people.
//! - [`explain`]: what a policy means for one connection, by the API's text alone.
//! - [`observe`]: metrics, health, HTTP and the log.
//! - [`controller`]: one loop that keeps the kernel equal to what the sources say.
//! - [`daemon`]: the agent on a node: its parts, in which order they start, and how they stop.
//! - [`playground`]: a small real network in namespaces, for trials and tests.
//! - [`commands`]: what a person can ask for on the command line.
//!
//! # Invariants
//!
//! 1. Nothing is written before the sources have delivered their first complete list.
//! 2. A part of a policy that cannot be understood allows nothing; its pods are isolated all the same, and it is reported.
//! 3. No rule ever names a set or chain that is not there.
//! 4. Wherever an apply stops, it allows nothing that the old rules and the new ones both refuse.
//! 5. A chain that did not change is not rewritten.
//! 6. Nothing is touched but what [`ownership`] recognises.
//! 7. The same cluster gives the same bytes.
//! 8. Names are made of identities alone; two identities never share one.
//! 9. IPv4 and IPv6 take the same way through the same code.
//! 10. A failed apply opens nothing, is told, and is tried again.

pub use bridgewarden_core::{account, api, compile, explain, flow, model, net, netfilter, ownership, render};

pub mod apply;
pub mod commands;
pub mod controller;
pub mod daemon;
pub mod observe;
pub mod playground;
pub mod source;
