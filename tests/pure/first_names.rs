//! This version takes over the rules of 0.1.0, whose names look like kube-router's, without a gap; kube-router's stay.

use bridgewarden::apply::{Actual, Fake, PacketFilter, Step};
use bridgewarden::controller::Enforcer;
use bridgewarden::net::Family;
use bridgewarden::netfilter::{BackendName, SetName};
use bridgewarden::ownership::{may_be_of_0_1_0, owns_chain, owns_set};
use bridgewarden::render::{Allowed, Options, PodToNode};
use support::outcome::{allowed, assert_as_from_scratch, sample};
use support::packets::facts;
use support::story_node::{Order, StoryNode};
use support::worlds::{self, Random};

/// The same rules and sets by names of 0.1.0: a hash without its mark is one of base32 alone.
fn named_as_by_0_1_0(kernel: &mut Fake) {
    let old = |text: &str| {
        ["KUBE-NWPLCY-", "KUBE-POD-SPECIFIC-FW-", "P4-", "P6-", "N4-", "N6-", "B4-", "B6-"]
            .iter()
            .fold(text.to_owned(), |text, prefix| text.replace(&format!("{prefix}0"), &format!("{prefix}Z")))
    };
    for family in Family::BOTH {
        let table = std::mem::take(kernel.table(family));
        let renamed = table
            .into_iter()
            .map(|(chain, rules)| (old(&chain), rules.iter().map(|rule| old(rule)).collect()));
        *kernel.table(family) = renamed.collect();
    }
    let sets = std::mem::take(kernel.sets());
    let renamed =
        sets.into_iter().map(|(name, set)| (SetName::new(&old(name.as_str())).expect("a legal name"), set));
    *kernel.sets() = renamed.collect();
}

/// Some of what kube-router writes, unhooked, as an old run of it left it.
const OF_KUBE_ROUTER: [(&str, &[&str]); 4] = [
    ("KUBE-ROUTER-FORWARD", &["-d 10.244.1.10/32 -j KUBE-POD-FW-AAAAAAAAAAAAAAAA"]),
    ("KUBE-POD-FW-AAAAAAAAAAAAAAAA", &["-j KUBE-NWPLCY-BBBBBBBBBBBBBBBB", "-j KUBE-NWPLCY-DEFAULT"]),
    ("KUBE-NWPLCY-BBBBBBBBBBBBBBBB", &["-m mark --mark 0x10000/0x10000 -j RETURN"]),
    ("KUBE-NWPLCY-DEFAULT", &["-j MARK --set-xmark 0x10000/0x10000"]),
];

#[test]
fn rules_of_0_1_0_are_taken_over_without_a_gap_and_those_of_kube_router_stay() {
    let (mut renamed, mut checked) = (0, 0);
    for seed in 0..60 {
        let story = worlds::story(seed, 14);
        let mut node = StoryNode::start(BackendName::IptablesNft, "node-a", &story.start, Order::Usual);
        named_as_by_0_1_0(&mut node.kernel);
        for (chain, rules) in OF_KUBE_ROUTER {
            let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
            node.kernel.table(Family::V4).insert(chain.to_owned(), rules);
        }
        renamed += Family::BOTH
            .iter()
            .flat_map(|family| node.kernel.table(*family).keys().cloned().collect::<Vec<_>>())
            .filter(|chain| chain.starts_with("KUBE-POD-SPECIFIC-FW-Z") || chain.starts_with("KUBE-NWPLCY-Z"))
            .count();
        let mut world = story.start.clone();
        story.changes.iter().for_each(|change| change.apply(&mut world));
        let mut random = Random::new(seed);
        let flows = sample(&mut random, &world);
        let before = allowed(&world, &node.kernel, &flows);
        let after = allowed(
            &world,
            &StoryNode::start(BackendName::IptablesNft, "node-a", &world, Order::Usual).kernel,
            &flows,
        );
        let mut restarted = StoryNode::start(BackendName::IptablesNft, "node-a", &world, Order::Usual);
        restarted.kernel = node.kernel;
        let actual = Actual::read(&mut restarted.kernel).expect("it is read");
        let steps: Vec<Step> = restarted.enforcer.adopt(&actual).steps;
        for step in &steps {
            restarted.kernel.commit(step).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let now = allowed(&world, &restarted.kernel, &flows);
            for (flow, ((old, now), new)) in flows.iter().zip(before.iter().zip(now).zip(&after)) {
                checked += 1;
                assert!(!now || *old || *new, "seed {seed}: {flow:?} is open after {step:?}");
                assert!(now || !*old || !*new, "seed {seed}: {flow:?} is closed after {step:?}");
            }
        }
        for (chain, rules) in OF_KUBE_ROUTER {
            assert_eq!(
                restarted.kernel.table(Family::V4).remove(chain).as_deref(),
                Some(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()[..])
            );
        }
        assert_as_from_scratch(&restarted, "node-a", &world, &format!("seed {seed}"));
    }
    assert!(renamed > 500 && checked > 5_000, "{renamed} chains had old names, {checked} looks");
}

#[test]
fn every_name_that_is_written_is_recognised_and_none_has_the_form_of_kube_router() {
    let mut hashed = 0;
    for seed in 0..60 {
        for (pod_to_node, allowed) in
            [(PodToNode::Allow, Allowed::Return), (PodToNode::Policy, Allowed::Accept)]
        {
            let mut enforcer =
                Enforcer::new("node-a", Options { pod_to_node, allowed, ..Options::default() });
            facts(&worlds::story(seed, 1).start).into_iter().for_each(|fact| enforcer.apply(fact));
            let ruleset = enforcer.ruleset();
            for name in ruleset.tables.values().flat_map(|table| table.chains.keys()) {
                assert!(owns_chain(name.as_str()) && !may_be_of_0_1_0(name.as_str()), "{name}");
                hashed += usize::from(name.as_str().starts_with("KUBE-POD-SPECIFIC-FW-0"));
            }
            for name in ruleset.sets.keys() {
                assert!(owns_set(name.as_str()), "{name}");
            }
        }
    }
    assert!(hashed > 100, "{hashed} chains of pods");
}
