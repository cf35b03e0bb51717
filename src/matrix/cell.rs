//! A cell of a matrix.

use crate::net::{Family, PortSet};

/// What is allowed between two ends; at least one family is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'m> {
    pub(crate) v4: Option<&'m PortSet>,
    pub(crate) v6: Option<&'m PortSet>,
}

impl Cell<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        [self.v4, self.v6].into_iter().flatten().all(PortSet::is_empty)
    }

    /// Whether everything is allowed in each family that is there.
    pub(crate) fn is_all(&self) -> bool {
        [self.v4, self.v6].into_iter().flatten().all(PortSet::is_all)
    }

    /// What is allowed, part by part; nothing if nothing is. What one of two families alone allows says so.
    pub(crate) fn words(&self) -> Vec<String> {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) if v4 != v6 => {
                let mut words = v4.intersection(v6).words();
                for (ports, family) in [(v4.difference(v6), Family::V4), (v6.difference(v4), Family::V6)] {
                    words.extend(ports.words().into_iter().map(|word| format!("{word} ({family})")));
                }
                words
            }
            (Some(ports), _) | (None, Some(ports)) => ports.words(),
            (None, None) => Vec::new(),
        }
    }
}
