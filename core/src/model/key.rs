//! The identities of objects. Strings from outside are converted to these types.

use std::fmt;
use std::sync::Arc;

/// The name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceName(Arc<str>);

impl NamespaceName {
    /// The namespace of this name.
    pub fn new(name: &str) -> NamespaceName {
        NamespaceName(name.into())
    }

    /// The name as the API spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// Its namespace.
            pub namespace: NamespaceName,
            /// Its name in the namespace.
            pub name: Arc<str>,
        }

        impl $name {
            /// The object of this namespace and name.
            pub fn new(namespace: &str, name: &str) -> $name {
                $name { namespace: NamespaceName::new(namespace), name: name.into() }
            }
        }

        impl fmt::Display for $name {
            /// `namespace/name`.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }
    };
}

key!(
    /// The identity of a NetworkPolicy.
    PolicyKey
);
key!(
    /// The identity of a Pod.
    PodKey
);
key!(
    /// Which Service.
    ServiceKey
);

/// The identity of a sandbox of this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxKey {
    /// The pod for which it was made.
    pub pod: PodKey,
    /// Its name on the node, unique among the sandboxes of the pod.
    pub name: Arc<str>,
}

impl SandboxKey {
    /// The sandbox of this pod and name.
    pub fn new(pod: PodKey, name: &str) -> SandboxKey {
        SandboxKey { pod, name: name.into() }
    }
}

impl fmt::Display for SandboxKey {
    /// `sandbox NAME of pod namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sandbox {} of pod {}", self.name, self.pod)
    }
}
