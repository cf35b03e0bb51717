//! Policies whose sets are made a slice at a time: they end where others do, and nothing opens on the way.

use bridgewarden::apply::{Fake, PacketFilter, Step};
use bridgewarden::compile::Limits;
use support::backends::check_backends;
use support::outcome::{allowed, assert_as_from_scratch, sample};
use support::story_node::{Order, StoryNode};
use support::worlds::{self, Random, Story};

fn stories() -> impl Iterator<Item = (u64, Story)> {
    worlds::stories(150)
}

/// Every rule's peers in one set, and no more than one new set in a flush.
const SLICED: Limits = Limits { peers_apart: 0, slice: 1, ..DEFAULT };
const DEFAULT: Limits = Limits {
    peers: 100,
    sets: 100,
    ports: 100,
    blocks: 100,
    rules: 1000,
    namespace_rules: 1000,
    members: 100_000,
    namespace_members: 100_000,
    peers_apart: 16,
    slice: 1000,
};

/// Flushes until nothing is left to do; the kernel after every step, with the steps of each flush.
fn settle(node: &mut StoryNode, context: &str) -> Vec<(Fake, Step)> {
    let mut states = Vec::new();
    while node.enforcer.is_behind() {
        for step in node.enforcer.flush().steps {
            node.kernel.commit(&step).unwrap_or_else(|error| panic!("{context}: {error}"));
            states.push((node.kernel.clone(), step));
        }
    }
    states
}

#[test]
fn policies_whose_sets_are_made_a_slice_at_a_time_end_where_others_do() {
    let mut sliced = 0;
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::within(backend, "node-a", &world, Order::Usual, SLICED);
        for change in &story.changes {
            change.apply(&mut world);
            node.apply(change);
            sliced += usize::from(node.enforcer.plan().is_staging());
            node.flush();
            match random.below(4) {
                // What comes next comes while sets are being made.
                0 => continue,
                1 => {
                    node.enforcer.invalidate();
                    node.adopt().unwrap_or_else(|error| panic!("story {seed}: {error}"));
                }
                _ => {}
            }
            settle(&mut node, &format!("story {seed}"));
            assert_as_from_scratch(&node, "node-a", &world, &format!("story {seed}: {change:?}"));
        }
    });
    assert!(sliced > 80, "only {sliced} policies waited for their sets");
}

#[test]
fn nothing_opens_between_the_slices_of_a_change() {
    let mut checked = 0_u64;
    check_backends(stories(), |backend, seed, story| {
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::within(backend, "node-a", &world, Order::Usual, SLICED);
        for change in &story.changes {
            change.apply(&mut world);
            node.apply(change);
            let flows = sample(&mut random, &world);
            let before = allowed(&world, &node.kernel, &flows);
            let states = settle(&mut node, &format!("story {seed}"));
            let after = allowed(&world, &node.kernel, &flows);
            for (kernel, step) in &states {
                let now = allowed(&world, kernel, &flows);
                for (flow, ((old, now), new)) in flows.iter().zip(before.iter().zip(now).zip(&after)) {
                    checked += 1;
                    assert!(!now || *old || *new, "story {seed}: {flow:?} is open after {step:?}");
                }
            }
        }
    });
    assert!(checked > 50_000, "only {checked} looks");
}
