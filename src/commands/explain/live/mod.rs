//! `bridgewarden explain --live`: what this node's kernel does with the connections of an answer, read back and followed rule by
//! rule. Changes nothing.

mod compared;
mod flows;
mod json;
mod text;

pub(super) use compared::{ComparedFlow, FlowAgreement, LiveReport, TrackedFlow};
pub(super) use json::live_json;
pub(super) use text::print_live;

use crate::apply::{Actual, Connection, Conntrack};
use crate::commands::flags::{BackendChoice, RenderFlags, host_name};
use crate::compile::UnknownPods;
use crate::controller::Enforcer;
use crate::explain::Answer;
use crate::kernel::{Counters, Host, sees_bridged};
use crate::model::{Change, Snapshot};
use crate::net::Verdict;
use crate::netfilter::BackendName;
use crate::source::{Changed, CniResults, LinkWatch};
use crate::verify::{Evidence, FollowedRules, differences};
use anyhow::{Context, Result, bail};
use clap::Args;
use compared::relevant;
use flows::{LocalFlow, NodeFlows};
use std::ffi::OsString;
use std::time::Duration;

/// How often the kernel is read before a difference is reported: an agent may have been between two steps.
const ATTEMPTS: u32 = 3;
/// How long to wait before it is read again, times the number of the attempt.
const PAUSE: Duration = Duration::from_millis(300);
/// How many differences between the kernel and what an agent would write are named.
const MOST_DIFFERENCES: usize = 5;

/// How to read this node's kernel.
#[derive(Clone, Debug, Args)]
pub(super) struct LiveFlags {
    /// Also read this node's kernel, as root: which rules the connection meets, in which sets its ends are, to which port of the
    /// bridge each pod is bound, which connections the kernel tracks, and whether kernel and policies agree. Changes nothing.
    /// Give the flags that the agent runs with
    #[arg(long, conflicts_with = "fix")]
    pub(super) live: bool,
    /// Name of this node, as in the pods' spec.nodeName. Without it, the host's name
    #[arg(long, value_name = "NODE", env = "NODE_NAME")]
    node_name: Option<String>,
    /// Which packet filter the agent writes to; `auto` is the one that has its rules
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Read CNI results in this directory, as the agent does: they name each pod's port of the bridge
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/results")]
    cni_results_dir: OsString,
    /// What the agent does with a pod that runs on this node and that the API server has not reported yet
    #[arg(long, value_enum, default_value_t)]
    unknown_pods: UnknownPods,
    #[command(flatten)]
    render: RenderFlags,
}

impl LiveFlags {
    /// Reads the kernel and compares it with an answer.
    ///
    /// # Errors
    /// The kernel cannot be read, or there is nothing in it that the answer could be compared with.
    pub(super) fn compare(
        &self,
        snapshot: &Snapshot,
        answer: &Answer<'_>,
        by_service: bool,
    ) -> Result<LiveReport> {
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "cannot read the rules of this node's kernel: that needs root. Try: sudo bridgewarden explain --live ..., on the \
                 node or in the agent's container"
            );
        }
        let node = self.node()?;
        let flows = NodeFlows { snapshot, answer, node: &node, by_service };
        flows.check()?;
        // With this backend nothing is created by reading, not even a table of iptables.
        let mut kernel = Host::new(BackendName::Nftables).context("cannot open a netlink socket")?;
        let mut attempt = 1;
        loop {
            let report = self.attempt(&flows, &mut kernel)?;
            if attempt == ATTEMPTS || report.agrees() {
                return Ok(report);
            }
            std::thread::sleep(PAUSE * attempt);
            attempt += 1;
        }
    }

    fn node(&self) -> Result<String> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        host_name().context("give --node-name")
    }

    fn attempt(&self, flows: &NodeFlows<'_>, kernel: &mut Host) -> Result<LiveReport> {
        let actual = Actual::read(kernel).context("cannot read the packet filter")?;
        let (backend, mut remarks) = self.backend(&actual)?;
        let options = self.render.options(backend)?;
        let mut enforcer = Enforcer::new(flows.node, options)
            .with_unknown_pods(self.unknown_pods)
            .with_limits(self.render.policy_limits);
        let known = self.known_here(&mut remarks)?;
        flows.snapshot.changes().chain(known).for_each(|change| enforcer.apply(change));
        if enforcer.cluster().bridge().hardware.is_none() {
            bail!(
                "there is no bridge {0} on this node, so no pod is attached to it: name the bridge of your pod network with --bridge \
                 (ip link show type bridge lists those that there are)",
                self.render.bridge
            );
        }
        let options = enforcer.options().clone();
        let evidence = Evidence { options, actual, sees_bridged: sees_bridged() };
        let counts = Counters::new(backend).read();
        let counts = counts.map_err(|error| remarks.push(format!("counters cannot be read: {error}"))).ok();
        let (mut local, left_out) = flows.of_cluster(enforcer.cluster());
        if local.is_empty() {
            bail!(
                "no connection to follow: no address is known of one of the ends. A pod's is in its status, or in its CNI result in {}; a \
                 node's is in the status of its Node object",
                self.cni_results_dir.display()
            );
        }
        let mut report =
            LiveReport { node: flows.node.to_owned(), backend, flows: Vec::new(), left_out, remarks, counts };
        if local.iter().any(LocalFlow::is_to_node) {
            let expectation = enforcer.expectation();
            for flow in local.iter_mut().filter(|flow| flow.is_to_node()) {
                let allowed = expectation.allows_to_node(self.render.pod_to_node, &flow.followed.flow);
                flow.verdict = if allowed { Verdict::Allowed } else { Verdict::Denied };
            }
        }
        let sources = local.iter().map(|flow| flow.followed.flow.source).collect();
        let connections = kernel.connections_of(&sources).map_err(|error| error.to_string());
        let rules = FollowedRules::of(&evidence);
        let mut all = None;
        for flow in local {
            let mut compared = compare_flow(flow, (&evidence, &rules), &enforcer, &connections);
            if compared.agreement() != FlowAgreement::Agrees {
                let all = all.get_or_insert_with(|| differences(&enforcer.ruleset(), &evidence));
                let own = all.iter().filter(|difference| relevant(&compared, difference));
                compared.differences = own.take(MOST_DIFFERENCES).cloned().collect();
            }
            report.flows.push(compared);
        }
        Ok(report)
    }

    /// The backend whose rules are in force.
    fn backend(&self, actual: &Actual) -> Result<(BackendName, Vec<String>)> {
        let in_force = actual.backends();
        let chosen = (self.backend != BackendChoice::Auto).then(|| self.backend.choose());
        let wanted = match chosen {
            None => in_force.first().copied(),
            Some(chosen) => in_force.contains(&chosen).then_some(chosen),
        };
        let unread = actual.unread.iter().map(|why| format!(". Not read: {why}")).collect::<String>();
        let Some(backend) = wanted else {
            let of = match chosen {
                None => "with any backend".to_owned(),
                Some(chosen) => format!("with --backend={}", chosen.name()),
            };
            bail!(
                "no rules of Bridgewarden are in force in this node's kernel, {of}: policies deny nothing here. Start the agent, or \
                 see why it does not enforce: its /readyz says so, and so does bridgewarden preflight{unread}"
            );
        };
        let others = in_force.iter().filter(|other| **other != backend);
        let remarks = others.map(|other| {
            format!(
                "rules of Bridgewarden are in force with the backend {}, too, and are not followed; --backend={0} follows them",
                other.name()
            )
        });
        Ok((backend, remarks.collect()))
    }

    /// What is known of this node's sandboxes and of the ports of its bridge.
    fn known_here(&self, remarks: &mut Vec<String>) -> Result<Vec<Change>> {
        let found = CniResults::new(&self.cni_results_dir).scan(&Changed::Anything);
        if found.missing {
            remarks.push(format!(
                "there is no directory {}, so it is not known which port of the bridge is a pod's: give --cni-results-dir",
                self.cni_results_dir.display()
            ));
        }
        remarks.extend(found.problem.into_iter().chain(found.problems.into_values()));
        let mut changes = found.changes;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime that reads the ports of the bridge")?;
        let links = runtime.block_on(async { LinkWatch::new(&self.render.bridge)?.changed().await });
        let links =
            links.with_context(|| format!("cannot read the ports of the bridge {}", self.render.bridge))?;
        changes.extend(links.into_iter().map(Change::Link));
        Ok(changes)
    }
}

/// Follows one connection through what was read.
fn compare_flow(
    flow: LocalFlow,
    (evidence, rules): (&Evidence, &FollowedRules<'_>),
    enforcer: &Enforcer,
    connections: &Result<Vec<Connection>, String>,
) -> ComparedFlow {
    let followed = rules.follow(&flow.followed);
    let tracked = connections.as_ref().map_err(Clone::clone).map(|all| {
        let own = all.iter().filter(|connection| flow.is_of(connection));
        let tracked = own.map(|connection| TrackedFlow {
            is_cut: connection.mark & evidence.options.mark != 0,
            passes: rules.follow_established(&flow.followed, connection.mark).ok().flatten(),
            connection: connection.clone(),
        });
        tracked.collect()
    });
    let ends = flow.ends(evidence, enforcer.cluster(), enforcer.plan());
    ComparedFlow { flow, ends, followed, tracked, differences: Vec::new() }
}
