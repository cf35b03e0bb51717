//! The object that controls a pod, for reports; it does not affect what is enforced.

use std::fmt;

/// The object that controls a pod (the owner reference whose `controller` is true), in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its kind, such as `ReplicaSet`.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

impl fmt::Display for Owner {
    /// `ReplicaSet/web-5d9c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}
