//! What other backends of this program left in the kernel: rules of the other variants of iptables, sets, tables of nf_tables.

use super::iptables::removal;
use super::{Actual, Step};
use crate::netfilter::BackendName;

/// The steps that remove what other backends left. To be carried out once what this one writes is in force.
pub(super) fn leftovers(own: BackendName, actual: &Actual) -> Vec<Step> {
    let tables = actual.left_by_others(own.variant());
    tables.filter_map(|(variant, family, table)| removal(variant, family, table, &[])).collect()
}
