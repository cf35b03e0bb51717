//! Which files of a directory may have changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Which files may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Any of them.
    Anything,
    /// These files. Each may have been created, changed or removed.
    Files(BTreeSet<PathBuf>),
}

impl Changed {
    /// Adds the files of another value.
    pub(in crate::source) fn add(&mut self, other: Changed) {
        match (&mut *self, other) {
            (Changed::Files(own), Changed::Files(others)) => own.extend(others),
            (Changed::Anything, _) => {}
            (_, Changed::Anything) => *self = Changed::Anything,
        }
    }
}
