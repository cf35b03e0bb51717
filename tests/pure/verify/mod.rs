//! What verification says of a kernel in memory: nothing of one that is right, and of each fault what it does.

mod faults;
mod follow;

use crate::equivalence::{address, oracle_allows, worlds};
use bridgewarden::apply::{Actual, Fake};
use bridgewarden::controller::Enforcer;
use bridgewarden::explain::oracle::{QueryEnd, World};
use bridgewarden::net::Flow;
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::{Allowed, Binding, Deny, OnRevoke, Options, PodToNode};
use bridgewarden::verify::{Evidence, Verification, VerificationOutcome, verify};
use support::backends::{BACKENDS, options};
use support::packets::{Judge, enforcer, facts};
use support::story_node::{Order, StoryNode};
use support::topology::NODES;
use support::worlds::{self, check_stories, without_rules};

/// What was read from a kernel in memory.
fn evidence(kernel: &mut Fake, options: &Options) -> Evidence {
    let actual = Actual::read(kernel).expect("a kernel in memory is read");
    Evidence { options: options.clone(), actual, sees_bridged: [true, true] }
}

fn verified(enforcer: &Enforcer, kernel: &mut Fake) -> Verification {
    verify(&evidence(kernel, enforcer.options()), &enforcer.expectation())
}

/// What an agent with these options writes to a kernel in memory.
fn written(enforcer: &mut Enforcer) -> Fake {
    use bridgewarden::apply::PacketFilter;
    let mut kernel = Fake::default();
    kernel.switch_backend(enforcer.options().backend);
    let actual = Actual::read(&mut kernel).expect("it is read");
    for step in enforcer.adopt(&actual).steps {
        kernel.commit(&step).expect("it is written");
    }
    kernel
}

#[test]
fn expectation_says_what_the_api_says_in_every_random_world() {
    for seed in 0..worlds() / 5 {
        let world = if seed % 2 == 0 { worlds::world(seed) } else { worlds::doubtful_world(seed) };
        let expectations =
            NODES.map(|node| enforcer(BackendName::default(), &world, node.name).expectation());
        for flow in worlds::flows(&world) {
            let is_of_pods = [&flow.source, &flow.destination].into_iter().all(|end| match end {
                QueryEnd::Pod(index) => world.pods[*index].spec.host_network != Some(true),
                QueryEnd::Address(_) => true,
                QueryEnd::Node { .. } => false,
            });
            if !is_of_pods {
                continue;
            }
            let [source, destination] =
                [&flow.source, &flow.destination].map(|end| address(&world, end, flow.family));
            let asked = Flow { source, destination, port: Some((flow.protocol, flow.port)) };
            let allowed =
                source == destination || expectations.iter().all(|expectation| expectation.allows(&asked));
            let [source, destination] = [source, destination].map(QueryEnd::Address);
            let query = bridgewarden::explain::oracle::FlowQuery { source, destination, ..flow.clone() };
            assert_eq!(allowed, oracle_allows(&world, &query), "world {seed}, {flow:?}");
        }
    }
}

#[test]
fn kernel_that_is_right_is_verified_after_every_change_of_every_story() {
    let mut decisions = 0;
    for backend in BACKENDS {
        check_stories(worlds::stories_with_ports(60), |seed, story| {
            for place in NODES {
                let mut node = StoryNode::start(backend, place.name, &story.start, Order::Usual);
                for (at, change) in [None].into_iter().chain(story.changes.iter().map(Some)).enumerate() {
                    if let Some(change) = change {
                        node.apply(change);
                        node.flush();
                    }
                    let verification = verified(&node.enforcer, &mut node.kernel);
                    if let VerificationOutcome::Differs(example) = &verification.finding {
                        panic!(
                            "story {seed}, {}, change {at}, {backend:?}: {change:?}: {example}",
                            place.name
                        );
                    }
                    assert_eq!(verification.finding, VerificationOutcome::Verified, "story {seed}");
                    decisions += verification.decisions;
                }
            }
        });
    }
    assert!(decisions > 1_000_000, "only {decisions} decisions");
}

#[test]
fn kernel_that_is_right_is_verified_whatever_the_operator_chose() {
    let choices: [fn(&mut Options); 9] = [
        |options| options.pod_to_node = PodToNode::Policy,
        |options| options.pod_to_node = PodToNode::Drop,
        |options| options.binding = Binding::Addresses,
        |options| options.binding = Binding::Off,
        |options| options.deny = Deny::Drop,
        |options| options.deny = Deny::RejectIcmp,
        |options| options.on_revoke = OnRevoke::Keep,
        |options| options.mark = 0x4000,
        |options| {
            if options.backend != BackendName::Nftables {
                options.allowed = Allowed::Accept;
            }
        },
    ];
    for (seed, backend) in (0..40).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        for (number, choose) in choices.iter().enumerate() {
            let mut options = options(backend);
            choose(&mut options);
            let mut enforcer = Enforcer::new("node-a", options);
            facts(&world).into_iter().for_each(|fact| enforcer.apply(fact));
            let mut kernel = written(&mut enforcer);
            let verification = verified(&enforcer, &mut kernel);
            if let VerificationOutcome::Differs(example) = &verification.finding {
                panic!("world {seed}, choice {number}, {backend:?}: {example}");
            }
            assert_eq!(verification.finding, VerificationOutcome::Verified, "world {seed}, choice {number}");
        }
    }
}

/// Where the packets of the other tests find a difference, verification does.
#[test]
fn kernel_whose_rules_lack_a_policys_rules_is_never_verified_where_a_packet_shows_it() {
    let mut shown = 0;
    for (seed, backend) in (0..worlds() / 10).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        let poorer = World { policies: without_rules(&world).policies, ..world.clone() };
        let mut kernels = NODES.map(|node| written(&mut enforcer(backend, &poorer, node.name)));
        let [a, b] = &kernels;
        let judge = Judge::new(&world, [a, b]);
        let differs = worlds::flows(&world).iter().any(|flow| {
            let is_of_pods = |end: &QueryEnd| matches!(end, QueryEnd::Pod(index) if world.pods[*index].spec.host_network != Some(true));
            is_of_pods(&flow.source)
                && is_of_pods(&flow.destination)
                && judge.allows(flow) != oracle_allows(&world, flow)
        });
        let found = NODES.iter().zip(&mut kernels).any(|(node, kernel)| {
            verified(&enforcer(backend, &world, node.name), kernel).finding != VerificationOutcome::Verified
        });
        assert!(found || !differs, "world {seed}, {backend:?}");
        shown += u64::from(differs);
    }
    assert!(shown > worlds() / 20, "{shown}");
}
