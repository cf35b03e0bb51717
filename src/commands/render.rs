//! `bridgewarden render`: the rules and sets of a node, as text that can be loaded.

use super::flags::{BackendChoice, RenderFlags};
use crate::controller::Enforcer;
use crate::model::Change;
use crate::net::Family;
use crate::netfilter::{BackendName, Ruleset};
use crate::ownership::INET_TABLE;
use crate::source::Directory;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RuleFormat {
    /// Everything, as a shell script that loads it. The default with ipset and iptables.
    Shell,
    /// The sets, for `ipset restore`.
    Ipset,
    /// The IPv4 rules, for `iptables-restore --noflush`.
    Iptables,
    /// The IPv6 rules, for `ip6tables-restore --noflush`.
    Ip6tables,
    /// The table of family inet, for `nft -f`. The only format with nftables.
    Nft,
}

/// Prints the rules and sets that an agent would write on a node.
#[derive(Debug, Args)]
pub(super) struct Render {
    /// Read this directory of manifests: Namespace, Pod and NetworkPolicy objects in YAML or JSON
    #[arg(value_name = "DIR")]
    manifests: PathBuf,
    /// Render for this node, as in the pods' spec.nodeName
    #[arg(long, value_name = "NODE")]
    node_name: String,
    /// Render for this packet filter
    #[arg(long, value_enum, default_value_t = BackendChoice::IptablesNft)]
    backend: BackendChoice,
    /// Print in this format
    #[arg(long, value_enum)]
    format: Option<RuleFormat>,
    #[command(flatten)]
    flags: RenderFlags,
}

impl Render {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        let backend = self.backend.choose();
        let options = self.flags.options(backend)?;
        let format = self.format(backend)?;
        let loaded = Directory::new(&self.manifests).load();
        if let Some(error) = loaded.error {
            bail!("cannot read {}:\n{error}", self.manifests.display());
        }
        for invalid in &loaded.invalid {
            let _ = writeln!(std::io::stderr(), "warning: {invalid}");
        }
        let is_here = |change: &Change| matches!(change, Change::Pod(pod) if pod.node.as_deref() == Some(&*self.node_name));
        if !loaded.changes.iter().any(is_here) {
            let _ = writeln!(
                std::io::stderr(),
                "warning: no pod of {} runs on a node {}, so these rules isolate nothing",
                self.manifests.display(),
                self.node_name
            );
        }
        let mut enforcer = Enforcer::new(&self.node_name, options).with_limits(self.flags.policy_limits);
        for change in loaded.changes {
            enforcer.apply(change);
        }
        self.print(format, &enforcer.ruleset(), out).context("cannot print the rules")?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self, backend: BackendName) -> Result<RuleFormat> {
        match (backend, self.format) {
            (BackendName::Nftables, None | Some(RuleFormat::Nft)) => Ok(RuleFormat::Nft),
            (BackendName::Nftables, Some(_)) => bail!("--backend=nftables has only --format=nft"),
            (BackendName::IptablesNft | BackendName::IptablesLegacy, Some(RuleFormat::Nft)) => {
                bail!("--format=nft is for --backend=nftables")
            }
            (BackendName::IptablesNft | BackendName::IptablesLegacy, format) => {
                Ok(format.unwrap_or(RuleFormat::Shell))
            }
        }
    }

    fn print(&self, format: RuleFormat, ruleset: &Ruleset, out: &mut impl Write) -> std::io::Result<()> {
        let table = |family| ruleset.tables.get(&family).map(|table| table.text()).unwrap_or_default();
        let (sets, v4, v6) = (ruleset.sets_text(), table(Family::V4), table(Family::V6));
        match format {
            RuleFormat::Nft => {
                let table = ruleset.inet.as_ref().map(ToString::to_string).unwrap_or_default();
                writeln!(
                    out,
                    "# What node {} holds. Load it with: nft -f - (where an agent has run, after: bridgewarden cleanup)",
                    self.node_name
                )?;
                write!(out, "table inet {INET_TABLE}\ndelete table inet {INET_TABLE}\n{table}")
            }
            RuleFormat::Ipset => write!(out, "{sets}"),
            RuleFormat::Iptables => write!(out, "{v4}"),
            RuleFormat::Ip6tables => write!(out, "{v6}"),
            RuleFormat::Shell => {
                writeln!(out, "# What node {} holds. Load it with: sh -e", self.node_name)?;
                writeln!(out, "ipset restore -exist <<'EOF'\n{sets}EOF")?;
                writeln!(out, "iptables-restore --noflush -w <<'EOF'\n{v4}EOF")?;
                writeln!(out, "ip6tables-restore --noflush -w <<'EOF'\n{v6}EOF")
            }
        }
    }
}
