//! A node with a real kernel in a network namespace, and what its kernel is asked for.

use crate::world::{CostClusters, EventKind, WatchEvent, read};
use bridgewarden::apply::{Actual, PacketFilter, Step};
use bridgewarden::controller::{Enforcer, Flush};
use bridgewarden::kernel::Host;
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::render::Options;
use bridgewarden::testbed::{Layout, Testbed};
use bridgewarden_bench::cluster::LOCAL_NODE;

/// What the events of a kind cost together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Netlink requests that change something.
    pub(crate) requests: u64,
    /// Programs started.
    pub(crate) programs: u64,
    /// Transactions of rules.
    pub(crate) transactions: u64,
    /// Set elements added or removed.
    pub(crate) elements: u64,
    /// Bytes of rules handed over.
    pub(crate) bytes: u64,
    /// Allocations from the object's JSON to the steps that the kernel is to take.
    pub(crate) allocations: u64,
}

/// An enforcer and its kernel.
pub(crate) struct CostNode {
    enforcer: Enforcer,
    kernel: Host,
}

impl CostNode {
    /// Applies events of these kinds in a cluster, and returns the cost of each kind.
    pub(crate) fn run(world: &CostClusters, events: &[EventKind]) -> Vec<Cost> {
        in_namespace("cost", || {
            let mut node = CostNode::enforcing(world);
            events.iter().map(|event| node.cost(&world.events(*event))).collect()
        })
    }

    fn enforcing(world: &CostClusters) -> CostNode {
        let mut kernel = Host::new(Variant::Nft).expect("sockets to the kernel");
        let mut enforcer = Enforcer::new(LOCAL_NODE, Options::default());
        world.objects.iter().for_each(|text| enforcer.apply(read(text)));
        let actual = Actual::read(&mut kernel).expect("the kernel can be read");
        let flush = enforcer.adopt(&actual);
        let mut node = CostNode { enforcer, kernel };
        node.commit(&flush);
        node
    }

    fn commit(&mut self, flush: &Flush) {
        for step in &flush.steps {
            self.kernel.commit(step).expect("the kernel takes it");
        }
    }

    fn cost(&mut self, events: &[(Vec<WatchEvent>, WatchEvent)]) -> Cost {
        let mut sum = Cost::default();
        for (before, event) in events {
            for event in before {
                self.enforcer.apply(event.change());
                let flush = self.enforcer.flush();
                self.commit(&flush);
            }
            let tally = self.kernel.tally();
            let mut flush = None;
            let allocated = allocation_counter::measure(|| {
                self.enforcer.apply(event.change());
                flush = Some(self.enforcer.flush());
            });
            let flush = flush.expect("it was made");
            self.commit(&flush);
            let after = self.kernel.tally();
            sum.requests += after.netlink_writes - tally.netlink_writes;
            sum.requests += after.transactions - tally.transactions;
            sum.programs += after.processes - tally.processes;
            sum.transactions += after.restores - tally.restores;
            sum.elements += after.elements - tally.elements;
            sum.bytes += flush.steps.iter().map(bytes).sum::<u64>();
            sum.allocations += allocated.count_total;
        }
        sum
    }
}

/// Does something in the network namespace of a node of its own.
pub(crate) fn in_namespace<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let id = format!("{name}{}", std::process::id() % 10_000_000);
    let layout = Layout::new(vec![LOCAL_NODE.to_owned()], Vec::new());
    let testbed = Testbed::build(&id, &layout).expect("a node");
    let namespace = testbed.node_namespace(LOCAL_NODE).expect("it is there").clone();
    let done = namespace.enter(work);
    testbed.remove().expect("the node goes");
    done.expect("a namespace that can be entered")
}

fn bytes(step: &Step) -> u64 {
    match step {
        Step::Restore(_, _, text) => text.text.len() as u64,
        Step::CreateSet(..)
        | Step::ReplaceSet(..)
        | Step::AddElements(..)
        | Step::RemoveElements(..)
        | Step::DestroySet(_)
        | Step::RemoveNftTable(_)
        | Step::Transact(_) => 0,
    }
}
