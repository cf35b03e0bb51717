//! Objects that make pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob and ReplicationController.

use super::{ObjectMeta, PodSpec};
use serde::{Deserialize, Serialize};

/// An object that makes pods, of any kind that does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct WorkloadObject {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its specification.
    pub spec: WorkloadSpec,
}

/// What these kinds' specs have in common.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// The pods that it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplateSpec>,
    /// CronJob: the Jobs that it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_template: Option<JobTemplateSpec>,
}

/// PodTemplateSpec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct PodTemplateSpec {
    /// The labels of its pods.
    pub metadata: ObjectMeta,
    /// What is asked for each of them.
    pub spec: PodSpec,
}

/// JobTemplateSpec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct JobTemplateSpec {
    /// What is asked for each Job.
    pub spec: JobSpec,
}

/// JobSpec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct JobSpec {
    /// The pods that it makes.
    pub template: PodTemplateSpec,
}
