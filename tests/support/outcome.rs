//! The outcome of a story: how its kernel compares with one that started where the story ends, and what it lets through.

use crate::packets::Judge;
use crate::story_node::{Order, StoryNode, open_kernel};
use crate::worlds::{self, Random, Scene};
use bridgewarden::apply::Fake;
use bridgewarden::explain::oracle::{FlowQuery, World};
use bridgewarden::net::Family;

/// What a kernel holds, apart from what was done to it.
pub fn content(kernel: &Fake) -> String {
    let mut kernel = kernel.clone();
    let tables = Family::BOTH.map(|family| kernel.table(family).clone());
    let bridges: Vec<String> = kernel.tables_of_nft().values().map(ToString::to_string).collect();
    format!("{:#?}\n{tables:#?}\n{}", kernel.sets(), bridges.concat())
}

/// Asserts that a node's kernel holds what it would if the scene had always been so.
///
/// # Panics
/// When it does not, with what differs.
pub fn assert_as_from_scratch(node: &StoryNode, name: &str, world: &Scene, context: &str) {
    let scratch = StoryNode::within(name, world, Order::Usual, node.limits);
    assert_same_content(&node.kernel, &scratch.kernel, context);
}

/// Asserts that a kernel holds what another one does.
///
/// # Panics
/// When it does not, with what differs.
pub fn assert_same_content(kernel: &Fake, wanted: &Fake, context: &str) {
    let (held, wanted) = (content(kernel), content(wanted));
    if held != wanted {
        let differing: Vec<_> = held.lines().filter(|line| !wanted.contains(line)).collect();
        let missing: Vec<_> = wanted.lines().filter(|line| !held.contains(line)).collect();
        panic!("{context}: too much: {differing:#?}, missing: {missing:#?}");
    }
}

/// Some of the flows that may be asked about a world.
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
