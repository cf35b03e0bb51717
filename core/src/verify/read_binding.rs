//! Which pod a port of the bridge is bound to, as it was read from the kernel.

use super::Evidence;
use super::address_sets::address;
use super::kernel_rules::{Unjudged, bridge_table};
use crate::model::Hardware;
use crate::netfilter::nftables::{Base, Comparison, Field, Rule, Statement, Table, Verdict};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What the table of family bridge holds of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBinding {
    /// Why there is nothing, if the table is not in force.
    pub absence: Option<String>,
    /// The chain that evaluates frames from the port; `None` if none does, so that the port is not bound.
    pub chain: Option<Box<str>>,
    /// The addresses that are bound to the port.
    pub addresses: BTreeSet<IpAddr>,
    /// The only Ethernet address from which frames may come by it.
    pub hardware: Option<Hardware>,
}

/// The map from ports to the chains of what comes by them, and the sets of ports with addresses.
const FROM: &str = "from";
const BOUND: [&str; 2] = ["bound4", "bound6"];
const ETHER_SOURCE: Field = Field::Payload { base: Base::Link, offset: 6, length: 6 };

/// Reads the binding of the port with this index from what was read of the table of family bridge.
///
/// # Errors
/// The table holds something that cannot be evaluated.
pub fn read_binding(evidence: &Evidence, index: u32) -> Result<ReadBinding, String> {
    let (table, absence) = bridge_table(evidence).map_err(|Unjudged(what)| what)?;
    Ok(match table {
        Some(table) => of_table(table, index),
        None => ReadBinding { absence: Some(absence), ..ReadBinding::default() },
    })
}

fn of_table(table: &Table, index: u32) -> ReadBinding {
    let key = index.to_ne_bytes();
    let chain = match table.sets.get(FROM).and_then(|map| map.elements.get(&key)) {
        Some(Some(Verdict::Goto(chain) | Verdict::Jump(chain))) => Some(chain.clone()),
        _ => None,
    };
    let sets = BOUND.into_iter().filter_map(|set| table.sets.get(set));
    let keys = sets.flat_map(|set| set.elements.keys());
    let addresses = keys.filter_map(|element| address(element.strip_prefix(&key)?)).collect();
    let rules = chain.as_ref().and_then(|chain| table.chains.get(chain)).map(|chain| &chain.rules);
    let hardware = rules.into_iter().flatten().flat_map(Rule::statements).find_map(|statement| {
        let Statement::Compare { field: ETHER_SOURCE, mask: None, comparison: Comparison::Different, value } =
            statement
        else {
            return None;
        };
        Hardware::try_from(&**value).ok()
    });
    ReadBinding { absence: None, chain, addresses, hardware }
}
