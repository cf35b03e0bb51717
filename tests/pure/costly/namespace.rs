//! All policies of a namespace together, each within the limits of one.

use super::*;

#[test]
fn policies_of_one_namespace_have_so_many_members_together_and_share_what_they_share() {
    let peers = |from: std::ops::Range<usize>| {
        let from: Vec<Value> = from.map(not_in).collect();
        json!({"podSelector": {}, "ingress": [{"from": from}]})
    };
    for backend in BACKENDS {
        let limits = Limits { namespace_members: 5 * PODS, ..Limits::default() };
        let mut node = Node::new(backend, limits);
        let sets = |node: &mut Node| allowed(node).1.len();
        let beyond = "allow nothing, because a node enforces at most 15000 members of sets of all policies of one namespace";
        for number in 0..4 {
            node.enforcer.apply(policy("crowd", &format!("same-{number}"), peers(0..3)));
        }
        node.settle();
        assert_eq!((sets(&mut node), node.notes()), (3, vec![]), "what they share counts once");
        node.enforcer.apply(policy("crowd", "more", peers(10..14)));
        node.settle();
        assert_eq!(sets(&mut node), 5, "two of the four");
        assert!(node.notes().concat().contains(&format!("2 peers or ports {beyond}")), "{:?}", node.notes());
        node.enforcer.apply(policy("other", "own", peers(20..23)));
        node.settle();
        assert_eq!(sets(&mut node), 8, "another namespace has its own share");
        // The same after a start, whatever came first.
        let pods = (0..PODS).map(|number| pod("crowd", number, if number < 10 { "here" } else { "there" }));
        let facts = [policy("crowd", "more", peers(10..14)), policy("other", "own", peers(20..23))];
        let mut early = Enforcer::new("here", options(backend)).with_limits(limits);
        let same = (0..4).map(|number| policy("crowd", &format!("same-{number}"), peers(0..3)));
        facts.into_iter().chain(same).chain(pods).for_each(|change| early.apply(change));
        early.apply(pod("other", PODS, "here"));
        let mut kernel = Fake::default();
        kernel.switch_backend(backend);
        let actual = Actual::read(&mut kernel).expect("a kernel in memory is read");
        kernel.commit_all(&early.adopt(&actual).steps).expect("the kernel takes every step");
        assert_eq!(sets(&mut Node { enforcer: early, kernel }), 8);

        for number in 0..4 {
            assert_eq!(sets(&mut node), 8, "{number} of those that share are gone");
            node.enforcer.apply(namespace("crowd"));
            node.enforcer.apply(Change::PolicyGone(PolicyKey::new("crowd", &format!("same-{number}"))));
            node.settle();
        }
        assert_eq!(
            (sets(&mut node), node.notes()),
            (7, vec![]),
            "what was released goes to the policy that lacked it"
        );
    }
}
