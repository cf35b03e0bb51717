//! Collects facts of this host, without judging them.

use super::probe::{self, RefusedRule};
use super::{Saved, Wanted, others};
use crate::apply::{KernelError, OtherController};
use crate::kernel::exec::Runner;
use crate::kernel::nftables::{self, Nftables};
use crate::kernel::{iptables, processes, table_list};
use crate::net::Family;
use crate::netfilter::BackendName;
use crate::netfilter::iptables::Variant;
use crate::netfilter::nftables::TableFamily;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The sysctl by which bridged IPv4 packets pass iptables.
pub const CALL_IPTABLES: &str = "net.bridge.bridge-nf-call-iptables";
/// The sysctl by which bridged IPv6 packets pass ip6tables.
pub const CALL_IP6TABLES: &str = "net.bridge.bridge-nf-call-ip6tables";
pub(super) const FORWARD_V4: &str = "net.ipv4.ip_forward";
pub(super) const FORWARD_V6: &str = "net.ipv6.conf.all.forwarding";

/// The scope of a global address in /proc/net/if_inet6.
const GLOBAL_SCOPE: &str = "00";

/// Facts of a host that decide whether policies can be enforced on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The effective capabilities of this process, one bit each (linux/capability.h).
    pub capabilities: u64,
    /// Whether br_netfilter is loaded, so that iptables sees bridged packets: /proc/sys/net/bridge exists.
    pub bridge_netfilter: bool,
    /// Whether the kernel supports IPv6: /proc/sys/net/ipv6 exists.
    pub ipv6: bool,
    /// The sysctls that are checked, by dotted name, as far as they exist.
    pub sysctls: BTreeMap<&'static str, String>,
    /// The network devices.
    pub devices: BTreeSet<String>,
    /// Whether the bridge has a global IPv6 address, which means that pods have some, too.
    pub bridge_has_ipv6: bool,
    /// The required programs that are in no directory of PATH.
    pub absent_programs: Vec<&'static str>,
    /// The kinds of sets that the kernel rejected, and why.
    pub refused_sets: Vec<(String, String)>,
    /// Whether rules were tried.
    pub tried_rules: bool,
    /// The rules that the kernel rejected.
    pub refused_rules: Vec<RefusedRule>,
    /// Whether the kernel accepted a table of family bridge, or why it did not; `None` if this was not tried.
    pub bridge_table: Option<Result<(), String>>,
    /// Whether the kernel accepted a table of family inet as the backend `nftables` writes it, or why it did not;
    /// `None` if this was not tried.
    pub inet_table: Option<Result<(), String>>,
    /// Whether the kernel has owners of tables that the tables outlive, or why it has not; nothing if none was tried.
    pub table_owner: Option<Result<(), String>>,
    /// The flowtables, named as in `nft`: packets of their connections skip the forward hook.
    pub flowtables: BTreeSet<String>,
    /// The existing rules.
    pub saved: Saved,
    /// The tables of nf_tables, named as in `nft`.
    pub nft_tables: BTreeSet<String>,
    /// The other NetworkPolicy controllers whose process was found.
    pub running: BTreeSet<OtherController>,
    /// Whether this is a node of k3s.
    pub is_k3s: bool,
    /// The NFLOG groups that have a reader, with the reader's netlink port.
    pub log_readers: BTreeMap<u16, String>,
}

impl Facts {
    /// Collects all facts.
    pub fn gather(wanted: &Wanted) -> Facts {
        let mut runner = Runner::new();
        let variant = wanted.backend.variant();
        let programs = Family::BOTH
            .into_iter()
            .flat_map(|family| variant.map(|variant| [variant.save(family), variant.restore(family)]))
            .flatten();
        let mut facts = Facts {
            capabilities: effective_capabilities(&read("/proc/thread-self/status")),
            devices: devices(&read("/proc/thread-self/net/dev")),
            absent_programs: programs.filter(|program| !installed(program)).collect(),
            saved: Saved::gather(&mut runner),
            nft_tables: nft_tables(),
            flowtables: table_list::flowtables().unwrap_or_default(),
            is_k3s: is_k3s(&read("/proc/self/mountinfo"), |path| Path::new(path).exists()),
            log_readers: log_readers(&read("/proc/thread-self/net/netfilter/nfnetlink_log")),
            ..Facts::gather_sysctls(wanted)
        };
        let has_controller = others::has_controller(&facts);
        if has_controller {
            let running = |controller: &OtherController| processes::is_running(controller.process());
            facts.running = OtherController::ALL.into_iter().filter(running).collect();
        }
        // Nothing is written while another controller has rules.
        if !has_controller && variant.is_some() {
            facts.refused_sets = probe::refused_sets();
        }
        if !has_controller && wanted.backend == BackendName::Nftables {
            facts.inet_table = Some(tried(|kernel| nftables::probe(kernel, TableFamily::Inet)));
        }
        if wanted.try_bridge_table && !has_controller {
            facts.bridge_table = Some(tried(nftables::probe_binding));
        }
        if facts.inet_table.is_some() || facts.bridge_table.is_some() {
            let tried = Nftables::open().and_then(|mut kernel| kernel.own_tables());
            facts.table_owner = Some(tried.map_err(|error| error.to_string()));
        }
        if let Some(variant) = variant {
            let may_load = wanted.may_load_tables
                || Family::BOTH.into_iter().all(|family| iptables::may_read(variant, family));
            let can_try = facts.absent_programs.is_empty() && facts.refused_sets.is_empty();
            if can_try && may_load && !has_controller {
                facts.refused_rules = probe::refused_rules(&mut runner, variant);
                facts.tried_rules = true;
            }
        }
        facts
    }

    /// Collects the facts that can be read from files.
    pub fn gather_sysctls(wanted: &Wanted) -> Facts {
        let names = [CALL_IPTABLES, CALL_IP6TABLES, FORWARD_V4, FORWARD_V6];
        let values = names.into_iter().filter_map(|name| Some((name, sysctl(name)?)));
        Facts {
            bridge_netfilter: Path::new("/proc/sys/net/bridge").exists(),
            ipv6: Path::new("/proc/sys/net/ipv6").exists(),
            sysctls: values.collect(),
            bridge_has_ipv6: has_global_ipv6(&read("/proc/thread-self/net/if_inet6"), &wanted.bridge),
            ..Facts::default()
        }
    }
}

/// The value of a sysctl by its dotted name, if it exists.
pub(in crate::kernel) fn sysctl(name: &str) -> Option<String> {
    let value = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(value.trim().to_owned())
}

/// Tries whether the kernel accepts what a probe writes.
fn tried(probe: impl Fn(&Nftables) -> Result<(), KernelError>) -> Result<(), String> {
    let tried = Nftables::open().and_then(|kernel| probe(&kernel));
    tried.map_err(|error| error.to_string())
}

/// The tables of nf_tables. Empty if they cannot be listed: the check `rules` reports what cannot be read.
pub(super) fn nft_tables() -> BTreeSet<String> {
    table_list::list().unwrap_or_default().into_keys().collect()
}

/// Whether the programs of a variant are installed, for both families.
pub(super) fn usable(variant: Variant) -> bool {
    Family::BOTH
        .into_iter()
        .all(|family| installed(variant.save(family)) && installed(variant.restore(family)))
}

/// Whether the program is in a directory of PATH.
fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}

/// The content of a file of the kernel; empty if it cannot be read.
pub(in crate::kernel) fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Whether the mounts of this process's container, or a path of the host, are those of k3s. The sources of a
/// container's mounts show which runtime created it.
fn is_k3s(mounts: &str, exists: impl Fn(&str) -> bool) -> bool {
    let paths = ["/var/lib/rancher/k3s", "/etc/rancher/k3s", "/run/k3s"];
    paths.into_iter().any(|path| mounts.contains(path) || exists(path))
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default()
}

fn devices(table: &str) -> BTreeSet<String> {
    table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

/// Address, index, prefix length, scope, flags, device.
fn has_global_ipv6(table: &str, device: &str) -> bool {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
        columns.get(3).is_some_and(|scope| *scope == GLOBAL_SCOPE) && columns.get(5) == Some(&device)
    })
}

/// Group, netlink port, queue length and more.
fn log_readers(table: &str) -> BTreeMap<u16, String> {
    let reader = |line: &str| {
        let mut columns = line.split_whitespace();
        Some((columns.next()?.parse().ok()?, columns.next()?.to_owned()))
    };
    table.lines().filter_map(reader).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_are_read_by_column() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t0000000000003000\n"), 0x3000);
        let table = "Inter-| Receive\n face |bytes\n    lo:  0 0\n  cni0: 12 0\n";
        assert!(devices(table).contains("cni0") && devices(table).contains("lo"));
        let addresses = "fe8000000000000000fc00fffe000001 04 40 20 80     cni0\n\
                         fd000000000000000000000000000001 04 40 00 80     eth0\n";
        assert!(!has_global_ipv6(addresses, "cni0"));
        assert!(has_global_ipv6(addresses, "eth0"));
        let readers = log_readers("  101   4242     0 2 65535    100  1\n");
        assert_eq!(readers, BTreeMap::from([(101, "4242".to_owned())]));
    }

    #[test]
    fn k3s_shows_in_what_its_containers_are_mounted_from() {
        let mounted = "1 2 0:1 / / rw - overlay overlay rw,upperdir=/var/lib/rancher/k3s/agent/containerd/x/fs,workdir=/w";
        assert!(is_k3s(mounted, |_| false) && is_k3s("", |path| path == "/etc/rancher/k3s"));
        assert!(!is_k3s(&mounted.replace("rancher/k3s", "containerd"), |_| false));
    }

    #[test]
    fn tables_that_are_not_there_tell_nothing() {
        assert_eq!(effective_capabilities(""), 0);
        assert!(devices("").is_empty() && log_readers("garbage\n").is_empty());
        assert!(!has_global_ipv6("garbage\n", "cni0"));
    }
}
