//! Waits until a directory of manifests has changed (inotify).

use super::changed::Changed;
use super::manifest_walk::{is_visible_manifest, walk};
use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long no further event must arrive before a change is returned.
const QUIET: Duration = Duration::from_millis(20);

/// The longest time for which a change is held back, however many events arrive.
const MAX_DELAY: Duration = Duration::from_millis(200);

/// How long after a change of single files `Changed::Anything` is returned: a link may lead from one name to another.
const RECHECK: Duration = Duration::from_secs(1);

/// Room for a few hundred events.
const BUFFER: usize = 16 << 10;

/// A watch (inotify) on a directory, everything below it, and its own name in the parent directory: the whole directory may be
/// replaced, or the link that leads to it.
#[derive(Debug)]
pub struct DirectoryWatch {
    root: PathBuf,
    events: EventStream<Vec<u8>>,
    parent: Option<ParentDirectory>,
    directories: BTreeMap<WatchDescriptor, PathBuf>,
    pending: Option<Pending>,
    recheck: Duration,
    /// When `Changed::Anything` is returned even if the kernel reports no change.
    recheck_due: Option<Instant>,
    /// How often `Changed::Anything` is returned even if the kernel reports no change.
    rescan_interval: Option<Duration>,
    /// Directories outside the root to which links lead, with the names in them that matter.
    targets: BTreeMap<WatchDescriptor, BTreeSet<OsString>>,
}

/// The parent directory, in which one name matters.
#[derive(Debug)]
struct ParentDirectory {
    watch: WatchDescriptor,
    name: OsString,
}

/// A change that has not been returned.
#[derive(Debug)]
struct Pending {
    first: Instant,
    last: Instant,
    what: Changed,
}

/// The effect of an event on the directory.
enum EventEffect {
    /// It is not about this directory.
    Nothing,
    /// A later complete scan is enough.
    Recheck,
    /// This may have changed.
    Changed(Changed),
}

impl DirectoryWatch {
    /// Begins to watch; all later changes are returned. `root` may be a single file, or not exist yet.
    ///
    /// # Errors
    /// The kernel permits no more watches (fs.inotify.max_user_watches), or the parent directory does not exist.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<DirectoryWatch> {
        let root = root.into();
        let inotify = Inotify::init()?;
        let parent = match (root.parent(), root.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let watch = inotify.watches().add(parent, mask())?;
                Some(ParentDirectory { watch, name: name.to_owned() })
            }
            (None, _) | (_, None) => None,
        };
        let events = inotify.into_event_stream(vec![0; BUFFER])?;
        let mut watch = DirectoryWatch {
            root,
            events,
            parent,
            directories: BTreeMap::new(),
            pending: None,
            recheck: RECHECK,
            recheck_due: None,
            rescan_interval: None,
            targets: BTreeMap::new(),
        };
        watch.follow()?;
        Ok(watch)
    }

    /// Also returns `Changed::Anything` this often, because the kernel does not report every change: for example not a
    /// file system that is mounted over the directory, nor a change of a link in the middle of a path.
    #[must_use]
    pub fn rescanning_every(mut self, interval: Duration) -> DirectoryWatch {
        self.rescan_interval = Some(interval);
        self.recheck_due = Some(Instant::now() + interval);
        self
    }

    /// Waits until something has changed and no further event has arrived for a while; returns the changed files. May
    /// be cancelled and called again: no change is lost.
    ///
    /// # Errors
    /// The kernel permits no more watches, so later changes may go unnoticed.
    pub async fn changed(&mut self) -> io::Result<Changed> {
        loop {
            let quiet =
                self.pending.as_ref().map(|pending| (pending.first + MAX_DELAY).min(pending.last + QUIET));
            match quiet.or(self.recheck_due) {
                None => self.read().await?,
                Some(due) if due <= Instant::now() => break,
                Some(due) => match timeout_at(due, self.read()).await {
                    Ok(read) => read?,
                    Err(_) => break,
                },
            }
        }
        let now = Instant::now();
        let what = self.pending.take().map_or(Changed::Anything, |pending| pending.what);
        if what != Changed::Anything && self.recheck_due.is_none_or(|due| now < due) {
            self.recheck_by(now + self.recheck);
            return Ok(what);
        }
        self.recheck_due = self.rescan_interval.map(|interval| now + interval);
        // Before the caller scans: what appears in a new directory is either found by that scan or watched.
        self.follow()?;
        Ok(Changed::Anything)
    }

    fn recheck_by(&mut self, then: Instant) {
        self.recheck_due = Some(self.recheck_due.map_or(then, |due| due.min(then)));
    }

    async fn read(&mut self) -> io::Result<()> {
        let Some(event) = self.events.next().await else {
            return Err(io::Error::other("the kernel has ended the watch"));
        };
        let effect = self.effect(&event?);
        let now = Instant::now();
        if let (Some(pending), EventEffect::Recheck | EventEffect::Changed(_)) = (&mut self.pending, &effect)
        {
            pending.last = now;
        }
        match (effect, &mut self.pending) {
            (EventEffect::Nothing, _) => {}
            (EventEffect::Recheck, _) => self.recheck_by(now + self.recheck),
            (EventEffect::Changed(what), Some(pending)) => pending.what.add(what),
            (EventEffect::Changed(what), pending @ None) => {
                *pending = Some(Pending { first: now, last: now, what })
            }
        }
        Ok(())
    }

    fn effect(&self, event: &EventOwned) -> EventEffect {
        if let Some(parent) = self.parent.as_ref().filter(|parent| parent.watch == event.wd) {
            let own = event.name.as_ref().is_none_or(|name| *name == parent.name);
            return if own { EventEffect::Changed(Changed::Anything) } else { EventEffect::Nothing };
        }
        if let (Some(names), false) = (self.targets.get(&event.wd), self.directories.contains_key(&event.wd))
        {
            let own = event.name.as_ref().is_none_or(|name| names.contains(name));
            return match own {
                true if event.mask == EventMask::MODIFY => EventEffect::Recheck,
                true => EventEffect::Changed(Changed::Anything),
                false => EventEffect::Nothing,
            };
        }
        let path = match (self.directories.get(&event.wd), &event.name) {
            (Some(directory), Some(name)) if !event.mask.contains(EventMask::ISDIR) => directory.join(name),
            (Some(_) | None, _) => return EventEffect::Changed(Changed::Anything),
        };
        if event.mask == EventMask::MODIFY {
            // A program that writes a file has not finished before it closes the file.
            return EventEffect::Recheck;
        }
        if is_visible_manifest(&path) {
            return EventEffect::Changed(Changed::Files(BTreeSet::from([path])));
        }
        // Any other name matters only if it is a directory or a link to one.
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => EventEffect::Changed(Changed::Anything),
            Ok(_) | Err(_) => EventEffect::Recheck,
        }
    }

    /// Watches every directory that exists; those that are already watched stay watched.
    fn follow(&mut self) -> io::Result<()> {
        let mut watches = self.events.watches();
        self.directories.clear();
        self.targets.clear();
        let walk = walk(&self.root);
        for (directory, name) in walk.files.keys().filter_map(|path| target(path)) {
            // A target that cannot be watched is read with every complete scan.
            if let Ok(watch) = watches.add(directory, mask()) {
                self.targets.entry(watch).or_default().insert(name);
            }
        }
        for directory in walk.directories {
            match watches.add(&directory, mask()) {
                Ok(watch) => {
                    if self.parent.as_ref().is_some_and(|parent| parent.watch == watch) {
                        self.parent = None;
                    }
                    self.directories.insert(watch, directory);
                }
                // It was removed again, or is not readable, which the scan reports.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The directory to which a link leads, and the name in it.
fn target(path: &Path) -> Option<(PathBuf, OsString)> {
    if !fs::symlink_metadata(path).ok()?.is_symlink() {
        return None;
    }
    let target = fs::canonicalize(path).ok()?;
    Some((target.parent()?.to_owned(), target.file_name()?.to_owned()))
}

fn mask() -> WatchMask {
    WatchMask::ATTRIB
        | WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MODIFY
        | WatchMask::MOVE
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::files::scratch::Scratch;
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(10);

    async fn changed(watch: &mut DirectoryWatch) -> Changed {
        timeout(LONG, watch.changed()).await.unwrap().unwrap()
    }

    fn watch(root: impl Into<PathBuf>) -> DirectoryWatch {
        let watch = DirectoryWatch::new(root).unwrap();
        DirectoryWatch { recheck: LONG * 10, ..watch }
    }

    /// Checks that nothing is pending: earlier events have been read, and had no effect.
    async fn nothing_changed(watch: &mut DirectoryWatch) {
        assert!(timeout(QUIET * 3, watch.changed()).await.is_err());
        assert!(watch.pending.is_none());
    }

    #[tokio::test]
    async fn every_way_to_change_a_directory_is_noticed() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        let mut watch = watch(scratch.path());
        nothing_changed(&mut watch).await;
        fs::write(path("a.yaml"), "a: 1\n").unwrap();
        changed(&mut watch).await;
        scratch.write("a.yaml", "a: 2\n");
        changed(&mut watch).await;
        fs::rename(path("a.yaml"), path("b.yaml")).unwrap();
        changed(&mut watch).await;
        fs::remove_file(path("b.yaml")).unwrap();
        changed(&mut watch).await;
        symlink("elsewhere", path("c.yaml")).unwrap();
        changed(&mut watch).await;
        nothing_changed(&mut watch).await;
    }

    #[tokio::test]
    async fn directory_that_appears_is_watched() {
        let scratch = Scratch::new();
        let mut watch = watch(scratch.path());
        fs::create_dir_all(scratch.path().join("below/further")).unwrap();
        changed(&mut watch).await;
        fs::write(scratch.path().join("below/further/a.yaml"), "").unwrap();
        changed(&mut watch).await;
    }

    #[tokio::test]
    async fn swap_of_a_config_maps_versions_is_noticed() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        scratch.write("..v1/a.yaml", "");
        scratch.write("..v2/a.yaml", "");
        symlink("..v1", path("..data")).unwrap();
        symlink("..data/a.yaml", path("a.yaml")).unwrap();
        symlink("..v2", path("..tmp")).unwrap();
        let mut watch = watch(scratch.path());
        fs::rename(path("..tmp"), path("..data")).unwrap();
        changed(&mut watch).await;
    }

    #[tokio::test]
    async fn replaced_directory_is_still_watched() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        let mut watch = watch(path("manifests"));
        scratch.write("manifests/a.yaml", "");
        changed(&mut watch).await;
        scratch.write("next/a.yaml", "");
        nothing_changed(&mut watch).await;
        fs::rename(path("manifests"), path("last")).unwrap();
        fs::rename(path("next"), path("manifests")).unwrap();
        changed(&mut watch).await;
        scratch.write("manifests/a.yaml", "a: 1\n");
        changed(&mut watch).await;
    }

    #[tokio::test]
    async fn single_file_is_watched_by_its_name() {
        let scratch = Scratch::new();
        let mut watch = watch(scratch.path().join("cluster.yaml"));
        fs::write(scratch.path().join("other.yaml"), "").unwrap();
        nothing_changed(&mut watch).await;
        scratch.write("cluster.yaml", "a: 1\n");
        changed(&mut watch).await;
    }

    #[tokio::test]
    async fn file_that_is_being_written_is_not_returned() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("a.yaml"), "a: 1\n").unwrap();
        let mut watch = watch(scratch.path());
        let mut file = File::options().append(true).open(scratch.path().join("a.yaml")).unwrap();
        file.write_all(b"b: 2\n").unwrap();
        nothing_changed(&mut watch).await;
        drop(file);
        changed(&mut watch).await;
    }

    #[tokio::test]
    async fn files_that_changed_are_returned_by_name() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join("below")).unwrap();
        let mut watch = watch(scratch.path());
        scratch.write("a.yaml", "a: 1\n");
        scratch.write("below/b.yaml", "b: 1\n");
        let files = ["a.yaml", "below/b.yaml"].map(|name| scratch.path().join(name));
        assert_eq!(changed(&mut watch).await, Changed::Files(files.into()));
        scratch.remove("a.yaml");
        assert_eq!(changed(&mut watch).await, Changed::Files([scratch.path().join("a.yaml")].into()));
        symlink("below", scratch.path().join("link")).unwrap();
        assert_eq!(changed(&mut watch).await, Changed::Anything);
    }

    #[tokio::test]
    async fn everything_is_returned_some_time_after_single_files() {
        let scratch = Scratch::new();
        let mut watch = DirectoryWatch { recheck: QUIET, ..watch(scratch.path()) };
        scratch.write("a.yaml", "a: 1\n");
        while changed(&mut watch).await != Changed::Anything {}
        nothing_changed(&mut watch).await;
    }

    #[tokio::test]
    async fn change_is_not_lost_when_waiting_is_cancelled() {
        let scratch = Scratch::new();
        let mut watch = watch(scratch.path());
        fs::write(scratch.path().join("a.yaml"), "").unwrap();
        while watch.pending.is_none() {
            let _ = timeout(Duration::from_millis(1), watch.changed()).await;
        }
        changed(&mut watch).await;
        nothing_changed(&mut watch).await;
    }

    #[tokio::test]
    async fn edit_of_the_target_of_a_link_is_noticed() {
        let scratch = Scratch::new();
        scratch.write("elsewhere/a.yaml", "a: 1\n");
        fs::create_dir(scratch.path().join("manifests")).unwrap();
        symlink("../elsewhere/a.yaml", scratch.path().join("manifests/a.yaml")).unwrap();
        let mut watch = watch(scratch.path().join("manifests"));
        scratch.write("elsewhere/b.yaml", "");
        nothing_changed(&mut watch).await;
        fs::write(scratch.path().join("elsewhere/a.yaml"), "a: 2\n").unwrap();
        changed(&mut watch).await;
        scratch.write("elsewhere/a.yaml", "a: 3\n");
        changed(&mut watch).await;
        nothing_changed(&mut watch).await;
    }

    #[tokio::test]
    async fn everything_is_returned_again_though_the_kernel_reports_nothing() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", "a: 1\n");
        let mut watch = watch(scratch.path()).rescanning_every(QUIET);
        for _ in 0..3 {
            assert_eq!(changed(&mut watch).await, Changed::Anything);
        }
    }
}
