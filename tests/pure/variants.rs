//! From one backend to another: the new rules come before the old ones go, and nothing opens on the way.

use bridgewarden::apply::{Actual, Fake, PacketFilter, Step, TableRead};
use bridgewarden::explain::oracle::{FlowQuery, World};
use bridgewarden::net::Family;
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::netfilter::nftables::{Batch, TableFamily};
use bridgewarden::ownership::INET_TABLE;
use support::outcome::{assert_as_from_scratch, sample};
use support::packets::Judge;
use support::story_node::{Order, StoryNode, open_kernel};
use support::worlds::{self, Random};

/// Which flows the rules of all backends together let pass, on the kernel of node-a.
fn allowed(world: &World, kernel: &Fake, flows: &[FlowQuery]) -> Vec<bool> {
    let open = open_kernel();
    let [mut nft, mut legacy, mut table] = [kernel.clone(), kernel.clone(), kernel.clone()];
    nft.switch_backend(BackendName::IptablesNft);
    legacy.switch_backend(BackendName::IptablesNft);
    legacy.swap_variants();
    table.switch_backend(BackendName::Nftables);
    let has_chains = |kernel: &Fake| Family::BOTH.iter().all(|family| !kernel.chains(*family).is_empty());
    let has_table = table.table_of_nft(TableFamily::Inet, INET_TABLE).is_some();
    let mut allowed = vec![true; flows.len()];
    for (kernel, holds) in [(&nft, has_chains(&nft)), (&legacy, has_chains(&legacy)), (&table, has_table)] {
        let judge = Judge::new(world, [if holds { kernel } else { &open }, &open]);
        for (allowed, flow) in allowed.iter_mut().zip(flows) {
            *allowed &= judge.allows(flow);
        }
    }
    allowed
}

/// Whether a step takes away what a backend wrote.
fn retires(step: &Step, old: BackendName) -> bool {
    match (old.variant(), step) {
        (Some(old), Step::Restore(variant, ..)) => *variant == old,
        (None, Step::Transact(batches)) => batches.contains(&Batch::deleting(TableFamily::Inet, INET_TABLE)),
        _ => false,
    }
}

fn switches() -> impl Iterator<Item = (BackendName, BackendName)> {
    let pairs = BackendName::ALL.into_iter().flat_map(|old| BackendName::ALL.map(|new| (old, new)));
    pairs.filter(|(old, new)| old != new)
}

#[test]
fn new_backend_is_in_force_before_the_old_one_goes_and_nothing_of_it_is_left() {
    assert_eq!(switches().count(), 6);
    for (old, new) in switches() {
        let (mut retired, mut checked, mut destroyed) = (0, 0, 0);
        for seed in 0..25 {
            let context = format!("seed {seed}, {old:?} to {new:?}");
            let story = worlds::story(seed, 14);
            let mut kernel = StoryNode::start(old, "node-a", &story.start, Order::Usual).kernel;
            let mut world = story.start.clone();
            story.changes.iter().for_each(|change| change.apply(&mut world));
            let flows = sample(&mut Random::new(seed), &world);
            let before = allowed(&world, &kernel, &flows);

            let mut node = StoryNode::start(new, "node-a", &world, Order::Usual);
            let after = allowed(&world, &node.kernel, &flows);
            node.enforcer.invalidate();
            kernel.switch_backend(new);
            let actual = Actual::read(&mut kernel).expect("it is read");
            let mut is_retired = false;
            for step in node.enforcer.adopt(&actual).steps {
                is_retired |= retires(&step, old);
                destroyed += usize::from(matches!(step, Step::DestroySet(_)));
                kernel.commit(&step).unwrap_or_else(|error| panic!("{context}: {error}"));
                let now = allowed(&world, &kernel, &flows);
                for (flow, ((old, now), new)) in flows.iter().zip(before.iter().zip(now).zip(&after)) {
                    checked += 1;
                    assert!(!now || *old || *new, "{context}: {flow:?} is open after {step:?}");
                    assert!(!now || *new || !is_retired, "{context}: {flow:?} is open though the old go");
                }
            }
            retired += usize::from(is_retired);
            assert_eq!(allowed(&world, &kernel, &flows), after, "{context}");
            let actual = Actual::read(&mut kernel).expect("it is read");
            assert_eq!(actual.left_by_others(new.variant()).count(), 0, "{context}");
            match new {
                BackendName::IptablesNft | BackendName::IptablesLegacy => {
                    assert_eq!(actual.inet, TableRead::Absent, "{context}");
                }
                BackendName::Nftables => assert!(actual.sets.is_empty(), "{context}: {:?}", actual.sets),
            }
            node.kernel = kernel;
            assert_as_from_scratch(&node, "node-a", &world, &context);
            assert_eq!(node.restart(&world).steps, [], "{context}");
        }
        assert!(retired == 25 && checked > 4_000, "{old:?} to {new:?}: {retired}, {checked}");
        // Both variants use the same sets; the table has its own.
        let least = match (old.variant(), new.variant()) {
            (Some(Variant::Nft | Variant::Legacy), None) => 100,
            (Some(_), Some(_)) => 3,
            (None, Some(_) | None) => 0,
        };
        assert!(destroyed >= least, "{old:?} to {new:?}: {destroyed} sets are destroyed");
    }
}
