//! What other backends of this program left in the kernel: rules of the other variants of iptables, sets, tables of nf_tables.

use super::iptables::removal;
use super::{Actual, Step, TableRead};
use crate::netfilter::BackendName;
use crate::netfilter::nftables::{Batch, TableFamily};
use crate::ownership::{INET_TABLE, INET_TABLE_NEXT};

/// The steps that remove what other backends left. They must run once everything that this backend writes is in force.
pub(crate) fn leftovers(own: BackendName, actual: &Actual) -> Vec<Step> {
    let tables = actual.left_by_others(own.variant());
    let mut steps: Vec<Step> =
        tables.filter_map(|(variant, family, table)| removal(variant, family, table, &[])).collect();
    match own {
        BackendName::IptablesNft | BackendName::IptablesLegacy => {
            let tables = [(&actual.inet, INET_TABLE), (&actual.inet_next, INET_TABLE_NEXT)];
            let left = tables.into_iter().filter(|(read, _)| **read != TableRead::Absent);
            let batches: Vec<_> = left.map(|(_, name)| Batch::deleting(TableFamily::Inet, name)).collect();
            steps.extend((!batches.is_empty()).then_some(Step::Transact(batches)));
        }
        // Rules that cannot be read may still refer to the sets.
        BackendName::Nftables if !actual.unread.is_empty() => {}
        BackendName::Nftables => steps.extend(actual.sets.keys().cloned().map(Step::DestroySet)),
    }
    steps
}
