//! A concurrent flush opens nothing, at whatever step it and the first flush are.

use bridgewarden::apply::{Fake, PacketFilter, Step};
use bridgewarden::explain::oracle::{FlowQuery, World};
use bridgewarden::netfilter::BackendName;
use support::outcome::{allowed, assert_as_from_scratch, content, sample};
use support::story_node::{Order, StoryNode};
use support::worlds::{self, Random, check_stories};

/// At whatever step of a flush a concurrent one runs, nothing is open that was denied before the first, between the two
/// and after the second.
#[test]
fn flush_beside_another_never_opens_what_all_states_refuse() {
    let (mut beside_rules, mut checked) = (0, 0);
    check_stories(worlds::stories(60), |seed, story| {
        let mut random = Random::new(seed);
        let mut world = story.start.clone();
        let mut node = StoryNode::start(BackendName::IptablesNft, "node-a", &world, Order::Usual);
        for (at, change) in story.changes.iter().enumerate() {
            change.apply(&mut world);
            node.apply(change);
            if random.chance(30) {
                continue;
            }
            let before = node.kernel.clone();
            let first = node.enforcer.flush();
            let beside = if first.steps.iter().any(writes_rules) { &story.changes[at + 1..] } else { &[] };
            for next in beside {
                let (mut node, mut world) = (node.clone(), world.clone());
                next.apply(&mut world);
                node.apply(next);
                let concurrent =
                    first.concurrent.as_ref().expect("the flush says what may be written concurrently");
                if let Some(second) = node.enforcer.flush_concurrently(concurrent) {
                    beside_rules += 1;
                    let flows = sample(&mut random, &world);
                    checked +=
                        assert_opens_nothing(&world, &flows, before.clone(), &first.steps, &second.steps);
                    node.kernel = committed(before.clone(), first.steps.iter().chain(&second.steps));
                    assert_as_from_scratch(&node, "node-a", &world, &format!("story {seed}, {next:?}"));
                }
            }
            node.commit(&first.steps).unwrap_or_else(|error| panic!("story {seed}: {error}"));
        }
    });
    assert!(beside_rules > 80 && checked > 200_000, "{beside_rules} beside rules, {checked} looks");
}

fn writes_rules(step: &Step) -> bool {
    matches!(step, Step::Restore(..))
}

fn committed<'a>(mut kernel: Fake, steps: impl IntoIterator<Item = &'a Step>) -> Fake {
    steps.into_iter().for_each(|step| kernel.commit(step).expect("the kernel takes the step"));
    kernel
}

/// Carries `beside` out at every point of `steps`; returns the number of comparisons.
fn assert_opens_nothing(
    world: &World,
    flows: &[FlowQuery],
    before: Fake,
    steps: &[Step],
    beside: &[Step],
) -> usize {
    let open = |kernel: &Fake| allowed(world, kernel, flows);
    let between = committed(before.clone(), steps);
    let after = committed(between.clone(), beside);
    let states = [open(&before), open(&between), open(&after)];
    let mut checked = 0;
    for at in 0..=steps.len() {
        let mut kernel = committed(before.clone(), &steps[..at]);
        for step in beside.iter().chain(&steps[at..]) {
            kernel.commit(step).expect("the kernel takes the step");
            for (index, now) in open(&kernel).into_iter().enumerate() {
                checked += 1;
                assert!(
                    !now || states.iter().any(|state| state[index]),
                    "{:?} is open after {step:?}, beside step {at} of {steps:#?}",
                    flows[index]
                );
            }
        }
        assert_eq!(content(&kernel), content(&after), "beside step {at} of {steps:#?}");
    }
    checked
}
