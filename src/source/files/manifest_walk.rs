//! Finds the manifests of a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How deeply directories may nest.
const MAX_DEPTH: usize = 16;

/// Properties that show that a file is unchanged. The time is that of the inode's last change (ctime), which programs
/// cannot set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            seconds: metadata.ctime(),
            nanoseconds: metadata.ctime_nsec(),
        }
    }

    /// Whether the file was last changed at least `age` ago. A time in the future proves nothing.
    pub(super) fn is_older_than(self, age: Duration) -> bool {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        let nanoseconds = u32::try_from(self.nanoseconds).unwrap_or(0);
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        changed.elapsed().is_ok_and(|elapsed| elapsed >= age)
    }
}

/// The content of a directory.
#[derive(Debug, Default)]
pub(super) struct ManifestWalk {
    /// The manifests, without hidden ones.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// The directories that were entered, the root among them.
    pub(super) directories: Vec<PathBuf>,
    /// What could not be read, and why.
    pub(super) errors: Vec<(PathBuf, io::Error)>,
}

/// Lists the files `*.yaml`, `*.yml` and `*.json` in `root` and below, or `root` itself if it is a file.
///
/// Symbolic links are followed, a directory that is reached twice is entered once, and names that begin with a dot are skipped: a
/// mounted ConfigMap keeps its versions in hidden directories that the visible names link to.
pub(super) fn walk(root: &Path) -> ManifestWalk {
    let mut walk = ManifestWalk::default();
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => {
            let mut entered = BTreeSet::from([(metadata.dev(), metadata.ino())]);
            walk.enter(root, MAX_DEPTH, &mut entered);
        }
        Ok(metadata) => {
            walk.files.insert(root.to_owned(), Stamp::of(&metadata));
        }
        Err(error) => walk.errors.push((root.to_owned(), error)),
    }
    walk
}

impl ManifestWalk {
    fn enter(&mut self, directory: &Path, depth: usize, entered: &mut BTreeSet<(u64, u64)>) {
        self.directories.push(directory.to_owned());
        let mut entries: Vec<PathBuf> = Vec::new();
        match fs::read_dir(directory) {
            Ok(listing) => {
                for entry in listing {
                    match entry {
                        Ok(entry) => entries.push(entry.path()),
                        Err(error) => self.errors.push((directory.to_owned(), error)),
                    }
                }
            }
            Err(error) => self.errors.push((directory.to_owned(), error)),
        }
        entries.sort();
        for path in entries.into_iter().filter(|path| !is_hidden(path)) {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {
                    if !entered.insert((metadata.dev(), metadata.ino())) {
                        continue;
                    }
                    match depth.checked_sub(1) {
                        Some(depth) => self.enter(&path, depth, entered),
                        None => {
                            let message = format!("directories nest more than {MAX_DEPTH} levels deep");
                            self.errors.push((path, io::Error::other(message)));
                        }
                    }
                }
                Ok(metadata) if metadata.is_file() && is_manifest(&path) => {
                    self.files.insert(path, Stamp::of(&metadata));
                }
                Ok(_) => {}
                Err(error) if is_manifest(&path) => self.errors.push((path, error)),
                Err(_) => {}
            }
        }
    }
}

/// Whether a file of this name is read.
pub(super) fn is_visible_manifest(path: &Path) -> bool {
    is_manifest(path) && !is_hidden(path)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."))
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| matches!(extension.as_bytes(), b"yaml" | b"yml" | b"json"))
}
