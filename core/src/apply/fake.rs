//! A kernel in memory that refuses what the real one refuses. For tests, and for checking rules without root.

use super::{Connection, Conntrack, KernelError, PacketFilter, Step, TableRead, TableText, Tally};
use crate::net::{Family, Protocol};
use crate::netfilter::SetName;
use crate::netfilter::ipset::{Element, MAX_ELEMENTS, Set, Type};
use crate::netfilter::iptables::{Chains, Match, SetLookup, Target, parse_rule, target};
use crate::netfilter::nftables;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The tables and sets of a kernel that starts out empty.
#[derive(Clone, Debug)]
pub struct Fake {
    tables: BTreeMap<Family, BTreeMap<String, Vec<String>>>,
    /// The same of the other variant of iptables.
    others: BTreeMap<Family, BTreeMap<String, Vec<String>>>,
    sets: BTreeMap<SetName, Set>,
    bridges: BTreeMap<Box<str>, nftables::Table>,
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
        Fake {
            tables: Family::BOTH.map(|family| (family, table.clone())).into(),
            others: Family::BOTH.map(|family| (family, table.clone())).into(),
            sets: BTreeMap::new(),
            bridges: BTreeMap::new(),
            nft_tables: BTreeSet::new(),
            tally: Tally::default(),
            fail_after: None,
            room: MAX_ELEMENTS as usize,
        }
    }
}

impl Fake {
    /// Lets this many more steps succeed and refuses the one after, for want of memory.
    pub fn fail_after(&mut self, steps: usize) {
        self.fail_after = Some(steps);
    }

    /// From now on a set holds this many elements at most, as one does whose `maxelem` is so low.
    pub fn limit_sets(&mut self, room: usize) {
        self.room = room;
    }

    /// The rules of a family's table, to look at or, as another program would, to change.
    pub fn table(&mut self, family: Family) -> &mut BTreeMap<String, Vec<String>> {
        self.tables.entry(family).or_default()
    }

    /// From now on the other variant of iptables is written to, as after a start with another `--backend`.
    pub fn switch_variant(&mut self) {
        std::mem::swap(&mut self.tables, &mut self.others);
    }

    /// The sets, to look at or, as another program would, to change.
    pub fn sets(&mut self) -> &mut BTreeMap<SetName, Set> {
        &mut self.sets
    }

    /// The tables of family bridge, to look at or, as another program would, to change.
    pub fn bridges(&mut self) -> &mut BTreeMap<Box<str>, nftables::Table> {
        &mut self.bridges
    }

    /// The tables of nf_tables that iptables does not show, as `nft` names them.
    pub fn nft_tables(&mut self) -> &mut BTreeSet<String> {
        &mut self.nft_tables
    }

    /// Our chains of a family, typed.
    pub fn chains(&self, family: Family) -> Chains {
        super::Actual::read(&mut self.clone()).map(|actual| actual.chains(family)).unwrap_or_default()
    }

    fn restore(
        &self,
        mut table: BTreeMap<String, Vec<String>>,
        family: Family,
        text: &str,
    ) -> Result<BTreeMap<String, Vec<String>>, KernelError> {
        for line in text.lines() {
            self.restore_line(&mut table, line).map_err(|reason| refused(line, reason))?;
        }
        for (chain, rules) in &table {
            for rule in rules {
                self.check(&table, family, rule)
                    .map_err(|reason| refused(&format!("-A {chain} {rule}"), reason))?;
            }
        }
        match has_loop(&table) {
            true => Err(refused("COMMIT", "chains lead in a circle")),
            false => Ok(table),
        }
    }

    fn restore_line(
        &self,
        table: &mut BTreeMap<String, Vec<String>>,
        line: &str,
    ) -> Result<(), &'static str> {
        let mut words = line.splitn(3, ' ');
        let (verb, name, rest) = (words.next().unwrap_or_default(), words.next(), words.next());
        match (verb, name, rest) {
            ("*filter" | "COMMIT", None, None) => {}
            ("-A", Some(name), Some(rule)) => table.get_mut(name).ok_or("no chain")?.push(rule.into()),
            ("-I", Some(name), Some(rule)) => {
                let rule = rule.strip_prefix("1 ").ok_or("only position 1 is known")?;
                table.get_mut(name).ok_or("no chain")?.insert(0, rule.into());
            }
            ("-D", Some(name), Some(rule)) => {
                let rules = table.get_mut(name).ok_or("no chain")?;
                let at = rules.iter().position(|there| there == rule).ok_or("no such rule")?;
                rules.remove(at);
            }
            ("-X", Some(name), None) => {
                if BUILTIN.contains(&name) || !table.get(name).ok_or("no chain")?.is_empty() {
                    return Err("chain is not empty");
                }
                if table.values().flatten().any(|rule| target(rule) == Some(name)) {
                    return Err("chain is referred to");
                }
                table.remove(name);
            }
            (declared, Some("-"), Some("[0:0]")) if declared.starts_with(':') => {
                table.insert(declared[1..].into(), Vec::new());
            }
            _ => return Err("unknown line"),
        }
        Ok(())
    }

    /// Refuses a rule that names a chain or set which isn't there, or a set of the other family.
    fn check(
        &self,
        table: &BTreeMap<String, Vec<String>>,
        family: Family,
        rule: &str,
    ) -> Result<(), &'static str> {
        let Ok(rule) = parse_rule(rule) else { return Ok(()) };
        if let Target::Jump(chain) | Target::Goto(chain) = &rule.target
            && !table.contains_key(chain.as_str())
        {
            return Err("target chain does not exist");
        }
        for condition in &rule.matches {
            if let Match::Set(name, _) | Match::NotInSet(name, _) = condition {
                let set = self.sets.get(name).ok_or("set does not exist")?;
                if set.kind.family != family {
                    return Err("set is of the other family");
                }
            }
        }
        Ok(())
    }

    fn is_referenced(&self, name: &SetName) -> bool {
        let tables = self.tables.values().chain(self.others.values());
        let rules = tables.flat_map(BTreeMap::values).flatten();
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
                // One that is gone already is fine.
                self.sets.remove(name);
            }
            Step::RemoveNftTable(table) => drop(self.nft_tables.remove(table)),
            Step::Restore(..) | Step::RestoreOther(..) | Step::Transact(_) => {}
        }
        Ok(())
    }
}

/// Whether some chain that packets come to leads back to itself. Of others the kernel does not ask that.
fn has_loop(table: &BTreeMap<String, Vec<String>>) -> bool {
    let leads = |chain: &str| -> BTreeSet<&str> {
        let rules = table.get(chain).into_iter().flatten();
        rules.filter_map(|rule| target(rule)).filter(|to| table.contains_key(*to)).collect()
    };
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut open: Vec<&str> = BUILTIN.to_vec();
    while let Some(chain) = open.pop() {
        if !left.contains_key(chain) {
            open.extend(leads(chain));
            left.insert(chain, leads(chain));
        }
    }
    // What leads nowhere is in no circle.
    loop {
        let ends: BTreeSet<&str> =
            left.iter().filter(|(_, to)| to.is_empty()).map(|(name, _)| *name).collect();
        if ends.is_empty() {
            return !left.is_empty();
        }
        left.retain(|name, _| !ends.contains(name));
        left.values_mut().for_each(|to| to.retain(|name| !ends.contains(name)));
    }
}

/// ENOMEM, as the program or the kernel reports it.
fn out_of_memory(step: &Step) -> KernelError {
    let reason = "the kernel is out of memory";
    match step {
        Step::Restore(..) | Step::RestoreOther(..) | Step::RemoveNftTable(_) | Step::Transact(_) => {
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
    fn read_table(&mut self, family: Family) -> Result<TableText, KernelError> {
        self.tally.processes += 1;
        Ok(TableText { chains: self.tables.get(&family).cloned().unwrap_or_default() })
    }

    fn read_other_table(&mut self, family: Family) -> Result<TableText, KernelError> {
        Ok(TableText { chains: self.others.get(&family).cloned().unwrap_or_default() })
    }

    fn read_nft_tables(&mut self) -> Result<BTreeSet<String>, KernelError> {
        Ok(self.nft_tables.clone())
    }

    fn read_sets(&mut self, prefix: &str) -> Result<BTreeMap<SetName, Set>, KernelError> {
        let own = self.sets.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
        Ok(own.map(|(name, set)| (name.clone(), set.clone())).collect())
    }

    fn read_bridge_table(&mut self, name: &str) -> Result<TableRead, KernelError> {
        let table = self.bridges.get(name).cloned();
        Ok(table.map_or(TableRead::Absent, |table| TableRead::Ours { table, counted: BTreeMap::new() }))
    }

    fn commit(&mut self, step: &Step) -> Result<(), KernelError> {
        if let Some(left) = &mut self.fail_after {
            let Some(fewer) = left.checked_sub(1) else {
                self.fail_after = None;
                return Err(out_of_memory(step));
            };
            *left = fewer;
        }
        if let Step::Restore(family, restore) | Step::RestoreOther(family, restore) = step {
            self.tally.processes += 1;
            self.tally.restores += 1;
            let is_other = matches!(step, Step::RestoreOther(..));
            let tables = if is_other { &self.others } else { &self.tables };
            let table = tables.get(family).cloned().unwrap_or_default();
            let table = self.restore(table, *family, &restore.text)?;
            let tables = if is_other { &mut self.others } else { &mut self.tables };
            tables.insert(*family, table);
            return Ok(());
        }
        if let Step::Transact(batch) = step {
            self.tally.transactions += 1;
            let mut place = self.bridges.remove(&batch.table);
            let done = batch.apply(&mut place);
            self.bridges.extend(place.map(|table| (batch.table.clone(), table)));
            return done.map_err(|refused| KernelError::Table {
                table: batch.table.to_string(),
                change: format!("{:?}", batch.changes),
                reason: refused.to_string(),
            });
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
