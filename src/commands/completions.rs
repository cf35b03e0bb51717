//! `bridgewarden completions`: what a shell needs to complete a command line of this program.

use super::program;
use anyhow::{Context, Result};
use clap::Args;
use clap_complete::{Shell, generate};
use std::io::Write;
use std::process::ExitCode;

/// Prints a script with which a shell completes the command line.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "Examples:
  bridgewarden completions bash > /usr/share/bash-completion/completions/bridgewarden
  bridgewarden completions zsh > \"${fpath[1]}/_bridgewarden\"
  bridgewarden completions fish > ~/.config/fish/completions/bridgewarden.fish";

impl Completions {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        let mut script = Vec::new();
        generate(self.shell, &mut program(), "bridgewarden", &mut script);
        out.write_all(&script).context("cannot print the script")?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            Completions { shell: *shell }.execute(&mut script).expect("printed");
            let script = String::from_utf8(script).expect("text");
            for command in ["run", "reach", "explain", "flows", "verify"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }
}
