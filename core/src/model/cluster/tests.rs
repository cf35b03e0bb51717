//! Namespaces whose objects are reported late, deleted early, or created again.

use super::*;
use crate::model::{Demand, NAMESPACE_NAME_LABEL, Requirement};

fn name() -> NamespaceName {
    NamespaceName::new("team")
}

fn asks(key: &str, demand: Demand) -> Selector {
    Selector::new([Requirement { key: key.into(), demand }])
}

fn one_of(values: &[&str]) -> BTreeSet<Box<str>> {
    values.iter().map(|value| (*value).into()).collect()
}

fn labelled(env: &str) -> Change {
    let labels = [("env".to_owned(), env.to_owned()), (NAMESPACE_NAME_LABEL.to_owned(), "team".to_owned())];
    Change::Namespace(Namespace { name: name(), labels: Labels::new(&labels.into()), terminating: false })
}

fn pod(pod: &str, host: u8) -> Change {
    Change::Pod(Pod {
        node: Some("node-b".into()),
        addresses: vec![[10, 244, 2, host].into()],
        ..Pod::new(PodKey::new("team", pod))
    })
}

fn cluster(changes: impl IntoIterator<Item = Change>) -> Cluster {
    let mut cluster = Cluster::new("node-a");
    changes.into_iter().for_each(|change| drop(cluster.apply(change)));
    cluster
}

fn is_selected(cluster: &Cluster, selector: &Selector, pod: &str) -> bool {
    let (_, group) = cluster.pod(&PodKey::new("team", pod)).expect("it is there");
    cluster.selects_namespace(selector, &group.namespace)
}

#[test]
fn namespace_that_was_never_seen_is_selected_by_its_name_alone() {
    let unseen = cluster([pod("a", 1)]);
    let seen = cluster([pod("a", 1), labelled("prod")]);
    let by_name = |demand: Demand| asks(NAMESPACE_NAME_LABEL, demand);
    for (selector, of_unseen, of_seen) in [
        (Selector::everything(), false, true),
        (asks("owner", Demand::DoesNotExist), false, true),
        (asks("owner", Demand::NotIn(one_of(&["ann"]))), false, true),
        (asks("env", Demand::DoesNotExist), false, false),
        (asks("env", Demand::In(one_of(&["prod"]))), false, true),
        (by_name(Demand::In(one_of(&["team", "other"]))), true, true),
        (by_name(Demand::In(one_of(&["other"]))), false, false),
        (by_name(Demand::NotIn(one_of(&["other"]))), false, true),
        (by_name(Demand::Exists), false, true),
    ] {
        assert_eq!(is_selected(&unseen, &selector, "a"), of_unseen, "{selector:?}");
        assert_eq!(is_selected(&seen, &selector, "a"), of_seen, "{selector:?}");
    }
}

#[test]
fn namespace_seen_with_no_label_but_its_name_is_selected_by_what_it_lacks() {
    let mut cluster = cluster([pod("a", 1)]);
    let labels = Labels::of_unknown_namespace(&name());
    let touched = cluster.apply(Change::Namespace(Namespace { name: name(), labels, terminating: false }));
    assert_eq!(touched.namespaces, [name()], "what is known of it is another thing now");
    assert!(is_selected(&cluster, &asks("env", Demand::DoesNotExist), "a"));
}

#[test]
fn namespace_that_went_keeps_its_labels_until_its_pods_are_gone() {
    let mut cluster = cluster([labelled("prod"), pod("a", 1), pod("b", 2), Change::NamespaceGone(name())]);
    let (prod, none) = (asks("env", Demand::In(one_of(&["prod"]))), asks("env", Demand::DoesNotExist));
    let test = asks("env", Demand::In(one_of(&["test"])));
    cluster.apply(Change::PodGone(PodKey::new("team", "a")));
    assert!(is_selected(&cluster, &prod, "b") && !is_selected(&cluster, &none, "b"));
    cluster.apply(Change::NamespaceGone(name()));
    assert!(is_selected(&cluster, &prod, "b"), "it went only once");
    let key = PolicyKey::new("team", "kept");
    let subject = Selector::everything();
    let (uid, invalid_parts) = (None, Vec::new());
    cluster.apply(Change::Policy(Policy {
        key,
        uid,
        version: Default::default(),
        subject,
        ingress: None,
        egress: None,
        invalid_parts,
        audit: AuditLabel::Enforced,
    }));
    cluster.apply(Change::PodGone(PodKey::new("team", "b")));
    cluster.apply(pod("b", 2));
    assert!(!is_selected(&cluster, &prod, "b"), "a pod of another namespace of this name");
    assert!(!is_selected(&cluster, &none, "b"));
    cluster.apply(labelled("test"));
    assert!(is_selected(&cluster, &test, "b"));
    cluster.apply(Change::PodGone(PodKey::new("team", "b")));
    cluster.apply(Change::PolicyGone(PolicyKey::new("team", "kept")));
    cluster.apply(Change::NamespaceGone(name()));
    assert_eq!(cluster.namespaces().count(), 0);
}
