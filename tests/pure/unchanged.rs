//! What is in the kernel as it must be is not written again.

use bridgewarden::apply::{Fake, Step};
use bridgewarden::net::Family;
use bridgewarden::netfilter::nftables::{self, TableFamily};
use bridgewarden::ownership::INET_TABLE;
use std::collections::BTreeSet;
use support::backends::check_backends;
use support::story_node::{Order, StoryNode};
use support::worlds::{self, Story};

fn stories() -> impl Iterator<Item = (u64, Story)> {
    worlds::stories(150)
}

#[test]
fn fact_reported_twice_writes_nothing_the_second_time() {
    check_backends(stories(), |backend, seed, story| {
        let mut node = StoryNode::start(backend, "node-b", &story.start, Order::Usual);
        for change in &story.changes {
            node.apply(change);
            node.flush();
            node.apply(change);
            assert_eq!(node.enforcer.flush().steps, [], "story {seed}: {change:?}");
        }
    });
}

#[test]
fn restart_on_a_correct_kernel_writes_nothing() {
    check_backends(stories(), |backend, seed, story| {
        let mut world = story.start.clone();
        let mut node = StoryNode::start(backend, "node-a", &world, Order::Usual);
        for change in &story.changes {
            change.apply(&mut world);
            node.apply(change);
            node.flush();
        }
        assert_eq!(node.restart(&world).steps, [], "story {seed}");
    });
}

/// A chain whose content stays keeps its counters: it is not written.
#[test]
fn only_chains_that_change_are_written() {
    check_backends(stories(), |backend, seed, story| {
        let mut node = StoryNode::start(backend, "node-a", &story.start, Order::Usual);
        for change in &story.changes {
            node.apply(change);
            for step in node.enforcer.flush().steps {
                let mut before = node.kernel.clone();
                node.commit(std::slice::from_ref(&step)).expect("the kernel takes the step");
                for name in written(&step) {
                    let (before, after) = (rules_of(&mut before, &name), rules_of(&mut node.kernel, &name));
                    assert_ne!(before, after, "story {seed}: {name} is rewritten as it was");
                }
            }
        }
    });
}

/// The chains that a step writes.
fn written(step: &Step) -> BTreeSet<String> {
    match step {
        Step::Restore(_, _, restore) => {
            restore.writes.iter().map(|chain| chain.as_str().to_owned()).collect()
        }
        Step::Transact(batches) => {
            let inet = batches.iter().filter(|batch| batch.family == TableFamily::Inet);
            let chains = inet.flat_map(|batch| &batch.changes).filter_map(|change| {
                if let nftables::Change::FlushChain(name) | nftables::Change::AddRule(name, _) = change {
                    Some(name.to_string())
                } else {
                    None
                }
            });
            chains.collect()
        }
        Step::CreateSet(..)
        | Step::ReplaceSet(..)
        | Step::AddElements(..)
        | Step::RemoveElements(..)
        | Step::DestroySet(_)
        | Step::RemoveNftTable(_) => BTreeSet::new(),
    }
}

/// The rules of a chain in all tables.
fn rules_of(kernel: &mut Fake, chain: &str) -> Vec<Option<String>> {
    let of_iptables =
        Family::BOTH.map(|family| kernel.table(family).get(chain).map(|rules| rules.join("\n")));
    let table = kernel.table_of_nft(TableFamily::Inet, INET_TABLE);
    let of_nft = table.and_then(|table| table.chains.get(chain)).map(|chain| format!("{:?}", chain.rules));
    of_iptables.into_iter().chain([of_nft]).collect()
}
