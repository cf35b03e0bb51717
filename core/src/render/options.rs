//! The choices an operator has about what is rendered.

use crate::netfilter::BackendName;

/// How a denied packet is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Deny {
    /// A TCP reset for TCP, an ICMP port unreachable for the rest.
    #[default]
    Reject,
    /// An ICMP port unreachable for everything.
    RejectIcmp,
    /// No answer.
    Drop,
}

/// What happens to an allowed packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Allowed {
    /// The rules that follow in FORWARD decide.
    #[default]
    Return,
    /// It is accepted, and the rules that follow in FORWARD are not asked.
    Accept,
}

/// What is enforced on traffic from a pod to its own node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PodToNode {
    /// Nothing, as the NetworkPolicy API demands.
    #[default]
    Allow,
    /// The pod's egress policies govern it; DHCP and DNS stay open.
    Policy,
    /// Pods isolated for egress cannot open connections to their node, but for DHCP and DNS.
    Drop,
}

/// What happens to live connections that lose what allowed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnRevoke {
    /// They are cut.
    #[default]
    Cut,
    /// They live on until they end.
    Keep,
}

/// What keeps a pod from sending under another's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// A table of family bridge binds each pod to its port.
    #[default]
    Ports,
    /// On the bridge, what comes from or goes to an address that no pod of this node has is refused: where the kernel has no
    /// such tables.
    Addresses,
    /// Nothing.
    Off,
}

/// The choices an operator has about what is rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The packet filter that is written to.
    pub backend: BackendName,
    /// The one bit of packet and connection marks that the rules use.
    pub mark: u32,
    /// The NFLOG group that refused packets are copied to.
    pub nflog_group: u16,
    /// The bridge that the pods are attached to.
    pub bridge: String,
    /// How a denied packet is answered.
    pub deny: Deny,
    /// What happens to an allowed packet.
    pub allowed: Allowed,
    /// What is enforced on traffic from a pod to its own node.
    pub pod_to_node: PodToNode,
    /// What happens to live connections that lose what allowed them.
    pub on_revoke: OnRevoke,
    /// What keeps a pod from sending under another's name.
    pub binding: Binding,
    /// Whether packets routed to the bridge for an address that no pod of this node is known to have are refused, while pods are
    /// bound at all. With `--unknown-pods=allow` they are not.
    pub refuse_unassigned: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            backend: BackendName::default(),
            mark: 0x10000,
            nflog_group: 101,
            bridge: "cni0".into(),
            deny: Deny::default(),
            allowed: Allowed::default(),
            pod_to_node: PodToNode::default(),
            on_revoke: OnRevoke::default(),
            binding: Binding::default(),
            refuse_unassigned: true,
        }
    }
}
