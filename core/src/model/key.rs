//! Who an object is. Strings from outside stop here.

use std::fmt;
use std::sync::Arc;

/// The name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceName(Arc<str>);

impl NamespaceName {
    /// Names a namespace.
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
            /// The namespace it lives in.
            pub namespace: NamespaceName,
            /// Its name there.
            pub name: Arc<str>,
        }

        impl $name {
            /// Names an object.
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
    /// Which NetworkPolicy.
    PolicyKey
);
key!(
    /// Which Pod.
    PodKey
);

/// Which sandbox of this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxKey {
    /// The pod it is made for.
    pub pod: PodKey,
    /// What the node calls it; no two sandboxes of a pod have it.
    pub name: Arc<str>,
}

impl SandboxKey {
    /// Names a sandbox.
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
