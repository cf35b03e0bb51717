//! Workload objects, each of which stands for the pods that it makes.

use crate::api;
use crate::model::{NamespaceName, Pod, PodKey, Workload};
use crate::source::convert;
use std::collections::{BTreeMap, BTreeSet};

/// What identifies a workload: its namespace, kind and name.
type WorkloadName = (NamespaceName, Box<str>, Box<str>);

/// A workload object, as the pod that it would make.
#[derive(Debug)]
struct StandIn {
    workload: WorkloadName,
    /// What made the object itself: a ReplicaSet is a Deployment's.
    maker: Option<WorkloadName>,
    pod: Pod,
    /// The number of the input that it is in.
    input: usize,
}

/// The workload objects that were read.
#[derive(Debug, Default)]
pub(super) struct WorkloadPods {
    stand_ins: Vec<StandIn>,
    /// The number of the input that is being read.
    input: usize,
    /// The input in which each pod stands.
    pods: BTreeMap<PodKey, usize>,
}

impl WorkloadPods {
    /// What follows is in another input, which says what replaces earlier ones.
    pub(super) fn begin_input(&mut self) {
        self.input += 1;
    }

    /// Takes note of the input that a pod is in.
    pub(super) fn see_pod(&mut self, pod: &Pod) {
        self.pods.insert(pod.key.clone(), self.input);
    }

    /// Takes in a workload object. The pod that stands for it is named `deployment/web`, which no pod can be named, and has no
    /// address.
    ///
    /// # Errors
    /// What is wrong with the object.
    pub(super) fn add(&mut self, kind: &str, object: api::WorkloadObject) -> Result<(), String> {
        let api::WorkloadObject { metadata, spec } = object;
        let name = metadata.name;
        let template = spec.template.or(spec.job_template.map(|job| job.spec.template));
        let template = template.ok_or("it has no template for its pods")?;
        if name.is_empty() {
            return Err("metadata.name is missing: give the object a name".to_owned());
        }
        let controls = |owner: &&api::OwnerReference| owner.controller == Some(true);
        let maker = metadata.owner_references.iter().flatten().find(controls).cloned();
        let itself =
            api::OwnerReference { kind: kind.to_owned(), name: name.clone(), controller: Some(true) };
        let owner = maker.clone().unwrap_or_else(|| itself.clone());
        let (pod, invalid_parts) = convert::pod(&api::Pod {
            metadata: api::ObjectMeta {
                name: format!("{}/{name}", kind.to_lowercase()),
                namespace: metadata.namespace,
                labels: template.metadata.labels,
                owner_references: Some(vec![owner]),
                ..api::ObjectMeta::default()
            },
            spec: template.spec,
            status: api::PodStatus::default(),
        });
        if let Some(part) = invalid_parts.first() {
            return Err(format!("its template: {part}"));
        }
        let named = |owner: api::OwnerReference| {
            (pod.key.namespace.clone(), owner.kind.as_str().into(), owner.name.as_str().into())
        };
        let (workload, maker) = (named(itself), maker.map(named));
        self.stand_ins.push(StandIn { workload, maker, pod, input: self.input });
        Ok(())
    }

    /// A pod for each workload that has none among `pods`, and that no other of these objects made. A pod that has finished is
    /// replaced by the next, except that of a Job, which has finished too. Also says which workloads have pods that they would no
    /// longer make.
    pub(super) fn without_pods<'a>(self, pods: impl Iterator<Item = &'a Pod>) -> (Vec<Pod>, Vec<String>) {
        let objects: BTreeSet<WorkloadName> =
            self.stand_ins.iter().map(|stand_in| stand_in.workload.clone()).collect();
        let mut with_pods: BTreeMap<WorkloadName, Vec<&Pod>> = BTreeMap::new();
        if !objects.is_empty() {
            for pod in pods {
                let Workload { namespace, kind, name } = Workload::of(pod);
                let owner = pod.owner.as_deref().filter(|owner| !pod.finished || *owner.kind == *"Job");
                let owner = owner.map(|owner| (namespace.clone(), owner.kind.clone(), owner.name.clone()));
                let workload = Some((namespace, kind, name)).filter(|_| !pod.finished);
                for name in BTreeSet::from_iter(owner.into_iter().chain(workload)) {
                    with_pods.entry(name).or_default().push(pod);
                }
            }
        }
        let (mut found, mut notes) = (Vec::new(), BTreeMap::new());
        for stand_in in self.stand_ins {
            let StandIn { workload, maker, pod, input } = stand_in;
            if maker.is_some_and(|maker| objects.contains(&maker) || with_pods.contains_key(&maker)) {
                continue;
            }
            let Some(own) = with_pods.get(&workload) else {
                found.push(pod);
                continue;
            };
            // An object in a later input is meant to replace what is there.
            let is_later =
                own.iter().all(|own| self.pods.get(&own.key).is_some_and(|of_pod| *of_pod < input));
            let is_other = own.iter().any(|own| {
                !own.finished && pod.labels.iter().any(|(key, value)| own.labels.get(key) != Some(value))
            });
            let name = Workload::of(&pod).to_string();
            notes.remove(&name);
            if is_later || is_other {
                let why = if is_other {
                    "whose labels differ from its template's"
                } else {
                    "which an earlier input has"
                };
                let note = format!(
                    "{name} is shown by its pods, {why}, and not by its template: leave its pods out to see those that it will make"
                );
                notes.insert(name, note);
            }
        }
        (found, notes.into_values().collect())
    }
}
