//! The kernel of this host: sets, connections and nf_tables through netlink, iptables rules through `iptables-restore`.
//!
//! Comes in: steps, which change the kernel. Goes out: what the kernel holds. This room does not know what any chain or
//! set is for. Sockets belong to the network namespace of the thread that created the [`Host`], programs to that of the
//! thread that calls it: create and use it on one thread, or never change namespaces.

mod conntrack;
mod counters;
mod exec;
mod ipset;
mod iptables;
mod lock;
mod monitor;
mod netlink;
mod nftables;
mod packet_log;
pub mod preflight;
mod processes;
mod start_table;
mod table_list;
mod tracked_flows;

pub use counters::*;
pub use lock::Lock;
pub use packet_log::*;
pub use start_table::StartTable;
pub use tracked_flows::TrackedFlows;

use crate::apply::{
    Connection, Conntrack, KernelError, OtherController, PacketFilter, Step, TableRead, TableText, Tally,
    own_chains,
};
use crate::net::Family;
use crate::netfilter::ipset::Set;
use crate::netfilter::iptables::{Variant, target};
use crate::netfilter::nftables::TableFamily;
use crate::netfilter::{BackendName, SetName};
use crate::ownership::owns_chain;
use conntrack::ConntrackSocket;
use exec::Runner;
use ipset::{Ipset, Members};
use monitor::Monitor;
use nftables::Nftables;
use preflight::{CALL_IP6TABLES, CALL_IPTABLES, sysctl};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The kernel of this host, changed with one backend.
pub struct Host {
    backend: BackendName,
    runner: Runner,
    /// `None` if the kernel has no ipset and the backend does not need it.
    ipset: Option<Ipset>,
    conntrack: ConntrackSocket,
    nftables: Nftables,
    restores: u64,
    /// The filter tables of variants to which the backend does not write and that need not be read again: they contain
    /// no rules of this program or of another controller any more, or cannot be read.
    done_with: BTreeSet<(Variant, Family)>,
}

impl Host {
    /// Opens the sockets.
    ///
    /// # Errors
    /// CAP_NET_ADMIN is missing, or the kernel has no ipset and the backend needs it.
    pub fn new(backend: impl Into<BackendName>) -> Result<Host, KernelError> {
        Host::over(backend.into(), Nftables::open()?)
    }

    /// Opens a second one for another thread of this network namespace. Both change tables of nf_tables by one socket, so that a
    /// table which one of them owns can be changed by the other.
    ///
    /// # Errors
    /// As [`Host::new`].
    pub fn beside(&self) -> Result<Host, KernelError> {
        Host::over(self.backend, self.nftables.beside()?)
    }

    fn over(backend: BackendName, nftables: Nftables) -> Result<Host, KernelError> {
        let (runner, done_with) = (Runner::new(), BTreeSet::new());
        let ipset = match Ipset::open() {
            Ok(ipset) => Some(ipset),
            Err(_) if backend == BackendName::Nftables => None,
            Err(error) => return Err(error),
        };
        let conntrack = ConntrackSocket::open()?;
        Ok(Host { backend, runner, ipset, conntrack, nftables, restores: 0, done_with })
    }

    /// From now on makes its tables of nf_tables so that no other program can change or flush them while this lives, and that they
    /// stay after that (NFT_TABLE_F_OWNER with NFT_TABLE_F_PERSIST).
    ///
    /// # Errors
    /// The kernel cannot do that, and why. Any program can change its tables then.
    pub fn own_tables(&mut self) -> Result<(), KernelError> {
        self.nftables.own_tables()
    }

    /// Calls `report` at once whenever another program has changed, or may have changed, one of our chains, a built-in
    /// chain of the filter table or one of our own tables; an error is reported last. Returns false if changes of chains
    /// are not reported. The kernel never reports changes of x_tables and of ipset.
    pub fn report_external_changes(
        &mut self,
        report: impl Fn(Result<(), KernelError>) + Send + Sync + 'static,
    ) -> Result<bool, KernelError> {
        self.runner.monitor = Some(Monitor::begin(self.nftables.port(), report)?);
        Ok(self.backend != BackendName::IptablesLegacy)
    }
}

impl Host {
    fn ipset(&mut self) -> Result<&mut Ipset, KernelError> {
        let missing =
            || KernelError::Netlink { act: "change a set", source: std::io::ErrorKind::Unsupported.into() };
        self.ipset.as_mut().ok_or_else(missing)
    }

    /// Checks whether this kernel accepts the tables that bind pods to ports as this program writes them: they are created and
    /// removed.
    ///
    /// # Errors
    /// The reason why it does not.
    pub fn try_bridge_table(&mut self) -> Result<(), KernelError> {
        nftables::probe_binding(&self.nftables)
    }

    /// The filter table of a family; `None`, without starting a program, if it does not exist. Creates no table.
    ///
    /// # Errors
    /// The table could not be read, so it is not known whether it contains rules of this program.
    pub fn look(&mut self, variant: Variant, family: Family) -> Result<Option<TableText>, KernelError> {
        iptables::look(&mut self.runner, variant, family)
    }

    /// Removes the filter table of a family if it is empty and accepts everything, as `iptables-nft` leaves it. A
    /// legacy table stays: the kernel removes it only with its module.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn remove_empty_table(&mut self, variant: Variant, family: Family) -> Result<(), KernelError> {
        match variant {
            Variant::Nft => table_list::remove_empty_filter(family),
            Variant::Legacy => Ok(()),
        }
    }
}

impl PacketFilter for Host {
    fn backend(&self) -> BackendName {
        self.backend
    }

    fn read_table(&mut self, variant: Variant, family: Family) -> Result<TableText, KernelError> {
        if self.backend.variant() == Some(variant) {
            return iptables::save(&mut self.runner, variant, family);
        }
        if self.done_with.contains(&(variant, family)) {
            return Ok(TableText::default());
        }
        let read = iptables::look(&mut self.runner, variant, family).map(Option::unwrap_or_default);
        // With the backend `nftables`, the rules of a controller that uses iptables would be in this table.
        let stays_of_interest = |table: &TableText| {
            self.backend == BackendName::Nftables && variant == Variant::Nft
                || holds_rules_to_look_after(table)
        };
        if !read.as_ref().is_ok_and(stays_of_interest) {
            self.done_with.insert((variant, family));
        }
        read
    }

    fn read_nft_tables(&mut self) -> Result<BTreeMap<String, bool>, KernelError> {
        table_list::list()
    }

    fn running(&mut self, controllers: &BTreeSet<OtherController>) -> BTreeSet<OtherController> {
        controllers.iter().copied().filter(|controller| processes::is_running(controller.process())).collect()
    }

    fn read_sets(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, KernelError> {
        self.ipset.as_mut().map_or_else(|| Ok(BTreeMap::new()), |ipset| ipset.read(prefix))
    }

    fn read_nft_table(&mut self, family: TableFamily, name: &str) -> Result<TableRead, KernelError> {
        self.nftables.read(family, name)
    }

    fn commit(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::CreateSet(name, set) => self.ipset()?.create(name, set),
            Step::ReplaceSet(name, set) => self.ipset()?.replace(name, set),
            Step::AddElements(..) | Step::RemoveElements(..) => self.commit_all(std::slice::from_ref(step)),
            Step::DestroySet(name) => self.ipset()?.destroy(name),
            Step::Transact(batches) => self.nftables.commit(batches),
            Step::RemoveNftTable(table) => table_list::remove(table),
            Step::Restore(variant, family, restore) => {
                iptables::restore(&mut self.runner, *variant, *family, &restore.text)?;
                self.restores += 1;
                Ok(())
            }
        }
    }

    fn commit_all(&mut self, steps: &[Step]) -> Result<(), KernelError> {
        for together in steps.chunk_by(Step::goes_with) {
            let members: Vec<Members<'_>> = together.iter().filter_map(members).collect();
            match together {
                [Step::AddElements(..), ..] => self.ipset()?.add(&members)?,
                [Step::RemoveElements(..), ..] => self.ipset()?.remove(&members)?,
                others => others.iter().try_for_each(|step| self.commit(step))?,
            }
        }
        Ok(())
    }

    fn tally(&self) -> Tally {
        Tally {
            processes: self.runner.started,
            netlink_writes: self.ipset.as_ref().map_or(0, |ipset| ipset.writes) + self.conntrack.writes,
            elements: self.ipset.as_ref().map_or(0, |ipset| ipset.elements) + self.nftables.elements,
            restores: self.restores,
            transactions: self.nftables.transactions,
            cut: self.conntrack.cut,
        }
    }
}

impl Conntrack for Host {
    fn connections_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, KernelError> {
        let own = own_addresses()?;
        let mut connections = self.conntrack.list(addresses)?;
        for connection in &mut connections {
            connection.is_of_this_host =
                own.contains(&connection.source) || own.contains(&connection.destination);
        }
        Ok(connections)
    }

    fn delete(&mut self, connection: &Connection) -> Result<(), KernelError> {
        self.conntrack.delete(connection)
    }

    fn set_mark(&mut self, connection: &Connection, mark: u32) -> Result<(), KernelError> {
        self.conntrack.set_mark(connection, mark)
    }

    fn clear_mark(&mut self, connection: &Connection, mark: u32) -> Result<(), KernelError> {
        self.conntrack.clear_mark(connection, mark)
    }
}

/// Whether bridges show bridged packets of each family to the packet filter, in the order of [`Family::BOTH`]: the sysctls
/// net.bridge.bridge-nf-call-iptables and -ip6tables, which are there while br_netfilter is loaded.
pub fn sees_bridged() -> [bool; 2] {
    Family::BOTH.map(|family| {
        let name = match family {
            Family::V4 => CALL_IPTABLES,
            Family::V6 => CALL_IP6TABLES,
        };
        sysctl(name).is_some_and(|value| value != "0")
    })
}

/// Whether a filter table contains rules of this program or of another NetworkPolicy controller.
fn holds_rules_to_look_after(table: &TableText) -> bool {
    let mut rules = table.chains.values().flatten();
    rules.any(|rule| target(rule).is_some_and(owns_chain) || OtherController::of_hook(rule).is_some())
        || !own_chains(table).is_empty()
}

fn members(step: &Step) -> Option<Members<'_>> {
    match step {
        Step::AddElements(set, kind, _, elements) | Step::RemoveElements(set, kind, _, elements) => {
            Some(Members::new(set, *kind, elements))
        }
        Step::CreateSet(..)
        | Step::ReplaceSet(..)
        | Step::Restore(..)
        | Step::DestroySet(_)
        | Step::RemoveNftTable(_)
        | Step::Transact(_) => None,
    }
}

/// The addresses of this host, on every device.
fn own_addresses() -> Result<BTreeSet<IpAddr>, KernelError> {
    let failed =
        |error: nix::Error| KernelError::Netlink { act: "list the host's addresses", source: error.into() };
    let addresses = nix::ifaddrs::getifaddrs().map_err(failed)?.filter_map(|device| device.address);
    let address = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    };
    Ok(addresses.filter_map(address).collect())
}
