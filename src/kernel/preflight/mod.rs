//! Checks the requirements of enforcement on this host before the first rule is written: what is missing, and the
//! command that provides it.
//!
//! Comes in: what is wanted, and facts of the host. Goes out: checks. Facts are collected in one place and judged in
//! another, so that each judgement can be tested without such a host.

mod detect_backend;
mod facts;
#[cfg(test)]
mod fixture;
mod judge;
mod others;
mod probe;
mod saved;

pub use detect_backend::detect_backend;
pub(super) use facts::read;
pub(super) use facts::sysctl;
pub use facts::{CALL_IP6TABLES, CALL_IPTABLES, Facts};
pub use judge::{judge, judge_sysctls};
pub use probe::RefusedRule;
pub use saved::Saved;

use crate::netfilter::BackendName;

/// The check that finds our rules in the other variant of iptables.
pub const OTHER_VARIANT: &str = "other-variant";
/// The check that finds rules of another controller.
pub const OTHER_CONTROLLER: &str = "other-controller";

/// What to check for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The packet filter that will be written to.
    pub backend: BackendName,
    /// The bridge to which the pods are attached.
    pub bridge: String,
    /// The bit of packet and connection marks that the rules use.
    pub mark: u32,
    /// The NFLOG group that will be read; `None` if none will be.
    pub log_group: Option<u16>,
    /// Whether a table of family bridge is tried, as pods are to be bound to their ports.
    pub try_bridge_table: bool,
    /// Whether a legacy table may be loaded to try rules in it, because enforcement will load it anyway.
    pub may_load_tables: bool,
}

/// One check and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A short, fixed name, suitable for a metric's label.
    pub name: &'static str,
    /// What was found, or what is missing.
    pub result: Result<String, Missing>,
}

/// A requirement that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is wrong, and its consequence.
    pub problem: String,
    /// The command or setting that repairs it.
    pub cure: String,
}

/// Checks the host in the network namespace of the calling thread. Starts programs, and tries rules in a temporary
/// chain that no packet reaches. The chain is removed again, and so is an nf_tables table that was created for it. A
/// legacy table is not loaded for this, as nothing would unload it.
pub fn check(wanted: &Wanted) -> Vec<Check> {
    judge(&Facts::gather(wanted), wanted)
}

/// The checks of what other programs may change while the agent runs. They only read files.
pub fn check_sysctls(wanted: &Wanted) -> Vec<Check> {
    judge_sysctls(&Facts::gather_sysctls(wanted), wanted)
}
