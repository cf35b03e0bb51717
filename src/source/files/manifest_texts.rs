//! The texts of all manifests of a directory, read once.

use super::manifest_file::{SETTLED, name, read_text};
use super::manifest_walk::walk;
use crate::source::manifest::Problem;
use std::path::Path;
use std::sync::Arc;

/// The text of a file of manifests.
pub(in crate::source) struct ManifestText {
    /// The file's path.
    pub(in crate::source) file: Arc<str>,
    pub(in crate::source) text: String,
}

/// Reads the manifests of a directory, or a single file, one after the other in the order of their names. What cannot be read is
/// reported in its place.
pub(in crate::source) fn read_texts(root: &Path) -> impl Iterator<Item = Result<ManifestText, Problem>> {
    let walk = walk(root);
    let unseen = walk
        .errors
        .into_iter()
        .map(|(path, error)| Err(Problem::of_file(&name(&path), format!("cannot be looked at: {error}"))));
    let texts = walk.files.into_keys().map(|path| {
        let file = name(&path);
        match read_text(&path, SETTLED) {
            Ok((_, text)) => Ok(ManifestText { file, text }),
            Err(error) => Err(Problem::of_file(&file, format!("cannot be read: {error}"))),
        }
    });
    unseen.chain(texts)
}
