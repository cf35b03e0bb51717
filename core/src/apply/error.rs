//! Why the kernel, or a program that changes it, rejected something.

/// Why the kernel, or a program that speaks to it, refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A program could not be started.
    #[error("cannot start {program}: {source}. Install it (Debian: apt install {package}) or fix PATH")]
    Start {
        /// The program.
        program: String,
        /// The package that has it.
        package: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ran and said no.
    #[error("{program} failed ({status}): {stderr}{}", line.as_ref().map(|line| format!(" in line {line:?}")).unwrap_or_default())]
    Program {
        /// The program with its arguments.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
        /// The input line it named, if it named one.
        line: Option<String>,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {act} set {set}: {reason}")]
    Set {
        /// What was attempted.
        act: &'static str,
        /// On which set.
        set: String,
        /// What the kernel said, in words.
        reason: String,
        /// Its errno or ipset error number.
        code: i32,
    },
    /// The kernel refused a transaction on a table of nf_tables.
    #[error("cannot change table {table} of nf_tables by {change}: {reason}")]
    Table {
        /// The table.
        table: String,
        /// The change that was refused.
        change: String,
        /// What the kernel said, in words.
        reason: String,
    },
    /// A netlink socket failed.
    #[error("cannot {act}: {source}")]
    Netlink {
        /// What was attempted.
        act: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl KernelError {
    /// Every word that [`KernelError::kind`] may say.
    pub const KINDS: [&str; 5] = ["start", "program", "set", "table", "netlink"];

    /// A short, fixed word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            KernelError::Start { .. } => "start",
            KernelError::Program { .. } => "program",
            KernelError::Set { .. } => "set",
            KernelError::Table { .. } => "table",
            KernelError::Netlink { .. } => "netlink",
        }
    }
}
