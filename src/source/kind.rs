//! The kinds of objects that are read, and how each is called.

use super::schema::{self, Shape};

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Namespace,
    Pod,
    NetworkPolicy,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Namespace, Kind::Pod, Kind::NetworkPolicy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::Pod => "Pod",
            Kind::NetworkPolicy => "NetworkPolicy",
        }
    }

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Kind::Namespace | Kind::Pod => "v1",
            Kind::NetworkPolicy => "networking.k8s.io/v1",
        }
    }

    /// Whether the kind was once served under `api_version`, and means the same object there.
    pub(super) fn was_served_as(self, api_version: &str) -> bool {
        match self {
            Kind::Namespace | Kind::Pod => !api_version.contains('/'),
            Kind::NetworkPolicy => {
                matches!(api_version.split('/').next(), Some("networking.k8s.io" | "extensions"))
            }
        }
    }

    /// Whether `word`, a kind of one of our API groups, is a misspelling of this one. Other groups have kinds of their own.
    pub(super) fn is_meant_by(self, word: &str, api_version: &str) -> bool {
        let name = self.name();
        Kind::ALL.into_iter().any(|kind| kind.was_served_as(api_version))
            && (name.eq_ignore_ascii_case(word)
                || name.len() > 3 && schema::nearest(word, [name].into_iter()).is_some())
    }

    pub(super) fn shape(self) -> Shape {
        match self {
            Kind::Namespace => schema::NAMESPACE,
            Kind::Pod => schema::POD,
            Kind::NetworkPolicy => schema::NETWORK_POLICY,
        }
    }
}
