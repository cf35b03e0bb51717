//! The fields of Kubernetes 1.35, at the levels that are read; deeper fields may be anything.

use super::{SchemaField, Shape};
use Shape::{Any, Bool, Int, IntOrString, List, Object, String, Strings};

/// A v1 Namespace.
pub(in crate::source::manifest) const NAMESPACE: Shape = Object(&[
    field("apiVersion", String),
    field("kind", String),
    field("metadata", OBJECT_META),
    field("spec", Object(&[field("finalizers", List(&String))])),
    field("status", Object(&[field("conditions", List(&Any)), field("phase", String)])),
]);

/// A v1 Pod.
pub(in crate::source::manifest) const POD: Shape = Object(&[
    field("apiVersion", String),
    field("kind", String),
    field("metadata", OBJECT_META),
    field("spec", POD_SPEC),
    field("status", POD_STATUS),
]);

/// A networking.k8s.io/v1 NetworkPolicy. Its `status` was served from 1.24 to 1.27.
pub(in crate::source::manifest) const NETWORK_POLICY: Shape = Object(&[
    field("apiVersion", String),
    field("kind", String),
    field("metadata", OBJECT_META),
    field("spec", NETWORK_POLICY_SPEC),
    field("status", Any),
]);

/// A list of objects of any kind; items are checked separately.
pub(in crate::source::manifest) const LIST: Shape = Object(&[
    field("apiVersion", String),
    field("items", List(&Any)),
    field("kind", String),
    field("metadata", Any),
]);

const fn field(name: &'static str, shape: Shape) -> SchemaField {
    SchemaField { name, shape }
}

const OBJECT_META: Shape = Object(&[
    field("annotations", Strings),
    field("creationTimestamp", String),
    field("deletionGracePeriodSeconds", Int),
    field("deletionTimestamp", String),
    field("finalizers", List(&String)),
    field("generateName", String),
    field("generation", Int),
    field("labels", Strings),
    field("managedFields", List(&Any)),
    field("name", String),
    field("namespace", String),
    field("ownerReferences", List(&OWNER_REFERENCE)),
    field("resourceVersion", String),
    field("selfLink", String),
    field("uid", String),
]);

const OWNER_REFERENCE: Shape = Object(&[
    field("apiVersion", String),
    field("blockOwnerDeletion", Bool),
    field("controller", Bool),
    field("kind", String),
    field("name", String),
    field("uid", String),
]);

const POD_SPEC: Shape = Object(&[
    field("activeDeadlineSeconds", Int),
    field("affinity", Any),
    field("automountServiceAccountToken", Bool),
    field("containers", List(&CONTAINER)),
    field("dnsConfig", Any),
    field("dnsPolicy", String),
    field("enableServiceLinks", Bool),
    field("ephemeralContainers", List(&Any)),
    field("hostAliases", List(&Any)),
    field("hostIPC", Bool),
    field("hostNetwork", Bool),
    field("hostPID", Bool),
    field("hostUsers", Bool),
    field("hostname", String),
    field("hostnameOverride", String),
    field("imagePullSecrets", List(&Any)),
    field("initContainers", List(&CONTAINER)),
    field("nodeName", String),
    field("nodeSelector", Strings),
    field("os", Any),
    field("overhead", Any),
    field("preemptionPolicy", String),
    field("priority", Int),
    field("priorityClassName", String),
    field("readinessGates", List(&Any)),
    field("resourceClaims", List(&Any)),
    field("resources", Any),
    field("restartPolicy", String),
    field("runtimeClassName", String),
    field("schedulerName", String),
    field("schedulingGates", List(&Any)),
    field("securityContext", Any),
    field("serviceAccount", String),
    field("serviceAccountName", String),
    field("setHostnameAsFQDN", Bool),
    field("shareProcessNamespace", Bool),
    field("subdomain", String),
    field("terminationGracePeriodSeconds", Int),
    field("tolerations", List(&Any)),
    field("topologySpreadConstraints", List(&Any)),
    field("volumes", List(&Any)),
    field("workloadRef", Any),
]);

const CONTAINER: Shape = Object(&[
    field("args", List(&String)),
    field("command", List(&String)),
    field("env", List(&Any)),
    field("envFrom", List(&Any)),
    field("image", String),
    field("imagePullPolicy", String),
    field("lifecycle", Any),
    field("livenessProbe", Any),
    field("name", String),
    field("ports", List(&CONTAINER_PORT)),
    field("readinessProbe", Any),
    field("resizePolicy", List(&Any)),
    field("resources", Any),
    field("restartPolicy", String),
    field("restartPolicyRules", List(&Any)),
    field("securityContext", Any),
    field("startupProbe", Any),
    field("stdin", Bool),
    field("stdinOnce", Bool),
    field("terminationMessagePath", String),
    field("terminationMessagePolicy", String),
    field("tty", Bool),
    field("volumeDevices", List(&Any)),
    field("volumeMounts", List(&Any)),
    field("workingDir", String),
]);

const CONTAINER_PORT: Shape = Object(&[
    field("containerPort", Int),
    field("hostIP", String),
    field("hostPort", Int),
    field("name", String),
    field("protocol", String),
]);

const POD_STATUS: Shape = Object(&[
    field("allocatedResources", Any),
    field("conditions", List(&Any)),
    field("containerStatuses", List(&Any)),
    field("ephemeralContainerStatuses", List(&Any)),
    field("extendedResourceClaimStatus", Any),
    field("hostIP", String),
    field("hostIPs", List(&IP)),
    field("initContainerStatuses", List(&Any)),
    field("message", String),
    field("nominatedNodeName", String),
    field("observedGeneration", Int),
    field("phase", String),
    field("podIP", String),
    field("podIPs", List(&IP)),
    field("qosClass", String),
    field("reason", String),
    field("resize", String),
    field("resourceClaimStatuses", List(&Any)),
    field("resources", Any),
    field("startTime", String),
]);

const IP: Shape = Object(&[field("ip", String)]);

const NETWORK_POLICY_SPEC: Shape = Object(&[
    field("egress", List(&EGRESS_RULE)),
    field("ingress", List(&INGRESS_RULE)),
    field("podSelector", LABEL_SELECTOR),
    field("policyTypes", List(&String)),
]);

const INGRESS_RULE: Shape = Object(&[field("from", List(&PEER)), field("ports", List(&PORT))]);

const EGRESS_RULE: Shape = Object(&[field("ports", List(&PORT)), field("to", List(&PEER))]);

const PEER: Shape = Object(&[
    field("ipBlock", Object(&[field("cidr", String), field("except", List(&String))])),
    field("namespaceSelector", LABEL_SELECTOR),
    field("podSelector", LABEL_SELECTOR),
]);

const PORT: Shape = Object(&[field("endPort", Int), field("port", IntOrString), field("protocol", String)]);

const LABEL_SELECTOR: Shape =
    Object(&[field("matchExpressions", List(&REQUIREMENT)), field("matchLabels", Strings)]);

const REQUIREMENT: Shape =
    Object(&[field("key", String), field("operator", String), field("values", List(&String))]);
