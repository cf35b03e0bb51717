//! What enforcement needs of this host, looked at before the first rule: what is missing, and the command that mends it.
//!
//! Comes in: what is wanted, and facts of the host. Goes out: checks. Facts are gathered in one place and judged in
//! another, so that every judgement can be tested without the host that earns it.

mod backend;
mod facts;
#[cfg(test)]
mod fixture;
mod judge;
mod others;
mod probe;
mod saved;

pub use backend::detect_backend;
pub use facts::Facts;
pub(super) use facts::read;
pub use judge::{judge, judge_sysctls};
pub use probe::RefusedRule;
pub use saved::Saved;

use crate::netfilter::BackendName;

/// What the checks are to look for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The packet filter that will be written to.
    pub backend: BackendName,
    /// The bridge that the pods sit on.
    pub bridge: String,
    /// The bit of the packet mark and of the connection mark that is ours.
    pub mark: u32,
    /// The NFLOG group that will be read; nothing if none will be.
    pub log_group: Option<u16>,
    /// Whether a table of family bridge is tried, as pods are to be bound to their ports.
    pub try_bridge_table: bool,
    /// Whether a legacy table may be loaded to try rules in it, as enforcement will load it anyway.
    pub may_load_tables: bool,
}

/// One check and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A short, fixed name, fit for a metric's label.
    pub name: &'static str,
    /// What was found, or what is missing.
    pub result: Result<String, Missing>,
}

/// Something enforcement cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is wrong, and what it would lead to.
    pub problem: String,
    /// The command or setting that mends it.
    pub cure: String,
}

/// Looks at the host, in the network namespace of the calling thread, and judges it. Starts programs, and tries rules
/// in a scratch chain that no packet reaches and that is removed again, as is an nf_tables table that was made for it. A legacy
/// table that is not loaded is not loaded for this: nothing would unload it.
pub fn check(wanted: &Wanted) -> Vec<Check> {
    judge(&Facts::gather(wanted), wanted)
}

/// The few checks whose subject may be undone while the agent runs. They only read files.
pub fn check_sysctls(wanted: &Wanted) -> Vec<Check> {
    judge_sysctls(&Facts::gather_sysctls(wanted), wanted)
}
