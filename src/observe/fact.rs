//! The values that the controller reports to the metrics.

use crate::net::Family;
use std::collections::BTreeMap;

/// A part of a sync whose duration is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// From the cluster to the plan.
    Compile,
    /// From the plan to chains and sets.
    Render,
    /// Reading the kernel.
    Read,
    /// Writing the kernel.
    Apply,
    /// Cutting live connections that are no longer allowed.
    Revoke,
    /// The whole sync.
    Total,
}

impl Phase {
    /// Every phase, in the order of a sync.
    pub const ALL: [Phase; 6] =
        [Phase::Compile, Phase::Render, Phase::Read, Phase::Apply, Phase::Revoke, Phase::Total];

    /// Its name in the label `phase`.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Compile => "compile",
            Phase::Render => "render",
            Phase::Read => "read",
            Phase::Apply => "apply",
            Phase::Revoke => "revoke",
            Phase::Total => "total",
        }
    }
}

/// What a change was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// A NetworkPolicy.
    Policy,
    /// A Pod.
    Pod,
    /// A Namespace.
    Namespace,
    /// A sandbox of this node.
    Sandbox,
    /// A port of the bridge.
    Port,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [ChangeKind; 5] =
        [ChangeKind::Policy, ChangeKind::Pod, ChangeKind::Namespace, ChangeKind::Sandbox, ChangeKind::Port];

    /// Its name in the label `kind`.
    pub fn word(self) -> &'static str {
        match self {
            ChangeKind::Policy => "policy",
            ChangeKind::Pod => "pod",
            ChangeKind::Namespace => "namespace",
            ChangeKind::Sandbox => "sandbox",
            ChangeKind::Port => "port",
        }
    }
}

/// How many objects, rules and sets there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Policies known.
    pub policies: usize,
    /// Policies that select a pod of this node.
    pub active_policies: usize,
    /// Pods of this node isolated for ingress.
    pub ingress_isolated_pods: usize,
    /// Pods of this node isolated for egress.
    pub egress_isolated_pods: usize,
    /// Pods of this node.
    pub local_pods: usize,
    /// Pods known.
    pub pods: usize,
    /// Sandboxes of this node that belong to a known pod.
    pub known_sandboxes: usize,
    /// Sandboxes of this node that belong to no known pod.
    pub unknown_sandboxes: usize,
    /// Ports of the bridge that are bound to a pod.
    pub bound_ports: usize,
    /// Pods of this node with an address whose port is unknown.
    pub unbound_pods: usize,
    /// Our objects in the kernel, by family; a family that is missing keeps its last values.
    pub kernel: BTreeMap<Family, KernelInventory>,
}

/// Our objects in the kernel, in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelInventory {
    /// Our chains.
    pub chains: usize,
    /// Rules in them.
    pub rules: usize,
    /// Our sets.
    pub sets: usize,
    /// Elements in them.
    pub set_members: usize,
}
