//! A selector for some pods of a namespace that selects no others, as far as labels can distinguish them.

use crate::model::{Demand, Labels, Pod, PodKey, Requirement, Selector};
use std::collections::{BTreeMap, BTreeSet};

/// Labels that change with every roll-out. No policy should name them, so pods that differ by these alone are the same here.
const PASSING: [&str; 3] = ["pod-template-hash", "controller-revision-hash", "pod-template-generation"];
/// Labels that identify what a pod runs, the best first.
const IDENTIFYING: [&str; 7] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app",
    "k8s-app",
    "name",
    "component",
];

/// The labels of a pod that last.
pub(super) fn lasting(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().filter(|(key, _)| !PASSING.contains(key)).collect()
}

/// A selector for some pods of a namespace, given all pods there. It also selects other pods only if their lasting labels are those of
/// one of them, or if labels cannot distinguish them.
pub(super) fn exact_selector<'a>(wanted: &[&Pod], all: impl Iterator<Item = &'a Pod>) -> Selector {
    let wanted: Vec<BTreeMap<&str, &str>> = wanted.iter().map(|pod| lasting(&pod.labels)).collect();
    let mut others: Vec<BTreeMap<&str, &str>> =
        all.filter(|pod| pod.networked && !pod.finished).map(|pod| lasting(&pod.labels)).collect();
    others.retain(|labels| !wanted.contains(labels));
    let mut common = wanted.first().cloned().unwrap_or_default();
    common.retain(|key, value| wanted.iter().all(|labels| labels.get(key) == Some(value)));
    let mut requirements = Vec::new();
    for (key, value) in in_order(&common) {
        let excludes = |labels: &BTreeMap<&str, &str>| labels.get(key) != Some(&value);
        if requirements.is_empty() || others.iter().any(excludes) {
            let demand = Demand::In(BTreeSet::from([Box::from(value)]));
            requirements.push(Requirement { key: key.into(), demand });
            others.retain(|labels| !excludes(labels));
        }
    }
    // Those that are left have all the labels that are wanted, and others besides.
    while let Some(labels) = others.pop() {
        let absent = labels.keys().find(|key| wanted.iter().all(|wanted| !wanted.contains_key(*key)));
        let foreign =
            labels.iter().find(|(key, value)| wanted.iter().all(|wanted| wanted.get(*key) != Some(*value)));
        let requirement = match (absent, foreign) {
            (Some(key), _) => Requirement { key: (*key).into(), demand: Demand::DoesNotExist },
            (None, Some((key, value))) => {
                let demand = Demand::NotIn(BTreeSet::from([Box::from(*value)]));
                Requirement { key: (*key).into(), demand }
            }
            (None, None) => continue,
        };
        let key = &*requirement.key;
        others.retain(|labels| match &requirement.demand {
            Demand::NotIn(values) => labels.get(key).is_none_or(|value| !values.contains(*value)),
            Demand::In(_) | Demand::Exists | Demand::DoesNotExist => !labels.contains_key(key),
        });
        requirements.push(requirement);
    }
    Selector::new(requirements)
}

/// Labels in the order in which a selector should name them.
fn in_order<'a>(labels: &BTreeMap<&'a str, &'a str>) -> Vec<(&'a str, &'a str)> {
    let rank = |key: &str| IDENTIFYING.iter().position(|known| *known == key).unwrap_or(IDENTIFYING.len());
    let mut labels: Vec<_> = labels.iter().map(|(key, value)| (*key, *value)).collect();
    labels.sort_by_key(|(key, _)| (rank(key), *key));
    labels
}

/// The pods that a selector selects.
pub(super) fn selected<'a>(
    selector: &'a Selector,
    all: impl Iterator<Item = &'a Pod> + 'a,
) -> impl Iterator<Item = &'a PodKey> + 'a {
    let live = all.filter(|pod| pod.networked && !pod.finished);
    live.filter(|pod| selector.matches(&pod.labels)).map(|pod| &pod.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, pairs: &[(&str, &str)]) -> Pod {
        let labels = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Pod { labels: Labels::new(&labels), ..Pod::new(PodKey::new("shop", name)) }
    }

    fn selector_for(wanted: &[usize], all: &[Pod]) -> (String, Vec<String>) {
        let wanted: Vec<&Pod> = wanted.iter().map(|index| &all[*index]).collect();
        let selector = exact_selector(&wanted, all.iter());
        let mut text: Vec<String> = selector.requirements().map(ToString::to_string).collect();
        text.sort_unstable();
        (text.join(" "), selected(&selector, all.iter()).map(|key| key.name.to_string()).collect())
    }

    #[test]
    fn pods_with_the_same_lasting_labels_are_selected_and_no_others() {
        let stateful = |name| pod(name, &[("app", "q"), ("statefulset.kubernetes.io/pod-name", name)]);
        let all = [
            pod("web", &[("app", "web")]),
            pod("canary", &[("app", "web"), ("canary", "yes")]),
            pod("db-a", &[("app", "db"), ("shard", "a"), ("pod-template-hash", "1")]),
            pod("db-a2", &[("app", "db"), ("shard", "a"), ("pod-template-hash", "2")]),
            pod("db-b", &[("app", "db"), ("shard", "b")]),
            pod("bare", &[]),
            stateful("q-0"),
            stateful("q-1"),
            pod("db-c", &[("app", "db"), ("shard", "c")]),
        ];
        for (wanted, text, names) in [
            (&[0][..], "!canary app=web", &["web"][..]),
            (&[1], "app=web canary=yes", &["canary"]),
            (&[2], "app=db shard=a", &["db-a", "db-a2"]),
            (&[5], "!app", &["bare"]),
            (&[6], "app=q statefulset.kubernetes.io/pod-name=q-0", &["q-0"]),
            (&[6, 7], "app=q", &["q-0", "q-1"]),
            (&[2, 4], "app=db shard notin (c)", &["db-a", "db-a2", "db-b"]),
        ] {
            let names = names.iter().map(ToString::to_string).collect();
            assert_eq!(selector_for(wanted, &all), (text.to_owned(), names));
        }
    }
}
