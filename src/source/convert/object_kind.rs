//! The kinds of objects that are read, with their names and API versions.

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum ObjectKind {
    Namespace,
    Pod,
    NetworkPolicy,
}

impl ObjectKind {
    pub(in crate::source) const ALL: [ObjectKind; 3] =
        [ObjectKind::Namespace, ObjectKind::Pod, ObjectKind::NetworkPolicy];

    pub(in crate::source) fn name(self) -> &'static str {
        match self {
            ObjectKind::Namespace => "Namespace",
            ObjectKind::Pod => "Pod",
            ObjectKind::NetworkPolicy => "NetworkPolicy",
        }
    }

    pub(in crate::source) fn api_version(self) -> &'static str {
        match self {
            ObjectKind::Namespace | ObjectKind::Pod => "v1",
            ObjectKind::NetworkPolicy => "networking.k8s.io/v1",
        }
    }

    /// Whether the kind is or was served under `api_version`, with the same meaning.
    pub(in crate::source) fn was_served_as(self, api_version: &str) -> bool {
        match self {
            ObjectKind::Namespace | ObjectKind::Pod => !api_version.contains('/'),
            ObjectKind::NetworkPolicy => {
                matches!(api_version.split('/').next(), Some("networking.k8s.io" | "extensions"))
            }
        }
    }
}
