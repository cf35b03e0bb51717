//! Random labels for audit mode. They come from a generator of their own, so that they change nothing else of a world.

use super::Random;
use bridgewarden::api::ObjectMeta;
use bridgewarden::explain::oracle::World;
use bridgewarden::model::AUDIT_LABEL;

/// The percentages of labelled objects.
const POLICIES: usize = 25;
const NAMESPACES: usize = 8;
const PODS: usize = 10;

/// Values of the label. Only one of them means audit mode.
const VALUES: [&str; 8] = ["true", "true", "true", "true", "false", "True", "yes", ""];

/// Labels some policies, namespaces and pods. The label of a pod means nothing.
pub(super) fn label_some(world: &mut World, random: &mut Random) {
    for policy in &mut world.policies {
        label(&mut policy.metadata, POLICIES, random);
    }
    for namespace in &mut world.namespaces {
        label(&mut namespace.metadata, NAMESPACES, random);
    }
    for pod in &mut world.pods {
        label(&mut pod.metadata, PODS, random);
    }
}

/// Labels a policy that is new or changed, or takes its label away.
pub(super) fn relabel_policy(metadata: &mut ObjectMeta, random: &mut Random) {
    if random.chance(POLICIES) {
        set(metadata, random);
    } else if random.chance(POLICIES) {
        metadata.labels = None;
    }
}

/// Labels a namespace that is new or changed.
pub(super) fn relabel_namespace(metadata: &mut ObjectMeta, random: &mut Random) {
    label(metadata, 2 * NAMESPACES, random);
}

fn label(metadata: &mut ObjectMeta, percent: usize, random: &mut Random) {
    if random.chance(percent) {
        set(metadata, random);
    }
}

fn set(metadata: &mut ObjectMeta, random: &mut Random) {
    let value = random.pick(&VALUES).to_string();
    metadata.labels.get_or_insert_default().insert(AUDIT_LABEL.to_owned(), value);
}
