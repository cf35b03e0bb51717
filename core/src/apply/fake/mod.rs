//! A kernel in memory that rejects what a real kernel rejects. For tests, and for checking rules without root.

mod owner;
mod restore;

use super::{Connection, Conntrack, KernelError, PacketFilter, Step, TableRead, TableText, Tally};
use crate::net::{Family, Protocol};
use crate::netfilter::ipset::{Element, MAX_ELEMENTS, Set, Type};
use crate::netfilter::iptables::{Chains, Match, SetLookup, Variant, parse_rule};
use crate::netfilter::nftables::{Batch, TableFamily};
use crate::netfilter::{BackendName, SetName, nftables};
use owner::TableOwners;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The tables and sets of a kernel that starts out empty.
#[derive(Clone, Debug)]
pub struct Fake {
    backend: BackendName,
    tables: BTreeMap<(Variant, Family), BTreeMap<String, Vec<String>>>,
    sets: BTreeMap<SetName, Set>,
    tables_of_nft: BTreeMap<(TableFamily, Box<str>), nftables::Table>,
    owners: TableOwners,
    nft_tables: BTreeSet<String>,
    tally: Tally,
    fail_after: Option<usize>,
    /// The most elements that a set may hold.
    room: usize,
}

const BUILTIN: [&str; 3] = ["FORWARD", "INPUT", "OUTPUT"];

impl Default for Fake {
    fn default() -> Fake {
        let table: BTreeMap<_, _> = BUILTIN.map(|name| (name.to_string(), Vec::new())).into();
        let tables =
            Variant::BOTH.into_iter().flat_map(|variant| Family::BOTH.map(|family| (variant, family)));
        Fake {
            backend: BackendName::default(),
            tables: tables.map(|key| (key, table.clone())).collect(),
            sets: BTreeMap::new(),
            tables_of_nft: BTreeMap::new(),
            owners: TableOwners::default(),
            nft_tables: BTreeSet::new(),
            tally: Tally::default(),
            fail_after: None,
            room: MAX_ELEMENTS as usize,
        }
    }
}

impl Fake {
    /// Lets this many more steps succeed, and fails the next one for lack of memory.
    pub fn fail_after(&mut self, steps: usize) {
        self.fail_after = Some(steps);
    }

    /// From now on a set can hold at most this many elements, like one with so low a `maxelem`.
    pub fn limit_sets(&mut self, room: usize) {
        self.room = room;
    }

    /// The rules of a family's table in the variant `nft`, to inspect or to change as another program would.
    pub fn table(&mut self, family: Family) -> &mut BTreeMap<String, Vec<String>> {
        self.tables.entry((Variant::Nft, family)).or_default()
    }

    /// Exchanges the tables of the two variants of iptables, as if an agent with the other `--backend` had written
    /// them.
    pub fn swap_variants(&mut self) {
        let tables = std::mem::take(&mut self.tables).into_iter();
        self.tables = tables.map(|((variant, family), table)| ((variant.other(), family), table)).collect();
    }

    /// From now on, the kernel is changed with this backend.
    pub fn switch_backend(&mut self, backend: BackendName) {
        self.backend = backend;
    }

    /// The sets, to inspect or to change as another program would.
    pub fn sets(&mut self) -> &mut BTreeMap<SetName, Set> {
        &mut self.sets
    }

    /// A table of nf_tables.
    pub fn table_of_nft(&self, family: TableFamily, name: &str) -> Option<&nftables::Table> {
        self.tables_of_nft.get(&(family, name.into()))
    }

    /// The tables of nf_tables, to inspect or to change as another program would.
    pub fn tables_of_nft(&mut self) -> &mut BTreeMap<(TableFamily, Box<str>), nftables::Table> {
        &mut self.tables_of_nft
    }

    /// From now on another process changes it: the one that did has ended.
    pub fn end_process(&mut self) {
        self.owners.end_process();
    }

    /// From now on it has no owners of tables, as Linux before 6.9; a table that has one has none.
    pub fn without_owners(&mut self) {
        self.owners = TableOwners::unknown();
    }

    /// Takes the owners of all tables away, as if a program had written them that wants none.
    pub fn disown_tables(&mut self) {
        self.owners = TableOwners::default();
    }

    /// The tables of nf_tables that iptables does not show, as `nft` names them.
    pub fn nft_tables(&mut self) -> &mut BTreeSet<String> {
        &mut self.nft_tables
    }

    /// Our chains of a family in the variant `nft`, typed.
    pub fn chains(&self, family: Family) -> Chains {
        let actual = super::Actual::read(&mut self.clone());
        actual.map(|actual| actual.chains(Variant::Nft, family)).unwrap_or_default()
    }

    fn is_referenced(&self, name: &SetName) -> bool {
        let rules = self.tables.values().flat_map(BTreeMap::values).flatten();
        let mut parsed = rules.filter_map(|rule| parse_rule(rule).ok());
        parsed.any(|rule| {
            rule.matches.iter().any(
                |condition| matches!(condition, Match::Set(set, _) | Match::NotInSet(set, _) if set == name),
            )
        })
    }

    fn check_elements<'a>(
        &self,
        set: &Set,
        mut elements: impl Iterator<Item = &'a Element>,
    ) -> Result<(), &'static str> {
        let fits = |element: &&Element| {
            let (of, address) = match element {
                Element::Address(address) => (Type::HashIp, *address),
                Element::Net { net, .. } if net.prefix_len() == 0 => return false,
                Element::Net { net, .. } => (Type::HashNet, net.addr()),
                Element::AddressPort(address, ..) => (Type::HashIpPort, *address),
            };
            set.kind.of == of && set.kind.family == Family::of(address)
        };
        let is_zero = |element: &Element| match element {
            Element::Address(address) | Element::AddressPort(address, ..) => address.is_unspecified(),
            Element::Net { .. } => false,
        };
        if !elements.all(|element| fits(&element) && !is_zero(element)) {
            return Err("an element does not fit the set");
        }
        Ok(())
    }

    fn check_room(&self, elements: usize) -> Result<(), &'static str> {
        if elements > self.room { Err("the set is full") } else { Ok(()) }
    }

    fn change_set(&mut self, step: &Step) -> Result<(), (String, &'static str)> {
        match step {
            Step::CreateSet(name, set) => {
                let blame = |reason| (name.to_string(), reason);
                if self.sets.contains_key(name) {
                    return Err(blame("it exists"));
                }
                self.check_elements(set, set.elements.iter()).map_err(blame)?;
                self.check_room(set.elements.len()).map_err(blame)?;
                self.sets.insert(name.clone(), set.clone());
            }
            Step::ReplaceSet(name, set) => {
                let blame = |reason| (name.to_string(), reason);
                let there = self.sets.get(name).ok_or(blame("it does not exist"))?;
                if there.kind != set.kind {
                    return Err(blame("kinds differ"));
                }
                self.check_elements(set, set.elements.iter()).map_err(blame)?;
                self.check_room(set.elements.len()).map_err(blame)?;
                self.sets.insert(name.clone(), set.clone());
            }
            Step::AddElements(name, _, _, elements) => {
                let blame = |reason| (name.to_string(), reason);
                let there = self.sets.get(name).ok_or(blame("it does not exist"))?;
                self.check_elements(there, elements.iter()).map_err(blame)?;
                self.check_room(there.elements.union(elements).count()).map_err(blame)?;
                self.sets.entry(name.clone()).and_modify(|set| set.elements.extend(elements));
                self.tally.elements += elements.len() as u64;
            }
            Step::RemoveElements(name, _, _, elements) => {
                let there = self.sets.get_mut(name).ok_or((name.to_string(), "it does not exist"))?;
                there.elements.retain(|element| !elements.contains(element));
                self.tally.elements += elements.len() as u64;
            }
            Step::DestroySet(name) => {
                if self.is_referenced(name) {
                    return Err((name.to_string(), "it is in use by a rule"));
                }
                // A set that no longer exists is no error.
                self.sets.remove(name);
            }
            Step::RemoveNftTable(table) => drop(self.nft_tables.remove(table)),
            Step::Restore(..) | Step::Transact(_) => {}
        }
        Ok(())
    }
}

/// ENOMEM, as the program or the kernel reports it.
fn out_of_memory(step: &Step) -> KernelError {
    let reason = "the kernel is out of memory";
    match step {
        Step::Restore(..) | Step::RemoveNftTable(_) | Step::Transact(_) => {
            refused(&format!("{step:?}"), reason)
        }
        Step::CreateSet(name, _)
        | Step::ReplaceSet(name, _)
        | Step::AddElements(name, ..)
        | Step::RemoveElements(name, ..)
        | Step::DestroySet(name) => {
            KernelError::Set { act: "change", set: name.to_string(), reason: reason.into(), code: 12 }
        }
    }
}

fn refused(line: &str, reason: &str) -> KernelError {
    KernelError::Program {
        program: "iptables-restore".into(),
        status: "refused by the fake kernel".into(),
        stderr: reason.into(),
        line: Some(line.into()),
    }
}

impl PacketFilter for Fake {
    fn backend(&self) -> BackendName {
        self.backend
    }

    fn read_table(&mut self, variant: Variant, family: Family) -> Result<TableText, KernelError> {
        self.tally.processes += u64::from(self.backend.variant() == Some(variant));
        Ok(TableText { chains: self.tables.get(&(variant, family)).cloned().unwrap_or_default() })
    }

    fn read_nft_tables(&mut self) -> Result<BTreeMap<String, bool>, KernelError> {
        Ok(self.nft_tables.iter().map(|table| (table.clone(), false)).collect())
    }

    fn read_sets(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, KernelError> {
        let own = self.sets.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
        Ok(own.map(|(name, set)| (name.clone(), set.clone())).collect())
    }

    fn read_nft_table(&mut self, family: TableFamily, name: &str) -> Result<TableRead, KernelError> {
        let key = (family, name.into());
        let Some(table) = self.tables_of_nft.get(&key).cloned() else { return Ok(TableRead::Absent) };
        Ok(TableRead::Ours { table, counted: BTreeMap::new(), owner: self.owners.read(&key) })
    }

    fn commit(&mut self, step: &Step) -> Result<(), KernelError> {
        if let Some(left) = &mut self.fail_after {
            let Some(fewer) = left.checked_sub(1) else {
                self.fail_after = None;
                return Err(out_of_memory(step));
            };
            *left = fewer;
        }
        if let Step::Restore(variant, family, restore) = step {
            self.tally.processes += 1;
            self.tally.restores += 1;
            let table = self.tables.get(&(*variant, *family)).cloned().unwrap_or_default();
            let table = self.restore(table, *family, &restore.text)?;
            self.tables.insert((*variant, *family), table);
            return Ok(());
        }
        if let Step::Transact(batches) = step {
            self.tally.transactions += u64::from(batches.iter().any(Batch::changes_content));
            let (mut after, mut owners) = (self.tables_of_nft.clone(), self.owners.clone());
            owners.begin_transaction();
            for batch in batches {
                let refused = |reason: String| KernelError::Table {
                    table: batch.table.to_string(),
                    change: format!("{:?}", batch.changes),
                    reason,
                };
                let key = (batch.family, batch.table.clone());
                let mut place = after.remove(&key);
                owners.change(batch, place.is_some()).map_err(|reason| refused(reason.to_owned()))?;
                batch.apply(&mut place).map_err(|reason| refused(reason.to_string()))?;
                after.extend(place.map(|table| (key, table)));
            }
            (self.tables_of_nft, self.owners) = (after, owners);
            return Ok(());
        }
        self.tally.netlink_writes += 1;
        self.change_set(step).map_err(|(set, reason)| KernelError::Set {
            act: "change",
            set,
            reason: reason.into(),
            code: 0,
        })
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

impl Conntrack for Fake {
    fn connections_of(&mut self, _addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, KernelError> {
        Ok(Vec::new())
    }

    fn delete(&mut self, _connection: &Connection) -> Result<(), KernelError> {
        self.tally.cut += 1;
        Ok(())
    }

    fn set_mark(&mut self, _connection: &Connection, _mark: u32) -> Result<(), KernelError> {
        self.tally.cut += 1;
        Ok(())
    }

    fn clear_mark(&mut self, _connection: &Connection, _mark: u32) -> Result<(), KernelError> {
        self.tally.cut += 1;
        Ok(())
    }
}

impl SetLookup for Fake {
    fn contains(&self, name: &SetName, address: IpAddr, port: Option<(Protocol, u16)>) -> bool {
        self.sets.get(name).is_some_and(|set| set.contains(address, port))
    }
}
