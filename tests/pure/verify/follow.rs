//! One connection that is followed through a kernel in memory gets the verdict of its policies, and is shown why.

use super::{evidence, written};
use crate::equivalence::{address, worlds};
use bridgewarden::explain::oracle::QueryEnd;
use bridgewarden::net::Flow;
use bridgewarden::verify::{EndPlace, FollowedFlow, FollowedRules};
use std::net::IpAddr;
use support::backends::BACKENDS;
use support::packets::enforcer;
use support::topology::NODES;
use support::worlds;

#[test]
fn connection_that_is_followed_gets_the_verdict_of_its_policies_in_every_random_world() {
    let (mut allowed, mut denied) = (0, 0);
    for (seed, backend) in (0..worlds() / 30).flat_map(|seed| BACKENDS.map(|backend| (seed, backend))) {
        let world = worlds::world(seed);
        for node in NODES {
            let mut enforcer = enforcer(backend, &world, node.name);
            let mut kernel = written(&mut enforcer);
            let evidence = evidence(&mut kernel, enforcer.options());
            let rules = FollowedRules::of(&evidence);
            let expectation = enforcer.expectation();
            let cluster = enforcer.cluster();
            let local = |address: IpAddr| {
                cluster
                    .local_pods()
                    .any(|pod| cluster.pod(pod).is_some_and(|(own, _)| own.contains(&address)))
            };
            for flow in worlds::flows(&world) {
                if [&flow.source, &flow.destination].iter().any(|end| matches!(end, QueryEnd::Node { .. })) {
                    continue;
                }
                let [source, destination] =
                    [&flow.source, &flow.destination].map(|end| address(&world, end, flow.family));
                let place = |address| match local(address) {
                    true => EndPlace::LocalPod { port: None, hardware: None },
                    false => EndPlace::Elsewhere,
                };
                let asked = Flow { source, destination, port: Some((flow.protocol, flow.port)) };
                let followed = FollowedFlow {
                    flow: asked,
                    source: place(source),
                    destination: place(destination),
                    by_service: false,
                };
                let Some(way) = rules.follow(&followed).expect("rules of ours can be evaluated") else {
                    assert!(!local(source) && !local(destination));
                    continue;
                };
                if source == destination {
                    continue;
                }
                let expected = expectation.allows(&asked);
                assert_eq!(
                    way.passes(),
                    expected,
                    "world {seed}, {backend:?}, {}, {asked:?}: {way:#?}",
                    node.name
                );
                assert_eq!(rules.follow_established(&followed, 0), Ok(Some(true)));
                if !expected {
                    let mut met = way.stages.iter().flat_map(|stage| &stage.rules);
                    let is_shown = met.any(|rule| rule.missed.is_none() && !rule.lookups.is_empty());
                    assert!(is_shown, "no set says that the pod is isolated: {way:#?}");
                }
                if expected { allowed += 1 } else { denied += 1 }
            }
        }
    }
    assert!(allowed > 500 && denied > 500, "{allowed} allowed and {denied} denied");
}
