//! Flags that several commands share.

use crate::compile::Limits;
use crate::kernel::preflight::{self, Wanted};
use crate::netfilter::BackendName;
use crate::render::{Allowed, Binding, Deny, OnRevoke, Options, PodToNode};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

/// The default socket at which the daemon serves denied flows.
pub(super) const FLOWS_SOCKET: &str = "/run/bridgewarden/flows.sock";

/// The default socket at which the daemon serves its status.
pub(super) const STATUS_SOCKET: &str = "/run/bridgewarden/status.sock";

/// Which packet filter the program writes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendChoice {
    /// What the other programs on this host use: nftables if kube-proxy does or if iptables or ipset are missing, otherwise their
    /// variant of iptables.
    #[default]
    Auto,
    /// ipset and iptables over nf_tables.
    IptablesNft,
    /// ipset and iptables over x_tables.
    IptablesLegacy,
    /// One table of nftables; needs neither iptables nor ipset.
    Nftables,
}

impl BackendChoice {
    /// The backend to use; `auto` detects it.
    pub(super) fn choose(self) -> BackendName {
        match self {
            BackendChoice::Auto => {
                let (backend, reason) = preflight::detect_backend();
                tracing::info!(backend = backend.name(), reason, "backend chosen");
                backend
            }
            BackendChoice::IptablesNft => BackendName::IptablesNft,
            BackendChoice::IptablesLegacy => BackendName::IptablesLegacy,
            BackendChoice::Nftables => BackendName::Nftables,
        }
    }
}

/// What is rendered, and how.
#[derive(Clone, Debug, Args)]
pub(super) struct RenderFlags {
    /// Use this one bit of packet and connection marks
    #[arg(long, value_name = "BIT", default_value = "0x10000", value_parser = mark)]
    pub(super) mark: u32,
    /// Copy denied packets to this NFLOG group
    #[arg(long, value_name = "GROUP", default_value_t = 101)]
    pub(super) nflog_group: u16,
    /// Enforce on this bridge
    #[arg(long, value_name = "DEVICE", default_value = "cni0", value_parser = device)]
    pub(super) bridge: String,
    /// How to answer a denied packet
    #[arg(long, value_enum, default_value_t)]
    pub(super) deny: Deny,
    /// What to do with an allowed packet
    #[arg(long, value_enum, default_value_t)]
    pub(super) allowed: Allowed,
    /// What to enforce on traffic from a pod to its own node
    #[arg(long, value_enum, default_value_t)]
    pub(super) pod_to_node: PodToNode,
    /// What to do with a live connection that policies no longer allow
    #[arg(long, value_enum, default_value_t)]
    pub(super) on_revoke: OnRevoke,
    /// Bind each pod to its port of the bridge, so that it can send from its own addresses only
    #[arg(long, value_enum, default_value_t)]
    pub(super) bind_addresses: BindAddresses,
    /// Limits for one policy on this node: peers that select pods, sets, ports, prefixes of blocks, and members of its sets; and
    /// for the members of the sets of all policies of a namespace. Rules count in their order; what exceeds a limit allows nothing
    /// and is reported
    #[arg(long, value_name = "LIMITS", default_value_t)]
    pub(super) policy_limits: Limits,
}

/// Whether pods are bound to their ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum BindAddresses {
    /// With an nftables table of family bridge; without kernel support for it, like `addresses`
    #[default]
    On,
    /// With iptables rules that accept only the addresses of this node's pods. Weaker: a pod can still take over the address of
    /// another pod on the same bridge
    Addresses,
    /// Accept any address
    Off,
}

impl BindAddresses {
    /// The binding that this choice means if the kernel has tables of family bridge.
    fn binding(self) -> Binding {
        match self {
            BindAddresses::On => Binding::Ports,
            BindAddresses::Addresses => Binding::Addresses,
            BindAddresses::Off => Binding::Off,
        }
    }
}

impl RenderFlags {
    /// # Errors
    /// This backend does not support one of the choices.
    pub(super) fn options(&self, backend: BackendName) -> Result<Options> {
        if backend == BackendName::Nftables && self.allowed == Allowed::Accept {
            let bridge = &self.bridge;
            bail!(
                "--allowed=accept is not possible with --backend=nftables: there an accept ends one base chain, and the base chains \
                 of other programs that come later still decide. Use --allowed=return, and accept the pods' packets in the chain \
                 of the program that drops them, for example: iptables -I DOCKER-USER -i {bridge} -j ACCEPT && iptables -I \
                 DOCKER-USER -o {bridge} -j ACCEPT. Or use --backend=iptables-nft"
            );
        }
        Ok(Options {
            backend,
            mark: self.mark,
            nflog_group: self.nflog_group,
            bridge: self.bridge.clone(),
            deny: self.deny,
            allowed: self.allowed,
            pod_to_node: self.pod_to_node,
            on_revoke: self.on_revoke,
            binding: self.bind_addresses.binding(),
            refuse_unassigned: true,
        })
    }

    /// What this node must support for these choices. `may_load_tables` allows loading legacy tables for the check,
    /// which enforcement would load anyway.
    pub(super) fn wanted(&self, backend: BackendName, may_load_tables: bool) -> Wanted {
        Wanted {
            backend,
            bridge: self.bridge.clone(),
            mark: self.mark,
            log_group: Some(self.nflog_group),
            try_bridge_table: self.bind_addresses.binding() == Binding::Ports,
            may_load_tables,
        }
    }
}

fn mark(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x");
    let number = digits.map_or_else(|| text.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok());
    let bit = number.filter(|number| number.is_power_of_two());
    bit.ok_or_else(|| format!("`{text}` is not one bit of 32; write for example 0x10000"))
}

fn device(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'+' && byte != b'!';
    let fits = !text.is_empty() && text.len() <= 15 && text.bytes().all(legal);
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not a device name: 1 to 15 printable characters without / + !"))
}

/// This host's name, by which the kubelet names its node unless --hostname-override is set.
pub(super) fn host_name() -> Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name =
        std::fs::read_to_string(path).with_context(|| format!("cannot read this host's name in {path}"))?;
    Ok(name.trim().to_lowercase())
}

/// Fails without the right to use the packet filter.
pub(super) fn require_root(command: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "{command} reads or changes this host's packet filter, which needs root. Try: sudo bridgewarden {command} ..."
    )
}
