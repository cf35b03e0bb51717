//! What other backends of this program left in the kernel: rules of the other variants of iptables, sets, tables of nf_tables.

use super::iptables::removal;
use super::{Actual, Step, TableRead};
use crate::netfilter::BackendName;
use crate::netfilter::nftables::{Batch, TableFamily};
use crate::ownership::INET_TABLE;

/// The steps that remove what other backends left. They must run once everything that this backend writes is in force.
pub(crate) fn leftovers(own: BackendName, actual: &Actual) -> Vec<Step> {
    let tables = actual.left_by_others(own.variant());
    let mut steps: Vec<Step> =
        tables.filter_map(|(variant, family, table)| removal(variant, family, table, &[])).collect();
    match own {
        BackendName::IptablesNft | BackendName::IptablesLegacy => {
            if actual.inet != TableRead::Absent {
                steps.push(Step::Transact(vec![Batch::deleting(TableFamily::Inet, INET_TABLE)]));
            }
        }
        // Rules that cannot be read may still refer to the sets.
        BackendName::Nftables if !actual.unread.is_empty() => {}
        BackendName::Nftables => steps.extend(actual.sets.keys().cloned().map(Step::DestroySet)),
    }
    steps
}
