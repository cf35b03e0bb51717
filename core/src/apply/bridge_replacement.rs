//! How the table of family bridge is replaced by every backend.

use super::{Actual, TableRead};
use crate::netfilter::nftables::{Batch, Table, TableFamily};
use crate::ownership::{BRIDGE_TABLE, BRIDGE_TABLE_NEXT};

/// The transactions by which the table of family bridge becomes what it is to be.
pub(crate) struct BridgeReplacement {
    /// Before all other changes: what only denies more.
    pub(crate) before: Option<Batch>,
    /// The table itself. If there is none yet, this only denies more, too.
    pub(crate) beside: Option<Batch>,
    /// Once everything else is in force.
    pub(crate) after: Option<Batch>,
}

impl BridgeReplacement {
    /// A table that differs is replaced while its successor is in force under another name, for the reason given at
    /// [`replacement`](super::nftables::replacement). Until the end, only frames that both accept pass.
    pub(crate) fn adopting(desired: Option<Table>, actual: &Actual) -> BridgeReplacement {
        let differs = actual.bridge != TableRead::Absent && actual.bridge.kept() != desired.as_ref();
        let beside = actual.bridge.replaced(TableFamily::Bridge, BRIDGE_TABLE, desired.as_ref());
        let next =
            desired.filter(|_| differs).map(|desired| Table { name: BRIDGE_TABLE_NEXT.into(), ..desired });
        let has_next = actual.bridge_next || next.is_some();
        BridgeReplacement {
            before: next.as_ref().map(Batch::replacing),
            beside,
            after: has_next.then(|| Batch::deleting(TableFamily::Bridge, BRIDGE_TABLE_NEXT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::TableOwner;
    use std::collections::BTreeMap;

    fn table() -> Table {
        Table::new(TableFamily::Bridge, BRIDGE_TABLE)
    }

    /// Whether each transaction is there: of the successor, of the table, and the removal of the successor.
    fn transactions(bridge: TableRead, bridge_next: bool) -> [bool; 3] {
        let actual = Actual { bridge, bridge_next, ..Actual::default() };
        let BridgeReplacement { before, beside, after } = BridgeReplacement::adopting(Some(table()), &actual);
        assert!(before.iter().chain(&after).all(|batch| *batch.table == *BRIDGE_TABLE_NEXT));
        assert!(beside.iter().all(|batch| *batch.table == *BRIDGE_TABLE));
        [before.is_some(), beside.is_some(), after.is_some()]
    }

    #[test]
    fn table_is_replaced_beside_its_successor_also_beside_one_that_an_ended_agent_left() {
        for left in [false, true] {
            assert_eq!(transactions(TableRead::Foreign, left), [true, true, true]);
            assert_eq!(transactions(TableRead::Absent, left), [false, true, left], "nothing is replaced");
            let right =
                TableRead::Ours { table: table(), counted: BTreeMap::new(), owner: TableOwner::Settled };
            assert_eq!(transactions(right, left), [false, false, left]);
        }
    }
}
