//! The kinds of objects that are read, and how each is called.

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Kind {
    Namespace,
    Pod,
    NetworkPolicy,
}

impl Kind {
    pub(in crate::source) const ALL: [Kind; 3] = [Kind::Namespace, Kind::Pod, Kind::NetworkPolicy];

    pub(in crate::source) fn name(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::Pod => "Pod",
            Kind::NetworkPolicy => "NetworkPolicy",
        }
    }

    pub(in crate::source) fn api_version(self) -> &'static str {
        match self {
            Kind::Namespace | Kind::Pod => "v1",
            Kind::NetworkPolicy => "networking.k8s.io/v1",
        }
    }

    /// Whether the kind was once served under `api_version`, and means the same object there.
    pub(in crate::source) fn was_served_as(self, api_version: &str) -> bool {
        match self {
            Kind::Namespace | Kind::Pod => !api_version.contains('/'),
            Kind::NetworkPolicy => {
                matches!(api_version.split('/').next(), Some("networking.k8s.io" | "extensions"))
            }
        }
    }
}
