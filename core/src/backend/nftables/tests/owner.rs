//! Whose a table is: one that has an owner is taken over as it is, and one that has none is made again.

use super::*;
use crate::ownership::{BRIDGE_TABLE, BRIDGE_TABLE_NEXT};

/// A node that lets two ranges of ports of `a` be reached from 192.0.2.0, and nothing else.
fn node() -> Node {
    let ranges = policy("web", &["web"], &[&[(80, 81), (90, 95)]]);
    Node::new(options(), [ranges, pod("a", "web", 10)])
}

/// The steps of an agent that starts now.
fn steps_of_a_start(node: &mut Node) -> Vec<Step> {
    node.kernel.end_process();
    node.backend = NftablesBackend::new(options());
    let actual = Actual::read(&mut node.kernel).expect("it is read");
    let delta = node.plan.take(&node.cluster);
    node.backend.adopt(View { cluster: &node.cluster, plan: &node.plan }, &delta, &actual)
}

/// The tables of a family that evaluate packets, under the name of the one.
fn in_force(kernel: &Fake, family: TableFamily) -> Vec<Table> {
    let names = match family {
        TableFamily::Inet => [INET_TABLE, INET_TABLE_NEXT],
        TableFamily::Bridge => [BRIDGE_TABLE, BRIDGE_TABLE_NEXT],
    };
    let tables = names.map(|name| kernel.table_of_nft(family, name));
    let in_force = tables.into_iter().flatten().filter(|table| !table.chains.is_empty());
    in_force.map(|table| Table { name: names[0].into(), ..table.clone() }).collect()
}

#[test]
fn tables_of_an_agent_that_has_ended_are_taken_over_and_not_written_again() {
    let mut node = node();
    let steps = steps_of_a_start(&mut node);
    let taking = |family, name| Batch::taking(family, name);
    let inet = [INET_TABLE, RESERVED_TABLE].map(|name| taking(TableFamily::Inet, name));
    let bridge = taking(TableFamily::Bridge, BRIDGE_TABLE);
    assert_eq!(steps, [Step::Transact(inet.into_iter().chain([bridge]).collect())]);
    node.commit(&steps);
    assert_eq!(node.adopt(), 0);
}

#[test]
fn kernel_without_owners_of_tables_is_asked_for_none() {
    let mut node = node();
    node.kernel.without_owners();
    assert_eq!(steps_of_a_start(&mut node), []);
}

#[test]
fn table_without_an_owner_is_made_again_and_one_that_is_whole_evaluates_packets_all_the_time() {
    let mut before = node();
    let right = before.table().clone();
    before.kernel.disown_tables();
    let count = steps_of_a_start(&mut before).len();
    assert_eq!(count, 8);
    let is_whole = |kernel: &Fake, where_: String| {
        let tables = in_force(kernel, TableFamily::Inet);
        assert!(!tables.is_empty() && tables.iter().all(|table| *table == right), "{where_}");
    };
    // A step deletes a table, or exchanges it, while another is in force.
    let commit = |kernel: &mut Fake, step: &Step| {
        let Step::Transact(batches) = step else { panic!("no transaction: {step:?}") };
        let deletes = |batch: &&Batch| batch.changes.first() == Some(&Change::DeleteTable);
        for batch in batches.iter().filter(deletes).filter(|batch| *batch.table != *RESERVED_TABLE) {
            let mut without = kernel.clone();
            without.tables_of_nft().remove(&(batch.family, batch.table.clone()));
            assert!(!in_force(&without, batch.family).is_empty(), "{batch:?}");
        }
        kernel.commit(step).expect("the kernel takes every step");
    };
    for stop in 0..=count {
        let mut node = Node { kernel: before.kernel.clone(), ..node() };
        for step in steps_of_a_start(&mut node).iter().take(stop) {
            commit(&mut node.kernel, step);
            is_whole(&node.kernel, format!("{stop}: {step:?}"));
        }
        // The agent ends, and another one goes on with what it finds.
        for step in steps_of_a_start(&mut node) {
            commit(&mut node.kernel, &step);
            is_whole(&node.kernel, format!("{stop}: {step:?}"));
        }
        for (family, next) in [(TableFamily::Inet, INET_TABLE_NEXT), (TableFamily::Bridge, BRIDGE_TABLE_NEXT)]
        {
            assert_eq!(node.kernel.table_of_nft(family, next), None, "{stop}");
        }
        assert_eq!((node.adopt(), node.table()), (0, &right), "{stop}");
    }
}
