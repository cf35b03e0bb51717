//! One file of manifests: whether it has changed, and the objects that it contained when it was last readable.

use super::manifest_walk::Stamp;
use super::object_index::{FileObjects, ObjectIndex};
use crate::source::convert::object_key::ObjectKey;
use crate::source::manifest::object::Remarks;
use crate::source::manifest::unparsed::UNKNOWN_ISOLATION;
use crate::source::manifest::{ManifestError, Problem, manifest_reader};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The largest file that is read, in bytes.
const MAX_LENGTH: u64 = 256 << 20;

/// How old a file must be before its stamp proves it unchanged: two writes within one tick of the kernel's clock
/// leave the same time.
pub(super) const SETTLED: Duration = Duration::from_millis(100);

/// A file of manifests and what was last read from it.
#[derive(Debug, Default)]
pub(super) struct ManifestFile {
    /// None while nothing proves that the file is unchanged since it was read.
    pub(super) stamp: Option<Stamp>,
    /// The objects that it contained when it was last readable.
    pub(super) objects: Box<[ObjectKey]>,
    pub(super) remarks: Remarks,
    /// The problems that make it unreadable.
    pub(super) problems: Vec<Problem>,
    /// Whether its text was ever read, and whether it was ever completely readable.
    pub(super) was_read: bool,
    pub(super) was_whole: bool,
}

impl ManifestFile {
    /// Reads the file, and updates the index with its objects if it is readable.
    pub(super) fn read(&mut self, path: &Arc<Path>, settled: Duration, index: &mut ObjectIndex) {
        let file = name(path);
        let mut objects = FileObjects::default();
        let read = read_text(path, settled).map_err(|error| unreadable(&file, &error));
        self.stamp = read.as_ref().ok().and_then(|(stamp, _)| *stamp);
        self.was_read |= read.is_ok();
        match read.and_then(|(_, text)| manifest_reader::collect(file, &text, &mut objects)) {
            Ok(remarks) => {
                self.objects = index.update(path, &self.objects, objects);
                self.remarks = remarks;
                self.problems.clear();
                self.was_whole = true;
            }
            Err(error) => {
                // There is no earlier readable content, so only what is certain counts, and everything else is denied.
                if !self.was_whole && self.was_read {
                    self.objects = index.update(path, &self.objects, objects);
                }
                self.problems = error.problems;
            }
        }
    }
}

pub(super) fn unreadable(file: &Arc<str>, error: &io::Error) -> ManifestError {
    let message = format!("cannot be read: {error}; {UNKNOWN_ISOLATION}");
    ManifestError { problems: vec![Problem::of_file(file, message)] }
}

/// A file's text, and its stamp if that proves that the text is complete and that a later change will be noticed.
pub(super) fn read_text(path: &Path, settled: Duration) -> io::Result<(Option<Stamp>, String)> {
    let mut file = File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    let length = (&mut file).take(MAX_LENGTH + 1).read_to_end(&mut bytes)?;
    if length as u64 > MAX_LENGTH {
        return Err(io::Error::other(format!("it is longer than {MAX_LENGTH} bytes: split it")));
    }
    let proves = stamp == Stamp::of(&file.metadata()?) && stamp.is_older_than(settled);
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Ok((proves.then_some(stamp), text))
}

pub(super) fn name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}
