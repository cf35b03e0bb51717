//! A sample of the random worlds, measured with real packets: real controllers, real kernel, real TCP and UDP, and SCTP if
//! the kernel has it.

use bridgewarden::explain::oracle::{QueryEnd, Ruling, World, decide};
use bridgewarden::model::PodKey;
use bridgewarden::testbed::{Endpoint, Probe};
use std::path::Path;
use support::field::{Asked, BACKENDS, Field, can_be_tried};
use support::worlds;

#[test]
fn kernel_does_what_the_api_says_in_random_worlds() {
    assert!(nix::unistd::geteuid().is_root(), "network namespaces need root; run: sudo -E make test");
    let wanted = worlds::how_many("BRIDGEWARDEN_PACKET_WORLDS", 100);
    let (mut measured, mut tried, mut denied) = (0, 0, 0);
    // Keys of an API yet to come cannot be written in a manifest; such worlds are judged by trace.
    let worlds = (0..).map(|seed| (seed, worlds::world(seed))).filter(|(_, world)| {
        support::manifest::parse(&support::manifest::write(world)).as_ref() == Ok(world)
    });
    for (seed, world) in worlds.take(usize::try_from(wanted).expect("worlds can be counted")) {
        let asked = asked(seed, &world);
        measured += 1;
        tried += asked.len();
        denied += asked.iter().filter(|asked| !asked.open).count();
        let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("world-{seed}"));
        let manifests = here.join("world.yaml");
        std::fs::create_dir_all(&here).expect("a directory of our own");
        std::fs::write(&manifests, support::manifest::write(&world)).expect("the world is written");
        let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden"));
        let mut field = Field::build("world", &world, program, &here).expect("the network stands");
        // Every third world on each.
        let backend = BACKENDS[(seed % 3) as usize];
        field.start(&manifests, backend, &[]).expect("the controllers start");
        field.await_ready().unwrap_or_else(|error| panic!("world {seed} on {backend}: {error}"));
        field.settle(&asked).unwrap_or_else(|error| panic!("world {seed} on {backend}: {error}"));
        std::fs::remove_dir_all(&here).expect("our own directory goes");
    }
    assert_eq!(measured, wanted);
    assert!(denied * 5 > tried, "only {denied} of {tried} connections are denied");
}

/// Every pod's declared ports, from every pod, node and the outside, with what the API says of each.
fn asked(seed: u64, world: &World) -> Vec<Asked> {
    let flows = worlds::flows(world).into_iter().filter(|flow| can_be_tried(flow.protocol));
    let mut asked = Vec::new();
    for flow in flows {
        let QueryEnd::Pod(to) = flow.destination else { continue };
        let pod = &world.pods[to];
        let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
        let declares = containers.flat_map(|container| &container.ports).any(|port| {
            port.container_port == i64::from(flow.port)
                && port.protocol.as_deref().unwrap_or("TCP") == flow.protocol.to_string()
        });
        let from = match &flow.source {
            QueryEnd::Pod(from) => pod_endpoint(world, *from),
            QueryEnd::Node { name, .. } => Endpoint::node(name),
            QueryEnd::Address(address) if address.to_string().ends_with("10") => Endpoint::Outside,
            QueryEnd::Address(_) => continue,
        };
        let Some(address) = address(world, to, &flow) else { continue };
        if declares {
            let open = decide(world, &flow).expect("flows worth probing are possible") == Ruling::Allowed;
            let probe = Probe::new(from, address, flow.protocol, flow.port);
            asked.push(Asked { place: format!("world {seed}"), probe, open, to_service: false });
        }
    }
    asked
}

fn pod_endpoint(world: &World, index: usize) -> Endpoint {
    let metadata = &world.pods[index].metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    Endpoint::Pod(PodKey::new(namespace, &metadata.name))
}

fn address(
    world: &World,
    index: usize,
    flow: &bridgewarden::explain::oracle::FlowQuery,
) -> Option<std::net::IpAddr> {
    let mut addresses = world.pods[index].status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok());
    addresses.find(|address| bridgewarden::net::Family::of(*address) == flow.family)
}
