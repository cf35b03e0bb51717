//! Why the kernel, or a program that changes it, rejected something.

/// Why the kernel, or a program that changes it, rejected something.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A program could not be started.
    #[error("cannot start {program}: {source}. Install it (Debian: apt install {package}) or fix PATH")]
    Start {
        /// The program.
        program: String,
        /// The package that contains it.
        package: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed ({status}): {stderr}{}", line.as_ref().map(|line| format!(" in line {line:?}")).unwrap_or_default())]
    Program {
        /// The program with its arguments.
        program: String,
        /// How it ended: exit code or signal.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
        /// The input line that it named, if it named one.
        line: Option<String>,
    },
    /// The kernel rejected a netlink request.
    #[error("cannot {act} set {set}: {reason}")]
    Set {
        /// What was attempted.
        act: &'static str,
        /// On which set.
        set: String,
        /// The kernel's reason, in words.
        reason: String,
        /// Its errno or ipset error number.
        code: i32,
    },
    /// The kernel rejected a transaction on a table of nf_tables.
    #[error("cannot change table {table} of nf_tables by {change}: {reason}")]
    Table {
        /// The table.
        table: String,
        /// The change that was rejected.
        change: String,
        /// The kernel's reason, in words.
        reason: String,
    },
    /// A netlink socket failed.
    #[error("cannot {act}: {source}")]
    Netlink {
        /// What was attempted.
        act: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl KernelError {
    /// All values that [`KernelError::kind`] may return.
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
