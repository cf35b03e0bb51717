//! `bridgewarden demo`: a cluster of network namespaces on this host, with policies enforced and every connection
//! measured in it. What it does is in `testbed::demo`.

use super::flags::BackendChoice;
use crate::observe::LogFormat;
use crate::testbed::demo::{DemoSettings, Paint, run};
use anyhow::{Result, bail};
use clap::Args;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds a cluster of network namespaces, enforces policies in it, and measures every connection.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Use this directory of manifests: Namespace, Pod and NetworkPolicy objects in YAML or JSON. Without it, use a small
    /// sample shop
    #[arg(value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// Measure once, remove everything and end; the exit code is 0 only if everything is as expected
    #[arg(long)]
    once: bool,
    /// Name the network namespaces of this demo bw-ID-…
    #[arg(long, value_name = "ID", default_value = "demo", value_parser = id)]
    id: String,
    /// Let the agents write to this packet filter
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
}

impl Demo {
    /// Returns exit code 1 if anything measured differs from what is expected.
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        if !nix::unistd::geteuid().is_root() {
            bail!("demo makes network namespaces of its own, which needs root. Try: sudo bridgewarden demo");
        }
        crate::observe::init(LogFormat::Text, "bridgewarden=warn")?;
        let colour =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        let settings = DemoSettings {
            manifests: self.manifests.as_deref(),
            once: self.once,
            id: &self.id,
            paint: if colour { Paint::Colour } else { Paint::Plain },
            backend: &|| self.backend.choose(),
        };
        Ok(if run(&settings, out)? { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn id(text: &str) -> Result<String, String> {
    let fits = (1..=12).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    fits.then(|| text.to_owned()).ok_or_else(|| "use 1 to 12 lower-case letters and digits".to_owned())
}
