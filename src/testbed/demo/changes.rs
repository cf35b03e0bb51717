//! What an edit changes: in the pods, and in the measured outcomes. Pure.

use super::question::{Finding, ProbedConnection, short};
use crate::model::PodKey;
use crate::net::{Family, Protocol};
use crate::testbed::{Endpoint, PodPlacement, Port, ProbeOutcome};
use std::collections::{BTreeMap, BTreeSet};

/// Changes to make in the testbed, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodChanges {
    /// Pods to remove.
    pub(super) leaving: Vec<PodKey>,
    /// Pods to add, or to add again with changes.
    pub(super) arriving: Vec<PodPlacement>,
    /// Pods that listen on different ports.
    pub(super) listening: Vec<(PodKey, Vec<Port>)>,
}

impl PodChanges {
    /// The changes from one set of pods to another.
    pub(super) fn between(old: &[PodPlacement], new: &[PodPlacement]) -> PodChanges {
        let by_pod = |places: &[PodPlacement]| -> BTreeMap<PodKey, PodPlacement> {
            places.iter().map(|place| (place.pod.clone(), place.clone())).collect()
        };
        let (old, new) = (by_pod(old), by_pod(new));
        let mut changes = PodChanges::default();
        for (pod, before) in &old {
            match new.get(pod) {
                Some(after) if after == before => {}
                Some(after)
                    if *after == (PodPlacement { listens: after.listens.clone(), ..before.clone() }) =>
                {
                    changes.listening.push((pod.clone(), after.listens.clone()));
                }
                Some(after) => {
                    changes.leaving.push(pod.clone());
                    changes.arriving.push(after.clone());
                }
                None => changes.leaving.push(pod.clone()),
            }
        }
        changes.arriving.extend(new.into_values().filter(|place| !old.contains_key(&place.pod)));
        changes
    }
}

/// The indices in `new` of connections whose expected outcome differs from what was measured in `old`, or that are new.
pub(super) fn awaited(old: &[Finding], new: &[super::question::ExpectedOutcome]) -> Vec<usize> {
    let old: BTreeMap<&ProbedConnection, &Finding> =
        old.iter().map(|finding| (&finding.question.connection, finding)).collect();
    let differs = |question: &super::question::ExpectedOutcome| {
        old.get(&question.connection).is_none_or(|finding| {
            let hoped = Finding { question: question.clone(), measured: finding.measured.clone() };
            !hoped.is_as_expected()
        })
    };
    new.iter().enumerate().filter(|(_, question)| differs(question)).map(|(place, _)| place).collect()
}

/// The differences between two measurements, a line for each destination's port.
///
/// `shop/db:5432/TCP  refused → open  from shop/web, shop/api`
pub(super) fn differences(old: &[Finding], new: &[Finding]) -> Vec<String> {
    let old: BTreeMap<&ProbedConnection, &ProbeOutcome> =
        old.iter().map(|finding| (&finding.question.connection, &finding.measured)).collect();
    let mut by_pair: BTreeMap<(&Endpoint, &Endpoint, Port, &ProbeOutcome, &ProbeOutcome), BTreeSet<Family>> =
        BTreeMap::new();
    for finding in new {
        let connection = &finding.question.connection;
        let Some(before) = old.get(connection).filter(|before| **before != &finding.measured) else {
            continue;
        };
        let port = (connection.protocol, connection.port);
        let pair = (&connection.to, &connection.from, port, *before, &finding.measured);
        by_pair.entry(pair).or_default().insert(connection.family);
    }
    let mut by_port: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for ((to, from, port, before, after), families) in by_pair {
        by_port.entry((to, port, before, after, families)).or_default().push(short(from));
    }
    let line = |((to, port, before, after, families), from): ((_, Port, _, _, BTreeSet<Family>), Vec<_>)| {
        let title = title(to, port);
        let families: Vec<String> = families.iter().map(ToString::to_string).collect();
        let over = if families.len() == 1 { format!(" over {}", families.join("")) } else { String::new() };
        format!("{title}  {before} → {after}{over}  from {}", from.join(", "))
    };
    by_port.into_iter().map(line).collect()
}

fn title(to: &Endpoint, (protocol, port): (Protocol, u16)) -> String {
    format!("{}:{port}/{protocol}", short(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::demo::question::tests::{TWO, cluster, findings};

    const OPEN: &str = "metadata: {name: db, namespace: elsewhere}";
    const GUARDED: &str = "metadata: {name: db, namespace: shop}\nspec:";

    fn opened() -> String {
        TWO.replace(GUARDED, &format!("{OPEN}\nspec:"))
    }

    #[test]
    fn edit_of_a_policy_changes_no_pod_and_is_reported_by_port() {
        let (before, after) = (findings(TWO), findings(&opened()));
        assert_eq!(differences(&before, &after), ["shop/db:5432/TCP  refused → open  from outside"]);
        assert_eq!(differences(&after, &after), [""; 0]);
        let changes = PodChanges::between(&cluster(TWO).places, &cluster(&opened()).places);
        assert_eq!(changes, PodChanges::default());
    }

    #[test]
    fn difference_in_one_family_says_so() {
        let (before, mut after) = (findings(TWO), findings(TWO));
        after[1].measured = ProbeOutcome::Timeout;
        assert_eq!(differences(&before, &after), {
            ["shop/db:5432/TCP  refused → timed out over IPv6  from outside"]
        });
    }

    #[test]
    fn what_must_change_is_awaited() {
        let (before, after) = (findings(TWO), findings(&opened()));
        let questions: Vec<_> = after.into_iter().map(|finding| finding.question).collect();
        assert_eq!(awaited(&before, &questions), [0, 1]);
        assert_eq!(awaited(&before[1..], &questions), [0, 1]);
    }

    #[test]
    fn pods_come_go_move_and_listen() {
        let old = cluster(TWO).places;
        let mut new = old.clone();
        new[0].listens.clear();
        new[1].node = "b".to_owned();
        let changes = PodChanges::between(&old, &new);
        assert_eq!(changes.listening, [(old[0].pod.clone(), Vec::new())]);
        assert_eq!((changes.leaving, changes.arriving), (vec![old[1].pod.clone()], vec![new[1].clone()]));
        assert_eq!(PodChanges::between(&old, &[]).leaving.len(), 2);
        assert_eq!(PodChanges::between(&[], &old).arriving, old);
    }
}
