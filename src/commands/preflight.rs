//! `bridgewarden preflight`: whether this node has what enforcement needs, and how to provide what is missing.

use super::flags::{BackendChoice, RenderFlags, require_root};
use crate::kernel::preflight;
use anyhow::Result;
use clap::Args;
use std::io::Write;
use std::process::ExitCode;

/// Checks what enforcement needs on this node.
#[derive(Debug, Args)]
pub(super) struct Preflight {
    /// Check for this packet filter
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    #[command(flatten)]
    flags: RenderFlags,
}

impl Preflight {
    /// Returns exit code 1 if something is missing.
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        require_root("preflight")?;
        let backend = self.backend.choose();
        self.flags.options(backend)?;
        let checks = preflight::check(&self.flags.wanted(backend, false));
        for check in &checks {
            match &check.result {
                Ok(found) => writeln!(out, "[ok]   {}: {found}", check.name)?,
                Err(missing) => {
                    writeln!(out, "[miss] {}: {}", check.name, missing.problem)?;
                    writeln!(out, "       cure: {}", missing.cure)?;
                }
            }
        }
        let missing = checks.iter().filter(|check| check.result.is_err()).count();
        writeln!(out, "{} of {} checks passed", checks.len() - missing, checks.len())?;
        Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}
