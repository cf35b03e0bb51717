//! `bridgewarden verify`: whether the rules in this node's kernel do what policies say.

mod cluster;
mod known;
mod report;

use super::agents::AgentFlags;
use super::flags::{BackendChoice, RenderFlags, require_root};
use super::progress::ProgressDisplay;
use crate::apply::Actual;
use crate::compile::UnknownPods;
use crate::controller::Enforcer;
use crate::kernel::{Host, sees_bridged};
use crate::model::Cluster;
use crate::netfilter::BackendName;
use crate::render::{Binding, Options};
use crate::verify::{Evidence, Verification, VerificationOutcome, differences, verify};
use anyhow::{Context, Result};
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use known::Source;
use report::{JudgedPod, JudgedPolicy, Report};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How often everything is read before a difference is reported: an agent may have been between two steps.
const ATTEMPTS: u32 = 5;
/// How long to wait before it is read again, times the number of the attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads this node's rules, sets and tables back and compares each decision that they make with what policies say. Changes nothing.
///
/// With --all or --node, each agent's container verifies its own node with the flags of its agent.
///
/// Exit codes: 0 all decisions agree, 1 one does not, 2 it could not be found out. Of several nodes, the highest counts.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Compare with this directory of manifests instead of a cluster: Namespace, Pod and NetworkPolicy objects in YAML or JSON
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "all", "node"])]
    manifests: Option<PathBuf>,
    /// Read CNI results in this directory, as the agent does. Empty to read none, which is the default with --manifests
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/cni/results",
        default_value_if("manifests", ArgPredicate::IsPresent, "")
    )]
    cni_results_dir: OsString,
    /// What the agent does with a pod that runs on this node and that the API server has not reported yet
    #[arg(long, value_enum, default_value_t)]
    unknown_pods: UnknownPods,
    /// Name of this node, as in the pods' spec.nodeName
    #[arg(long, value_name = "NODE", env = "NODE_NAME", required_unless_present_any = ["all", "node"])]
    node_name: Option<String>,
    /// Which packet filter the agent writes to; `auto` is the one that has its rules
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Print in this format
    #[arg(short, long, value_enum, default_value_t)]
    output: VerifyFormat,
    #[command(flatten)]
    render: RenderFlags,
    #[command(flatten)]
    agents: AgentFlags,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum VerifyFormat {
    /// For people
    #[default]
    Text,
    /// For programs and auditors
    Json,
}

impl Verify {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        if self.agents.are_given() {
            return self.ask_agents(out);
        }
        require_root("verify")?;
        let node = self.node_name.as_deref().unwrap_or_default();
        let backend = self.backend()?;
        let options = self.render.options(backend)?;
        let mut kernel = Host::new(backend).context("cannot open a netlink socket")?;
        let source = Source {
            manifests: self.manifests.clone(),
            kubeconfig: self.agents.kubeconfig.clone(),
            cni_results_dir: Some(&self.cni_results_dir).filter(|path| !path.is_empty()).map(PathBuf::from),
            bridge: (options.binding != Binding::Off).then(|| options.bridge.clone()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        let progress = ProgressDisplay::begin("reading policies and kernel, and comparing their decisions");
        let mut attempt = 1;
        let mut report = self.attempt(node, &source, &runtime, &options, &mut kernel, attempt)?;
        while attempt < ATTEMPTS && report.verification.finding != VerificationOutcome::Verified {
            std::thread::sleep(PAUSE * attempt);
            attempt += 1;
            let before = report;
            report = self.attempt(node, &source, &runtime, &options, &mut kernel, attempt)?;
            // Nothing changed meanwhile, so the next attempt would find the same.
            if report.verification == before.verification && report.digest == before.digest {
                break;
            }
        }
        drop(progress);
        match self.output {
            VerifyFormat::Text => writeln!(out, "{report}"),
            VerifyFormat::Json => writeln!(out, "{:#}", report.json()),
        }
        .context("cannot print the result")?;
        Ok(match &report.verification.finding {
            VerificationOutcome::Verified => ExitCode::SUCCESS,
            VerificationOutcome::Differs(_) => ExitCode::from(1),
            VerificationOutcome::Unjudged(_) => ExitCode::from(2),
        })
    }

    /// The backend to verify: the one that is named, or the one whose rules are in the kernel, or if there are none, the one that an
    /// agent would use.
    fn backend(&self) -> Result<BackendName> {
        // With this backend nothing is created by reading, not even a table of iptables.
        let mut kernel = Host::new(BackendName::Nftables).context("cannot open a netlink socket")?;
        // What cannot be read is an error when it is to be compared.
        let there = Actual::read(&mut kernel).map(|actual| actual.backends()).unwrap_or_default();
        let found = there.first().copied().filter(|_| self.backend == BackendChoice::Auto);
        let backend = found.unwrap_or_else(|| self.backend.choose());
        for other in there.iter().filter(|other| **other != backend) {
            let _ = writeln!(
                std::io::stderr(),
                "warning: rules of Bridgewarden are in this kernel with the backend {}, too, and are not compared; --backend={0} \
                 compares them",
                other.name()
            );
        }
        Ok(backend)
    }

    fn attempt(
        &self,
        node: &str,
        source: &Source,
        runtime: &tokio::runtime::Runtime,
        options: &Options,
        kernel: &mut Host,
        attempt: u32,
    ) -> Result<Report> {
        let time = jiff::Timestamp::now();
        let changes = runtime.block_on(source.read())?;
        let mut enforcer = Enforcer::new(node, options.clone())
            .with_unknown_pods(self.unknown_pods)
            .with_limits(self.render.policy_limits);
        changes.into_iter().for_each(|change| enforcer.apply(change));
        let actual = Actual::read(kernel).context("cannot read the packet filter")?;
        let options = enforcer.options().clone();
        let evidence = Evidence { options: options.clone(), actual, sees_bridged: sees_bridged() };
        let verification: Verification = verify(&evidence, &enforcer.expectation());
        let differences = match verification.finding {
            VerificationOutcome::Verified => Vec::new(),
            VerificationOutcome::Differs(_) | VerificationOutcome::Unjudged(_) => {
                differences(&enforcer.ruleset(), &evidence)
            }
        };
        Ok(Report {
            time,
            node: node.to_owned(),
            source: source.to_string(),
            backend: options.backend,
            attempt,
            namespaces: enforcer.cluster().namespaces().count(),
            pods: enforcer.cluster().pod_count(),
            policies: enforcer.cluster().policies().count(),
            judged_policies: enforcer
                .plan()
                .policies()
                .keys()
                .filter_map(|key| enforcer.cluster().policy(key))
                .map(JudgedPolicy::of)
                .collect(),
            judged_pods: judged_pods(enforcer.cluster()),
            digest: evidence.digest(),
            verification,
            differences,
        })
    }
}

/// The pods of this node that have an address.
fn judged_pods(cluster: &Cluster) -> Vec<JudgedPod> {
    let pods = cluster.local_pods().filter_map(|key| {
        let (addresses, _) = cluster.pod(key)?;
        let uid = cluster.uid_of(key).map(str::to_owned);
        Some(JudgedPod { key: key.clone(), uid, addresses: addresses.to_vec() })
    });
    pods.collect()
}
