//! Where in a directory something may have changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Everywhere: anything may have changed.
    Anything,
    /// At these files. Each may have come, changed or gone.
    Files(BTreeSet<PathBuf>),
}

impl Changed {
    /// Also looks there.
    pub(in crate::source) fn add(&mut self, other: Changed) {
        match (&mut *self, other) {
            (Changed::Files(own), Changed::Files(others)) => own.extend(others),
            (Changed::Anything, _) => {}
            (_, Changed::Anything) => *self = Changed::Anything,
        }
    }
}
