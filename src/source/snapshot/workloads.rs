//! Workload objects, each of which stands for the pods that it makes.

use crate::api;
use crate::model::{NamespaceName, Pod, Workload};
use crate::source::convert;
use std::collections::BTreeSet;

/// What identifies a workload: its namespace, kind and name.
type WorkloadName = (NamespaceName, Box<str>, Box<str>);

/// A workload object, as the pod that it would make.
#[derive(Debug)]
struct StandIn {
    workload: WorkloadName,
    /// What made the object itself: a ReplicaSet is a Deployment's.
    maker: Option<WorkloadName>,
    pod: Pod,
}

/// The workload objects that were read.
#[derive(Debug, Default)]
pub(super) struct WorkloadPods(Vec<StandIn>);

impl WorkloadPods {
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
        self.0.push(StandIn { workload, maker, pod });
        Ok(())
    }

    /// A pod for each workload that has none among `pods`, and that no other of these objects made.
    pub(super) fn without_pods<'a>(self, pods: impl Iterator<Item = &'a Pod>) -> Vec<Pod> {
        let objects: BTreeSet<WorkloadName> =
            self.0.iter().map(|stand_in| stand_in.workload.clone()).collect();
        let mut with_pods = BTreeSet::new();
        if !objects.is_empty() {
            for pod in pods {
                let Workload { namespace, kind, name } = Workload::of(pod);
                with_pods.insert((namespace.clone(), kind, name));
                let owner = pod.owner.as_deref();
                with_pods.extend(owner.map(|owner| (namespace, owner.kind.clone(), owner.name.clone())));
            }
        }
        let stands = |stand_in: &StandIn| {
            let maker = stand_in.maker.as_ref();
            !with_pods.contains(&stand_in.workload)
                && maker.is_none_or(|maker| !objects.contains(maker) && !with_pods.contains(maker))
        };
        self.0.into_iter().filter(stands).map(|stand_in| stand_in.pod).collect()
    }
}
