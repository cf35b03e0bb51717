//! What the kernel and the policies say of the same connections.

use super::flows::LocalFlow;
use crate::apply::Connection;
use crate::kernel::CountedRules;
use crate::net::{Family, Verdict};
use crate::netfilter::iptables::Count;
use crate::netfilter::{BackendName, ChainName};
use crate::verify::{FollowedPacket, FollowedRule, FollowedStage, ReadBinding};
use std::net::IpAddr;

/// What a node's kernel does with the connections of an answer.
pub(in crate::commands::explain) struct LiveReport {
    pub(super) node: String,
    pub(super) backend: BackendName,
    pub(super) flows: Vec<ComparedFlow>,
    /// Whether there are more connections than were followed.
    pub(super) left_out: bool,
    pub(super) remarks: Vec<String>,
    /// What the rules have counted, if that could be read.
    pub(super) counts: Option<CountedRules>,
}

/// One connection, as the kernel and the policies decide about it.
pub(in crate::commands::explain) struct ComparedFlow {
    pub(super) flow: LocalFlow,
    pub(super) ends: Vec<EndOnNode>,
    /// What the rules do with its first packet, or why that cannot be said.
    pub(super) followed: Result<Option<FollowedPacket>, String>,
    /// The connections that the kernel tracks, or why they cannot be listed.
    pub(super) tracked: Result<Vec<TrackedFlow>, String>,
    /// What on its way differs from what an agent would write.
    pub(super) differences: Vec<String>,
}

/// An end that is a pod of this node.
pub(in crate::commands::explain) struct EndOnNode {
    pub(super) pod: String,
    pub(super) address: IpAddr,
    /// Its port of the bridge, if it is known.
    pub(super) port: Option<BridgeEnd>,
}

/// A port of the bridge with what the kernel holds of it.
pub(in crate::commands::explain) struct BridgeEnd {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) binding: Result<ReadBinding, String>,
    /// Why this is not the binding that an agent would write.
    pub(super) problem: Option<String>,
}

/// A connection that the kernel tracks.
pub(in crate::commands::explain) struct TrackedFlow {
    pub(super) connection: Connection,
    /// Whether it is marked as one that was cut.
    pub(super) is_cut: bool,
    /// Whether its next packet passes, if that can be said.
    pub(super) passes: Option<bool>,
}

/// Whether the kernel does what policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands::explain) enum FlowAgreement {
    Agrees,
    /// The kernel lets pass what policies deny.
    KernelAllows,
    /// The kernel denies what policies allow.
    KernelDenies,
    /// They agree about the connection, and a pod is not bound to its port as it should be.
    NotBound,
    /// It cannot be said what the kernel does.
    Unjudged,
}

impl LiveReport {
    /// Whether the kernel does what policies say with every connection.
    pub(in crate::commands::explain) fn agrees(&self) -> bool {
        self.flows.iter().all(ComparedFlow::agrees)
    }

    /// Whether the kernel certainly does something else with one.
    pub(in crate::commands::explain) fn disagrees(&self) -> bool {
        let is_known = |flow: &&ComparedFlow| flow.agreement() != FlowAgreement::Unjudged;
        !self.flows.iter().filter(is_known).all(ComparedFlow::agrees)
    }

    /// What a rule has counted, or the counter that it counts in.
    pub(super) fn count(&self, family: Family, rule: &FollowedRule) -> Option<Count> {
        match self.counts.as_ref()? {
            CountedRules::Iptables(families) => {
                let chain = ChainName::new(&rule.chain)?;
                let (counted, count) =
                    families.get(&family)?.get(&chain)?.get(rule.number.checked_sub(1)?)?;
                (counted.to_string() == rule.text).then_some(*count)
            }
            CountedRules::Nftables(counters) => counters.get(rule.counter.as_ref()?).copied(),
        }
    }
}

impl ComparedFlow {
    /// Whether nothing is wrong with what the kernel does.
    pub(super) fn agrees(&self) -> bool {
        self.agreement() == FlowAgreement::Agrees
    }

    /// Whether the kernel does what policies say.
    pub(in crate::commands::explain) fn agreement(&self) -> FlowAgreement {
        let (passes, is_certain) = match &self.followed {
            Ok(Some(followed)) => (followed.passes(), followed.not_understood().next().is_none()),
            Ok(None) => (true, true),
            Err(_) => return FlowAgreement::Unjudged,
        };
        match (passes, self.flow.verdict) {
            (true, Verdict::Allowed) if !is_certain => FlowAgreement::Unjudged,
            (true, Verdict::Allowed) | (false, Verdict::Denied) if self.binding_problem().is_some() => {
                FlowAgreement::NotBound
            }
            (true, Verdict::Allowed) | (false, Verdict::Denied) => FlowAgreement::Agrees,
            (true, Verdict::Denied) => FlowAgreement::KernelAllows,
            (false, Verdict::Allowed) => FlowAgreement::KernelDenies,
        }
    }

    /// Why a pod is not bound to its port as it should be.
    fn binding_problem(&self) -> Option<String> {
        self.ends.iter().find_map(|end| {
            let port = end.port.as_ref()?;
            Some(format!("port {} of {} {}", port.name, end.pod, port.problem.as_ref()?))
        })
    }

    /// The table and rule in which its way ends.
    pub(super) fn last_rule(&self) -> Option<(&FollowedStage, &FollowedRule)> {
        let stage = self.followed.as_ref().ok()?.as_ref()?.stages.last()?;
        Some((stage, stage.rules.iter().rev().find(|rule| rule.missed.is_none())?))
    }

    /// The outcome in one sentence.
    pub(super) fn sentence(&self) -> String {
        let last = || match self.last_rule() {
            Some((_, rule)) => format!("its last rule is {} {}: {}", rule.chain, rule.number, rule.text),
            None => match &self.followed {
                Ok(Some(followed)) => {
                    let absence = followed.stages.iter().rev().find_map(|stage| stage.absence.clone());
                    absence.unwrap_or_else(|| "no rule matches it".to_owned())
                }
                Ok(None) | Err(_) => "it meets no rule".to_owned(),
            },
        };
        let agreed = if self.flow.verdict == Verdict::Allowed { "allow" } else { "deny" };
        // Policies do not restrict what a pod sends to its node, but with --pod-to-node.
        let policies = if self.flow.is_to_node() { "policies with --pod-to-node" } else { "policies" };
        match self.agreement() {
            FlowAgreement::Agrees => format!("kernel and {policies} {agreed} it"),
            FlowAgreement::NotBound => {
                let problem = self.binding_problem().unwrap_or_default();
                format!("kernel and {policies} {agreed} it, but {problem}")
            }
            FlowAgreement::KernelAllows => {
                format!("{policies} deny it, and the kernel lets it pass; {}", last())
            }
            FlowAgreement::KernelDenies => {
                format!("{policies} allow it, and the kernel denies it; {}", last())
            }
            FlowAgreement::Unjudged => match &self.followed {
                Err(why) => format!("it is not known what the kernel does: {why}"),
                Ok(followed) => {
                    let rule = followed.iter().find_map(|followed| followed.not_understood().next());
                    format!(
                        "it is not known what the kernel does: policies and the rules that are understood allow it, and a rule of \
                         another program before ours that is not understood may deny it: {}",
                        rule.unwrap_or_default()
                    )
                }
            },
        }
    }
}

/// Whether a difference between the kernel and what an agent would write concerns what a connection meets.
pub(super) fn relevant(compared: &ComparedFlow, difference: &str) -> bool {
    let family = Family::of(compared.flow.followed.flow.source);
    let others = Family::BOTH.into_iter().find(|other| *other != family);
    if others.is_some_and(|other| difference.contains(&format!("({other})"))) {
        return false;
    }
    let always = ["dormant", "is missing", "has no jump", "before its jump", "not shown"];
    if always.iter().any(|words| difference.contains(words)) {
        return true;
    }
    let trimmed = |word: &'_ str| word.trim_matches(|mark: char| !mark.is_ascii_alphanumeric()).to_owned();
    let words: Vec<String> = difference.split_whitespace().map(trimmed).collect();
    let names = |name: &str| words.iter().any(|word| word == name);
    let stages = compared.followed.iter().flatten().flat_map(|followed| &followed.stages);
    let mut rules = stages.flat_map(|stage| &stage.rules);
    rules.any(|rule| {
        let leads_to = rule.text.split_whitespace().any(|word| word.starts_with("KUBE-") && names(word));
        names(&rule.chain) || leads_to || rule.lookups.iter().any(|lookup| names(&lookup.set))
    })
}
