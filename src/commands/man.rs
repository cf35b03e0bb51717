//! `bridgewarden man`: the manual pages of this program.

use super::program;
use anyhow::{Context, Result};
use clap::Args;
use clap_mangen::Man;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes manual pages.
#[derive(Debug, Args)]
pub(super) struct ManPages {
    /// Write a page for each command to this directory, such as /usr/local/share/man/man1. Without it, print the page of the program
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl ManPages {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        match &self.directory {
            Some(directory) => {
                std::fs::create_dir_all(directory)
                    .and_then(|()| clap_mangen::generate_to(program(), directory))
                    .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
            }
            None => {
                let mut page = Vec::new();
                Man::new(program()).render(&mut page).context("cannot write the manual page")?;
                out.write_all(&page).context("cannot print the manual page")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_its_flags() {
        let directory = std::env::temp_dir().join(format!("bridgewarden-man-{}", std::process::id()));
        ManPages { directory: Some(directory.clone()) }.execute(&mut Vec::new()).expect("written");
        for (command, flag) in [("run", "own\\-tables"), ("flows", "since"), ("reach", "exposed")] {
            let page =
                std::fs::read_to_string(directory.join(format!("bridgewarden-{command}.1"))).expect("a page");
            assert!(page.contains(flag), "{command}: {flag}");
        }
        std::fs::remove_dir_all(&directory).expect("it was ours");
        let mut page = Vec::new();
        ManPages { directory: None }.execute(&mut page).expect("printed");
        assert!(String::from_utf8(page).expect("text").contains("bridgewarden"));
    }
}
