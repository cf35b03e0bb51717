//! Directories of manifests: finds the files, waits for their changes, and finds the changed objects.
//!
//! Comes in: a directory, read and watched by inotify. Goes out: `model::Change`s, and the problems of each file. This
//! folder knows nothing of YAML.

mod changed;
mod directory;
mod directory_watch;
mod fingerprint;
mod manifest_file;
mod manifest_texts;
mod manifest_walk;
mod object_index;
#[cfg(test)]
pub(in crate::source) mod scratch;

pub use changed::Changed;
pub use directory::{Directory, Loaded, read_manifests};
pub use directory_watch::DirectoryWatch;
pub(in crate::source) use manifest_texts::{ManifestText, read_texts};
