//! Tells when a directory of manifests has changed; the only place of this room that waits.

use super::changed::Changed;
use super::walk::{is_visible_manifest, walk};
use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long nothing more must happen before a change is told.
const QUIET: Duration = Duration::from_millis(20);

/// How long a change is held back at most, however much goes on.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long after a change of single files all is told to have changed: a link may lead from one name to another.
const RECHECK: Duration = Duration::from_secs(1);

/// Room for a few hundred events.
const BUFFER: usize = 16 << 10;

/// A watch (inotify) on a directory, everything below it, and its own name in the directory above: the whole directory
/// may be replaced, or the link that leads to it.
#[derive(Debug)]
pub struct DirectoryWatch {
    root: PathBuf,
    events: EventStream<Vec<u8>>,
    above: Option<Above>,
    directories: BTreeMap<WatchDescriptor, PathBuf>,
    pending: Option<Pending>,
    recheck: Duration,
    /// When all is to be looked at, to be sure.
    recheck_due: Option<Instant>,
    /// After how long all is to be looked at again, whatever the kernel tells.
    look_again: Option<Duration>,
    /// Directories elsewhere, to which links lead, with the names that matter in them.
    targets: BTreeMap<WatchDescriptor, BTreeSet<OsString>>,
}

/// The directory above, of which one name matters.
#[derive(Debug)]
struct Above {
    watch: WatchDescriptor,
    name: OsString,
}

/// A change that has not been told.
#[derive(Debug)]
struct Pending {
    first: Instant,
    last: Instant,
    what: Changed,
}

/// What an event says.
enum Said {
    /// Nothing about this directory.
    Nothing,
    /// Nothing that must be looked at before it has been quiet.
    Little,
    /// That this may have changed.
    Changed(Changed),
}

impl DirectoryWatch {
    /// Begins to watch; what changes from here on is told. `root` may be a single file, or not there yet.
    ///
    /// # Errors
    /// The kernel has no more watches to give (fs.inotify.max_user_watches), or the directory above is not there.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<DirectoryWatch> {
        let root = root.into();
        let inotify = Inotify::init()?;
        let above = match (root.parent(), root.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let watch = inotify.watches().add(parent, mask())?;
                Some(Above { watch, name: name.to_owned() })
            }
            (None, _) | (_, None) => None,
        };
        let events = inotify.into_event_stream(vec![0; BUFFER])?;
        let mut watch = DirectoryWatch {
            root,
            events,
            above,
            directories: BTreeMap::new(),
            pending: None,
            recheck: RECHECK,
            recheck_due: None,
            look_again: None,
            targets: BTreeMap::new(),
        };
        watch.follow()?;
        Ok(watch)
    }

    /// Has all told to have changed this often, too: not everything is told by the kernel, such as a file system that is mounted over
    /// the directory, or a link in the middle of a way that leads elsewhere.
    #[must_use]
    pub fn looking_again(mut self, after: Duration) -> DirectoryWatch {
        self.look_again = Some(after);
        self.recheck_due = Some(Instant::now() + after);
        self
    }

    /// Waits until something has changed and it has been quiet since, and tells what. May be cancelled and called
    /// again: no change is lost.
    ///
    /// # Errors
    /// The kernel has no more watches to give: later changes may go unnoticed.
    pub async fn changed(&mut self) -> io::Result<Changed> {
        loop {
            let quiet =
                self.pending.as_ref().map(|pending| (pending.first + PATIENCE).min(pending.last + QUIET));
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
        self.recheck_due = self.look_again.map(|after| now + after);
        // Before the caller looks: what appears in a directory that is new is either seen by that look, or watched.
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
        let said = self.understand(&event?);
        let now = Instant::now();
        if let (Some(pending), Said::Little | Said::Changed(_)) = (&mut self.pending, &said) {
            pending.last = now;
        }
        match (said, &mut self.pending) {
            (Said::Nothing, _) => {}
            (Said::Little, _) => self.recheck_by(now + self.recheck),
            (Said::Changed(what), Some(pending)) => pending.what.add(what),
            (Said::Changed(what), pending @ None) => *pending = Some(Pending { first: now, last: now, what }),
        }
        Ok(())
    }

    fn understand(&self, event: &EventOwned) -> Said {
        if let Some(above) = self.above.as_ref().filter(|above| above.watch == event.wd) {
            let own = event.name.as_ref().is_none_or(|name| *name == above.name);
            return if own { Said::Changed(Changed::Anything) } else { Said::Nothing };
        }
        if let (Some(names), false) = (self.targets.get(&event.wd), self.directories.contains_key(&event.wd))
        {
            let own = event.name.as_ref().is_none_or(|name| names.contains(name));
            return match own {
                true if event.mask == EventMask::MODIFY => Said::Little,
                true => Said::Changed(Changed::Anything),
                false => Said::Nothing,
            };
        }
        let path = match (self.directories.get(&event.wd), &event.name) {
            (Some(directory), Some(name)) if !event.mask.contains(EventMask::ISDIR) => directory.join(name),
            (Some(_) | None, _) => return Said::Changed(Changed::Anything),
        };
        if event.mask == EventMask::MODIFY {
            // Who writes is not done before the file is closed.
            return Said::Little;
        }
        if is_visible_manifest(&path) {
            return Said::Changed(Changed::Files(BTreeSet::from([path])));
        }
        // Any other name matters only while it leads to a directory.
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => Said::Changed(Changed::Anything),
            Ok(_) | Err(_) => Said::Little,
        }
    }

    /// Watches every directory there is; those that are watched already stay so.
    fn follow(&mut self) -> io::Result<()> {
        let mut watches = self.events.watches();
        self.directories.clear();
        self.targets.clear();
        let walk = walk(&self.root);
        for (directory, name) in walk.files.keys().filter_map(|path| target(path)) {
            // A target that cannot be watched is looked at with all the rest.
            if let Ok(watch) = watches.add(directory, mask()) {
                self.targets.entry(watch).or_default().insert(name);
            }
        }
        for directory in walk.directories {
            match watches.add(&directory, mask()) {
                Ok(watch) => {
                    if self.above.as_ref().is_some_and(|above| above.watch == watch) {
                        self.above = None;
                    }
                    self.directories.insert(watch, directory);
                }
                // Gone again, or closed to us, which the look at it will report.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where a link leads: a directory, and the name in it.
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

    async fn told(watch: &mut DirectoryWatch) -> Changed {
        timeout(LONG, watch.changed()).await.unwrap().unwrap()
    }

    fn watch(root: impl Into<PathBuf>) -> DirectoryWatch {
        let watch = DirectoryWatch::new(root).unwrap();
        DirectoryWatch { recheck: LONG * 10, ..watch }
    }

    /// Nothing is on its way to be told: what happened before has been read, and began nothing.
    async fn silent(watch: &mut DirectoryWatch) {
        assert!(timeout(QUIET * 3, watch.changed()).await.is_err());
        assert!(watch.pending.is_none());
    }

    #[tokio::test]
    async fn every_way_to_change_a_directory_is_told() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        let mut watch = watch(scratch.path());
        silent(&mut watch).await;
        fs::write(path("a.yaml"), "a: 1\n").unwrap();
        told(&mut watch).await;
        scratch.write("a.yaml", "a: 2\n");
        told(&mut watch).await;
        fs::rename(path("a.yaml"), path("b.yaml")).unwrap();
        told(&mut watch).await;
        fs::remove_file(path("b.yaml")).unwrap();
        told(&mut watch).await;
        symlink("elsewhere", path("c.yaml")).unwrap();
        told(&mut watch).await;
        silent(&mut watch).await;
    }

    #[tokio::test]
    async fn directory_that_appears_is_watched() {
        let scratch = Scratch::new();
        let mut watch = watch(scratch.path());
        fs::create_dir_all(scratch.path().join("below/further")).unwrap();
        told(&mut watch).await;
        fs::write(scratch.path().join("below/further/a.yaml"), "").unwrap();
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn swap_of_a_config_maps_versions_is_told() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        scratch.write("..v1/a.yaml", "");
        scratch.write("..v2/a.yaml", "");
        symlink("..v1", path("..data")).unwrap();
        symlink("..data/a.yaml", path("a.yaml")).unwrap();
        symlink("..v2", path("..tmp")).unwrap();
        let mut watch = watch(scratch.path());
        fs::rename(path("..tmp"), path("..data")).unwrap();
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn directory_that_is_replaced_whole_is_watched_on() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        let mut watch = watch(path("manifests"));
        scratch.write("manifests/a.yaml", "");
        told(&mut watch).await;
        scratch.write("next/a.yaml", "");
        silent(&mut watch).await;
        fs::rename(path("manifests"), path("last")).unwrap();
        fs::rename(path("next"), path("manifests")).unwrap();
        told(&mut watch).await;
        scratch.write("manifests/a.yaml", "a: 1\n");
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn single_file_is_watched_by_its_name() {
        let scratch = Scratch::new();
        let mut watch = watch(scratch.path().join("cluster.yaml"));
        fs::write(scratch.path().join("other.yaml"), "").unwrap();
        silent(&mut watch).await;
        scratch.write("cluster.yaml", "a: 1\n");
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn file_that_is_being_written_is_not_told() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("a.yaml"), "a: 1\n").unwrap();
        let mut watch = watch(scratch.path());
        let mut file = File::options().append(true).open(scratch.path().join("a.yaml")).unwrap();
        file.write_all(b"b: 2\n").unwrap();
        silent(&mut watch).await;
        drop(file);
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn files_that_changed_are_told_by_name() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join("below")).unwrap();
        let mut watch = watch(scratch.path());
        scratch.write("a.yaml", "a: 1\n");
        scratch.write("below/b.yaml", "b: 1\n");
        let files = ["a.yaml", "below/b.yaml"].map(|name| scratch.path().join(name));
        assert_eq!(told(&mut watch).await, Changed::Files(files.into()));
        scratch.remove("a.yaml");
        assert_eq!(told(&mut watch).await, Changed::Files([scratch.path().join("a.yaml")].into()));
        symlink("below", scratch.path().join("link")).unwrap();
        assert_eq!(told(&mut watch).await, Changed::Anything);
    }

    #[tokio::test]
    async fn everything_is_told_some_time_after_single_files() {
        let scratch = Scratch::new();
        let mut watch = DirectoryWatch { recheck: QUIET, ..watch(scratch.path()) };
        scratch.write("a.yaml", "a: 1\n");
        while told(&mut watch).await != Changed::Anything {}
        silent(&mut watch).await;
    }

    #[tokio::test]
    async fn change_outlives_the_one_who_stops_waiting_for_it() {
        let scratch = Scratch::new();
        let mut watch = watch(scratch.path());
        fs::write(scratch.path().join("a.yaml"), "").unwrap();
        while watch.pending.is_none() {
            let _ = timeout(Duration::from_millis(1), watch.changed()).await;
        }
        told(&mut watch).await;
        silent(&mut watch).await;
    }

    #[tokio::test]
    async fn edit_of_a_file_that_a_link_leads_to_is_told() {
        let scratch = Scratch::new();
        scratch.write("elsewhere/a.yaml", "a: 1\n");
        fs::create_dir(scratch.path().join("manifests")).unwrap();
        symlink("../elsewhere/a.yaml", scratch.path().join("manifests/a.yaml")).unwrap();
        let mut watch = watch(scratch.path().join("manifests"));
        scratch.write("elsewhere/b.yaml", "");
        silent(&mut watch).await;
        fs::write(scratch.path().join("elsewhere/a.yaml"), "a: 2\n").unwrap();
        told(&mut watch).await;
        scratch.write("elsewhere/a.yaml", "a: 3\n");
        told(&mut watch).await;
        silent(&mut watch).await;
    }

    #[tokio::test]
    async fn everything_is_told_again_though_the_kernel_tells_nothing() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", "a: 1\n");
        let mut watch = watch(scratch.path()).looking_again(QUIET);
        for _ in 0..3 {
            assert_eq!(told(&mut watch).await, Changed::Anything);
        }
    }
}
