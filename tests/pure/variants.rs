//! From one variant of iptables to the other: the new rules come before the old ones go, and nothing opens on the way.

use bridgewarden::apply::{Actual, Fake, PacketFilter, Step};
use bridgewarden::explain::oracle::{FlowQuery, World};
use bridgewarden::net::Family;
use bridgewarden::netfilter::iptables::Variant;
use support::packets::Judge;
use support::story_node::{Order, StoryNode, open_kernel};
use support::worlds::{self, Random};

/// Which flows the rules of both variants let pass, on the kernel of node-a.
fn allowed(world: &World, kernel: &Fake, flows: &[FlowQuery]) -> Vec<bool> {
    let open = open_kernel();
    let mut other = kernel.clone();
    other.swap_variants();
    let mut allowed = vec![true; flows.len()];
    for variant in [kernel, &other] {
        let holds = Family::BOTH.iter().all(|family| !variant.chains(*family).is_empty());
        let judge = Judge::new(world, [if holds { variant } else { &open }, &open]);
        for (allowed, flow) in allowed.iter_mut().zip(flows) {
            *allowed &= judge.allows(flow);
        }
    }
    allowed
}

#[test]
fn new_variant_is_in_force_before_the_old_one_goes_and_shared_sets_outlive_it() {
    let (mut retired, mut checked, mut destroyed) = (0, 0, 0);
    for seed in 0..60 {
        let story = worlds::story(seed, 14);
        let mut node = StoryNode::start("node-a", &story.start, Order::Usual);
        let mut world = story.start.clone();
        story.changes.iter().for_each(|change| change.apply(&mut world));
        node.kernel.swap_variants();
        let mut random = Random::new(seed);
        let all = worlds::flows(&world);
        let flows: Vec<FlowQuery> = (0..60).map(|_| random.pick(&all).clone()).collect();
        let before = allowed(&world, &node.kernel, &flows);

        let mut restarted = StoryNode::start("node-a", &world, Order::Usual);
        let scratch = restarted.kernel.clone();
        let after = allowed(&world, &scratch, &flows);
        restarted.enforcer.invalidate();
        let actual = Actual::read(&mut node.kernel).expect("it is read");
        let mut is_retired = false;
        for step in restarted.enforcer.adopt(&actual).steps {
            is_retired |= matches!(step, Step::Restore(Variant::Legacy, ..));
            destroyed += usize::from(matches!(step, Step::DestroySet(_)));
            node.kernel.commit(&step).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let now = allowed(&world, &node.kernel, &flows);
            for (flow, ((old, now), new)) in flows.iter().zip(before.iter().zip(now).zip(&after)) {
                checked += 1;
                assert!(!now || *old || *new, "seed {seed}: {flow:?} is open after {step:?}");
                assert!(!now || *new || !is_retired, "seed {seed}: {flow:?} is open though the old rules go");
            }
        }
        retired += usize::from(is_retired);
        assert_eq!(allowed(&world, &node.kernel, &flows), after, "seed {seed}");
        let actual = Actual::read(&mut node.kernel).expect("it is read");
        assert_eq!(actual.left_by_others(Some(Variant::Nft)).count(), 0, "seed {seed}");
    }
    assert!(retired == 60 && checked > 10_000 && destroyed > 10, "{retired}, {checked}, {destroyed}");
}
