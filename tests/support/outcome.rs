//! The outcome of a story: how its kernel compares with one that started with the story's last scene, and what it lets
//! pass.

use crate::packets::Judge;
use crate::story_node::{Order, StoryNode, open_kernel};
use crate::worlds::{self, Random, Scene};
use bridgewarden::apply::{Fake, PacketFilter};
use bridgewarden::explain::oracle::{FlowQuery, World};
use bridgewarden::net::Family;
use bridgewarden::netfilter::nftables::{Table, TableFamily};
use bridgewarden::ownership::{BRIDGE_TABLE, INET_TABLE, POLICY_PREFIX, RESERVED_TABLE};

/// The content of a kernel, without the record of what was done to it.
pub fn content(kernel: &Fake) -> String {
    let mut kernel = kernel.clone();
    let tables = Family::BOTH.map(|family| kernel.table(family).clone());
    let of_nft = kernel.tables_of_nft();
    for table in of_nft.values_mut() {
        for word in ["SECOND-", "AUDIT"] {
            without_unused_chains(table, word);
        }
    }
    let of_nft: Vec<String> = of_nft.values().map(ToString::to_string).collect();
    format!("{:#?}\n{tables:#?}\n{}", kernel.sets(), of_nft.concat())
}

/// Removes the chains for addresses of two isolated pods, or for audited ones, if there is no such address any more, because these
/// chains stay.
fn without_unused_chains(table: &mut Table, word: &str) {
    let is_one = |name: &str| name.contains(word) && !name.starts_with(POLICY_PREFIX);
    if table.sets.iter().all(|(name, set)| !is_one(name) || set.elements.is_empty()) {
        table.sets.retain(|name, _| !is_one(name));
        table.chains.retain(|name, _| !is_one(name));
    }
}

/// Asserts that a node's kernel holds what it would hold if the scene had never changed, and the tables that are
/// rendered.
///
/// # Panics
/// It does not; the message contains the differences.
pub fn assert_as_from_scratch(node: &StoryNode, name: &str, world: &Scene, context: &str) {
    let ruleset = node.enforcer.clone().ruleset();
    for (family, table, rendered) in [
        (TableFamily::Bridge, BRIDGE_TABLE, &ruleset.bridge),
        (TableFamily::Inet, RESERVED_TABLE, &ruleset.reserved),
        (TableFamily::Inet, INET_TABLE, &ruleset.inet),
    ] {
        let held = node.kernel.table_of_nft(family, table);
        assert!(held == rendered.as_ref(), "{context}: the table of family {family:?} is not as rendered");
    }
    let scratch = StoryNode::within(node.kernel.backend(), name, world, Order::Usual, node.limits);
    assert_same_content(&node.kernel, &scratch.kernel, context);
}

/// Asserts that two kernels hold the same.
///
/// # Panics
/// They do not; the message contains the differences.
pub fn assert_same_content(kernel: &Fake, wanted: &Fake, context: &str) {
    let (held, wanted) = (content(kernel), content(wanted));
    if held != wanted {
        let differing: Vec<_> = held.lines().filter(|line| !wanted.contains(line)).collect();
        let missing: Vec<_> = wanted.lines().filter(|line| !held.contains(line)).collect();
        panic!("{context}: too much: {differing:#?}, missing: {missing:#?}");
    }
}

/// Some of the possible flows of a world.
pub fn sample(random: &mut Random, world: &World) -> Vec<FlowQuery> {
    let flows = worlds::flows(world);
    (0..60).map(|_| random.pick(&flows).clone()).collect()
}

/// Which of the flows pass, if this is the kernel of node-a and nothing is isolated on node-b.
pub fn allowed(world: &World, kernel: &Fake, flows: &[FlowQuery]) -> Vec<bool> {
    let open = open_kernel();
    let judge = Judge::new(world, [kernel, &open]);
    flows.iter().map(|flow| judge.allows(flow)).collect()
}
