//! `bridgewarden migrate`: what is left to do to change over from another NetworkPolicy controller, or back. Changes nothing.

mod daemon_sets;
mod steps;

use super::agents::{INTERRUPTED, Kubectl, until_signal};
use super::flags::{BackendChoice, RenderFlags, host_name, require_root};
use crate::apply::Actual;
use crate::kernel::preflight::{self, Facts, OTHER_CONTROLLER, OTHER_VARIANT};
use crate::kernel::{Host, Lock};
use crate::netfilter::BackendName;
use anyhow::{Context, Result};
use clap::Args;
use daemon_sets::{DaemonSet, Helm, daemon_sets};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use steps::{MigrationState, MigrationStep};

/// How long the API server may take. Without one, the steps are the same.
const LIST_LIMIT: Duration = Duration::from_secs(5);
/// The DaemonSets of all namespaces are listed.
const NO_NAMESPACE: &str = "";
/// The checks of the node that are about other controllers, and not about what enforcement needs.
const OF_OTHERS: [&str; 2] = [OTHER_CONTROLLER, OTHER_VARIANT];

/// Says which steps are left to change over from another controller on this node.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Say the steps from Bridgewarden back to another controller
    #[arg(long)]
    back: bool,
    /// The context of the kubeconfig with which kubectl looks for controllers
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig with which kubectl looks for controllers
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The packet filter that Bridgewarden is to use
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    #[command(flatten)]
    flags: RenderFlags,
}

impl Migrate {
    /// Returns exit code 1 if a step is left.
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        require_root("migrate")?;
        let mut found = self.look()?;
        let Some(asked) = until_signal(async { Ok(self.ask_cluster().await) })? else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        match asked {
            Ok((others, own)) => (found.daemon_sets, found.own_release) = (others, own),
            Err(error) => writeln!(
                std::io::stderr(),
                "note: kubectl was asked for DaemonSets in vain ({error:#}), so the commands are the usual ones"
            )?,
        }
        let steps = if self.back { found.steps_back() } else { found.steps() };
        writeln!(out, "{}\n", found.summary())?;
        write_steps(&steps, out)?;
        let left = steps.iter().any(|step| step.done == Some(false));
        Ok(if left { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }

    /// What this node has.
    fn look(&self) -> Result<MigrationState> {
        let backend = self.backend.choose();
        self.flags.options(backend)?;
        let wanted = self.flags.wanted(backend, false);
        let facts = Facts::gather(&wanted);
        let needs =
            preflight::judge(&facts, &wanted).into_iter().filter(|check| !OF_OTHERS.contains(&check.name));
        // An agent that runs has the lock.
        let agent_runs = Lock::take().context("cannot look for an agent")?.is_none();
        // This backend needs neither iptables nor ipset.
        let actual = Actual::read(&mut Host::new(BackendName::Nftables)?)?;
        Ok(MigrationState {
            at_work: actual.controllers.at_work.clone(),
            unfinished: actual.controllers.unfinished.clone(),
            running: facts.running,
            has_leftovers: actual.controllers.left_something(),
            is_k3s: facts.is_k3s,
            cures: needs.filter_map(|check| check.result.err()).map(|missing| missing.cure).collect(),
            agent_runs,
            is_in_force: actual.is_in_force(),
            node: host_name()?,
            ..MigrationState::default()
        })
    }

    /// Asks the cluster for the DaemonSets of controllers.
    async fn ask_cluster(&self) -> Result<(Vec<DaemonSet>, Option<Helm>)> {
        let kubectl = Kubectl::new(self.context.as_deref(), self.kubeconfig.as_deref(), NO_NAMESPACE);
        let words = ["get", "daemonsets", "--all-namespaces", "--output=json"];
        daemon_sets(&kubectl.get(&words, LIST_LIMIT).await?).context("it printed no list of DaemonSets")
    }
}

/// One step for each paragraph; the first that is not done is the next one.
fn write_steps(steps: &[MigrationStep], out: &mut impl Write) -> Result<()> {
    let next = steps.iter().position(|step| step.done != Some(true));
    for (place, step) in steps.iter().enumerate() {
        let state = match (step.done, next == Some(place)) {
            (Some(true), _) => "done",
            (_, true) => "next",
            (_, false) => "",
        };
        writeln!(out, "[{state:4}] {}. {}", place + 1, step.what)?;
        if step.done != Some(true) {
            for command in &step.commands {
                writeln!(out, "           {command}")?;
            }
        }
    }
    Ok(())
}
