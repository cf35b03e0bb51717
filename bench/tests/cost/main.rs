//! What one event costs, in counts that do not depend on the machine: requests to a real kernel, programs started, elements,
//! bytes of rules, and allocations from the event's JSON on.
//!
//! Each is asked for in a cluster of a thousand pods and a hundred policies, and in one that is ten times as large by nine
//! copies of all that is elsewhere. What an event asks for is the same in both, and so must its cost be.

mod costly;
mod node;
mod world;

use node::{Cost, CostNode};
use world::{CostClusters, EventKind, TIMES};

/// What one event of a kind may cost on average: requests, programs, transactions of rules, allocations.
struct CostBound {
    event: EventKind,
    requests: u64,
    programs: u64,
    transactions: u64,
    allocations: u64,
}

const BOUNDS: [CostBound; 7] = [
    bound(EventKind::RemoteUp, [3, 0, 0, 130]),
    bound(EventKind::RemoteRelabelled, [3, 0, 0, 150]),
    bound(EventKind::RemoteGone, [3, 0, 0, 60]),
    bound(EventKind::Irrelevant, [0, 0, 0, 150]),
    bound(EventKind::PolicyCreated, [1, 1, 1, 400]),
    bound(EventKind::PolicyDeleted, [1, 1, 1, 250]),
    bound(EventKind::LocalUp, [5, 1, 1, 2_800]),
];

const fn bound(event: EventKind, [requests, programs, transactions, allocations]: [u64; 4]) -> CostBound {
    CostBound { event, requests, programs, transactions, allocations }
}

#[test]
fn event_costs_what_it_changes_and_the_same_in_a_cluster_ten_times_as_large() {
    assert!(nix::unistd::geteuid().is_root(), "entering a namespace needs root; run: sudo -E make test");
    let small = CostNode::run(&CostClusters::new(0), &BOUNDS.each_ref().map(|bound| bound.event));
    let large = CostNode::run(&CostClusters::new(9), &BOUNDS.each_ref().map(|bound| bound.event));
    let mut problems = Vec::new();
    for ((bound, small), large) in BOUNDS.iter().zip(&small).zip(&large) {
        eprintln!("{:?}: {small:?}\n    ten times as large: {large:?}", bound.event);
        problems.extend(bound.problems(small, large));
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

impl CostBound {
    fn problems(&self, small: &Cost, large: &Cost) -> Vec<String> {
        let mut problems = Vec::new();
        let kernel =
            |cost: &Cost| [cost.requests, cost.programs, cost.transactions, cost.elements, cost.bytes];
        if kernel(small) != kernel(large) {
            problems.push(format!("{:?}: the kernel is asked for {large:?} and not {small:?}", self.event));
        }
        // A map that is deeper, or a list that grows just then, may take a few more.
        if large.allocations > small.allocations + small.allocations / 5 + 8 {
            problems.push(format!(
                "{:?}: {} allocations and not {}",
                self.event, large.allocations, small.allocations
            ));
        }
        for (what, is, may) in [
            ("requests", large.requests, self.requests),
            ("programs", large.programs, self.programs),
            ("transactions", large.transactions, self.transactions),
            ("allocations", large.allocations, self.allocations),
        ] {
            let may = may * TIMES as u64;
            if is > may {
                problems.push(format!("{:?}: {is} {what} and not at most {may}", self.event));
            }
        }
        problems
    }
}

#[test]
fn cost_that_grows_with_the_cluster_or_beyond_its_bound_is_noticed() {
    let (bound, times) = (bound(EventKind::RemoteUp, [2, 0, 0, 100]), TIMES as u64);
    let cost = Cost {
        requests: 2 * times,
        programs: 0,
        transactions: 0,
        elements: 2 * times,
        bytes: 0,
        allocations: 50 * times,
    };
    assert!(bound.problems(&cost, &cost).is_empty());
    for worse in [
        Cost { requests: 1, ..cost.clone() },
        Cost { elements: 20 * times, ..cost.clone() },
        Cost { bytes: 1, ..cost.clone() },
        Cost { allocations: 61 * times, ..cost.clone() },
    ] {
        assert_eq!(bound.problems(&cost, &worse).len(), 1, "{worse:?}");
    }
    let dear = Cost { requests: 2 * times + 1, allocations: 100 * times + 1, ..cost };
    assert_eq!(bound.problems(&dear, &dear).len(), 2);
}
