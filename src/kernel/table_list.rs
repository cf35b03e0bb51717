//! Lists the tables of nf_tables, and removes empty ones.

use super::netlink::{
    ACKNOWLEDGE, DUMP, Datagram, Failure, Message, Netlink, attributes, exact, family_number, text, whole,
};
use super::nftables::OWNED_BY_ANOTHER;
use crate::apply::KernelError;
use crate::net::Family;
use nix::libc;
use std::collections::{BTreeMap, BTreeSet};

/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u8 = 10;
/// NFNL_MSG_BATCH_*.
const BATCH_BEGIN: u8 = 16;
const BATCH_END: u8 = 17;
/// NFT_MSG_*.
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
const GET_CHAIN: u8 = 4;
const DELETE_CHAIN: u8 = 5;
const GET_FLOWTABLE: u8 = 23;
/// NLM_F_NONREC: do not delete an object that contains others.
const NOT_RECURSIVE: u16 = 0x100;
/// NFTA_TABLE_NAME; NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_USE.
const TABLE_NAME: u16 = 1;
/// NFTA_TABLE_FLAGS, NFT_TABLE_F_DORMANT.
const TABLE_FLAGS: u16 = 2;
const IS_DORMANT: u32 = 1;
/// NFTA_FLOWTABLE_TABLE, NFTA_FLOWTABLE_NAME.
const FLOWTABLE_TABLE: u16 = 1;
const FLOWTABLE_NAME: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_POLICY: u16 = 5;
const CHAIN_USE: u16 = 6;
/// NF_ACCEPT.
const ACCEPT: u32 = 1;

/// The families of nf_tables (NFPROTO_*) by their names in `nft`.
const FAMILIES: [(&str, u8); 5] = [("inet", 1), ("ip", 2), ("arp", 3), ("bridge", 7), ("ip6", 10)];

/// The chains that `iptables-nft` creates in a filter table.
const BUILT_IN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// The tables of this network namespace, named as in `nft`: `ip filter`; and whether each is dormant. Empty if the kernel has no
/// nf_tables.
pub(super) fn list() -> Result<BTreeMap<String, bool>, KernelError> {
    let mut netlink = open()?;
    let mut tables = BTreeMap::new();
    for (word, family) in FAMILIES {
        let Some(listed) = list_family(&mut netlink, family)? else { return Ok(tables) };
        tables.extend(listed.into_iter().map(|(name, is_dormant)| (format!("{word} {name}"), is_dormant)));
    }
    Ok(tables)
}

/// The names of the tables of a family (NFPROTO_*), and whether each is dormant; `None` if the kernel has no nf_tables.
fn list_family(netlink: &mut Netlink, family: u8) -> Result<Option<Vec<(String, bool)>>, KernelError> {
    let listed = whole(|| {
        let mut names = Vec::new();
        netlink.ask(Message::new(SUBSYSTEM, GET_TABLE, DUMP, family), |table| {
            let find = |kind| {
                let found = attributes(table).find(|attribute| attribute.kind == kind);
                found.map(|attribute| attribute.payload)
            };
            let flags = find(TABLE_FLAGS).and_then(exact).map_or(0, u32::from_be_bytes);
            let name = find(TABLE_NAME).and_then(text);
            names.extend(name.map(|name| (name.to_owned(), flags & IS_DORMANT != 0)));
        })?;
        Ok(names)
    });
    match listed {
        Ok(names) => Ok(Some(names)),
        Err(Failure::Refused { code: libc::EINVAL | libc::EOPNOTSUPP, .. }) => Ok(None),
        Err(failure) => Err(failed("list the tables of nf_tables", failure)),
    }
}

/// The flowtables of this network namespace, named as in `nft`: `antrea fast`, the table first. Empty if the kernel has
/// none.
pub(super) fn flowtables() -> Result<BTreeSet<String>, KernelError> {
    let mut netlink = open()?;
    let listed = whole(|| {
        let mut names = Vec::new();
        // Family 0 (NFPROTO_UNSPEC) means every family.
        netlink.ask(Message::new(SUBSYSTEM, GET_FLOWTABLE, DUMP, 0), |flowtable| {
            let find = |kind| attributes(flowtable).find(|attribute| attribute.kind == kind);
            let name = |kind| find(kind).and_then(|name| text(name.payload).map(str::to_owned));
            if let (Some(table), Some(name)) = (name(FLOWTABLE_TABLE), name(FLOWTABLE_NAME)) {
                names.push(format!("{table} {name}"));
            }
        })?;
        Ok(names)
    });
    match listed {
        Ok(names) => Ok(names.into_iter().collect()),
        Err(Failure::Refused { code: libc::EINVAL | libc::EOPNOTSUPP, .. }) => Ok(BTreeSet::new()),
        Err(failure) => Err(failed("list the flowtables of nf_tables", failure)),
    }
}

/// Whether the table `filter` of `iptables-nft` exists.
pub(super) fn has_filter(family: Family) -> Result<bool, KernelError> {
    let tables = list_family(&mut open()?, family_number(family))?;
    Ok(tables.is_some_and(|tables| tables.iter().any(|(name, _)| name == "filter")))
}

/// Removes the table `filter` of `iptables-nft` if it contains only built-in chains without rules that accept
/// everything. The kernel rejects the removal if that has changed meanwhile.
pub(super) fn remove_empty_filter(family: Family) -> Result<(), KernelError> {
    if !has_filter(family)? {
        return Ok(());
    }
    let mut netlink = open()?;
    let chains = whole(|| chains(&mut netlink, family))
        .map_err(|failure| failed("list the chains of nf_tables", failure))?;
    if chains.iter().any(|(name, is_idle)| !is_idle || !BUILT_IN.contains(&name.as_str())) {
        return Ok(());
    }
    let request = |command, flags| {
        let mut request = Message::new(SUBSYSTEM, command, NOT_RECURSIVE | flags, family_number(family));
        request.put_text(CHAIN_TABLE, "filter");
        request
    };
    let mut requests: Vec<Message> = Vec::new();
    for name in chains.keys() {
        let mut chain = request(DELETE_CHAIN, 0);
        chain.put_text(CHAIN_NAME, name);
        requests.push(chain);
    }
    requests.push(request(DELETE_TABLE, ACKNOWLEDGE));
    match transact(&mut netlink, requests) {
        // It is in use again, or another program removed it first.
        Ok(()) | Err(Failure::Refused { code: libc::EBUSY | libc::ENOENT, .. }) => Ok(()),
        Err(failure) => Err(failed("remove an empty table of nf_tables", failure)),
    }
}

/// Removes a table with everything in it, named as in `nft`. No error if it no longer exists.
pub(super) fn remove(table: &str) -> Result<(), KernelError> {
    let named = table.split_once(' ').and_then(|(word, name)| {
        let (_, family) = FAMILIES.into_iter().find(|(own, _)| *own == word)?;
        Some((family, name))
    });
    let Some((family, name)) = named else { return Ok(()) };
    let mut request = Message::new(SUBSYSTEM, DELETE_TABLE, ACKNOWLEDGE, family);
    request.put_text(TABLE_NAME, name);
    match transact(&mut open()?, vec![request]) {
        Ok(()) | Err(Failure::Refused { code: libc::ENOENT, .. }) => Ok(()),
        Err(Failure::Refused { code: libc::EPERM, .. }) => Err(KernelError::Table {
            table: name.to_owned(),
            change: "its removal".to_owned(),
            reason: OWNED_BY_ANOTHER.to_owned(),
        }),
        Err(failure) => Err(failed("remove a table of nf_tables", failure)),
    }
}

/// The chains of the filter table, and whether each has no rules and accepts everything.
fn chains(netlink: &mut Netlink, family: Family) -> Result<BTreeMap<String, bool>, Failure> {
    let mut chains = BTreeMap::new();
    netlink.ask(Message::new(SUBSYSTEM, GET_CHAIN, DUMP, family_number(family)), |chain| {
        let find =
            |kind| attributes(chain).find(|attribute| attribute.kind == kind).map(|found| found.payload);
        let number = |kind| find(kind).and_then(exact).map(u32::from_be_bytes);
        if find(CHAIN_TABLE).and_then(text) == Some("filter")
            && let Some(name) = find(CHAIN_NAME).and_then(text)
        {
            let is_idle = number(CHAIN_USE) == Some(0) && number(CHAIN_POLICY) == Some(ACCEPT);
            chains.insert(name.to_owned(), is_idle);
        }
    })?;
    Ok(chains)
}

/// Sends requests as one transaction. The last one must request an acknowledgement.
fn transact(netlink: &mut Netlink, requests: Vec<Message>) -> Result<(), Failure> {
    let frame = |kind| Message::new(0, kind, 0, 0).about(SUBSYSTEM.into());
    let mut batch = Datagram::from(frame(BATCH_BEGIN));
    requests.iter().chain([&frame(BATCH_END)]).for_each(|request| batch.push(request));
    netlink.write_batch(batch).map_err(|(_, failure)| failure)
}

fn open() -> Result<Netlink, KernelError> {
    Netlink::open().map_err(|source| KernelError::Netlink { act: "speak to nf_tables", source })
}

fn failed(act: &'static str, failure: Failure) -> KernelError {
    KernelError::Netlink { act, source: failure.into() }
}
