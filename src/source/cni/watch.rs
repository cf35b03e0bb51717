//! Waits until a CNI result was written or removed (inotify).

use crate::source::files::Changed;
use futures::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Room for a few hundred events.
const BUFFER: usize = 16 << 10;

/// A watch (inotify) on a directory of CNI results and on its parents: it may not exist yet, or be replaced.
///
/// A change is returned at once: the time between a result and its pod's first process is that of starting a container.
#[derive(Debug)]
pub struct CniWatch {
    directory: PathBuf,
    events: EventStream<Vec<u8>>,
    /// The parent directories that exist, each with the name that matters in it.
    parents: BTreeMap<WatchDescriptor, OsString>,
    results: Option<WatchDescriptor>,
}

impl CniWatch {
    /// Begins to watch; all later changes are returned.
    ///
    /// # Errors
    /// The kernel permits no more watches (fs.inotify.max_user_instances, fs.inotify.max_user_watches).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(directory: &Path) -> io::Result<CniWatch> {
        let directory = std::path::absolute(directory)?;
        let events = Inotify::init()?.into_event_stream(vec![0; BUFFER])?;
        let mut watch = CniWatch { directory, events, parents: BTreeMap::new(), results: None };
        watch.follow()?;
        Ok(watch)
    }

    /// Waits until something has changed, and returns the changed files. May be cancelled and called again: no change
    /// is lost.
    ///
    /// # Errors
    /// The kernel permits no more watches, so later changes may go unnoticed.
    pub async fn changed(&mut self) -> io::Result<Changed> {
        let mut changed = Changed::Files(BTreeSet::new());
        while changed == Changed::Files(BTreeSet::new()) {
            let mut event = self.events.next().await;
            while let Some(next) = event {
                self.note(&next?, &mut changed);
                event = self.events.next().now_or_never().flatten();
            }
        }
        if changed == Changed::Anything {
            // Before the caller scans: whatever appears from now on is either found by that scan or returned.
            self.follow()?;
        }
        Ok(changed)
    }

    fn note(&self, event: &EventOwned, changed: &mut Changed) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            changed.add(Changed::Anything);
        } else if self.results.as_ref() == Some(&event.wd) {
            changed.add(match &event.name {
                Some(name) => Changed::Files(BTreeSet::from([self.directory.join(name)])),
                None => Changed::Anything,
            });
        } else if let Some(name) = self.parents.get(&event.wd)
            && event.name.as_ref().is_none_or(|own| own == name)
        {
            changed.add(Changed::Anything);
        }
    }

    /// Watches the directory and its parents, as far as they exist.
    fn follow(&mut self) -> io::Result<()> {
        let mut watches = self.events.watches();
        let mut before: BTreeSet<WatchDescriptor> = std::mem::take(&mut self.parents).into_keys().collect();
        before.extend(self.results.take());
        let mut directory = PathBuf::new();
        for part in self.directory.components() {
            if let Some(watch) = add(&mut watches, &directory, parents_mask())? {
                before.remove(&watch);
                self.parents.insert(watch, part.as_os_str().to_owned());
            }
            directory.push(part);
        }
        self.results = add(&mut watches, &directory, results_mask())?;
        for old in before.into_iter().filter(|watch| self.results.as_ref() != Some(watch)) {
            // An error means that the kernel has already removed it.
            watches.remove(old).ok();
        }
        Ok(())
    }
}

/// Watches a directory if it exists and is readable; otherwise the scan reports it.
fn add(watches: &mut inotify::Watches, path: &Path, mask: WatchMask) -> io::Result<Option<WatchDescriptor>> {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match watches.add(path, mask | WatchMask::ONLYDIR) {
        Ok(watch) => Ok(Some(watch)),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The events after which the path may lead elsewhere.
fn parents_mask() -> WatchMask {
    WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE
}

/// libcni writes a result in place, so it is complete when it is closed.
fn results_mask() -> WatchMask {
    WatchMask::CLOSE_WRITE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE
        | WatchMask::MOVE_SELF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::files::scratch::Scratch;
    use std::fs::{self, File};
    use std::io::Write;
    use std::time::Duration;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(10);

    async fn changed(watch: &mut CniWatch) -> Changed {
        timeout(LONG, watch.changed()).await.unwrap().unwrap()
    }

    /// Waits until this is returned, whatever is returned before.
    async fn returns(watch: &mut CniWatch, wanted: &Changed) {
        while changed(watch).await != *wanted {}
    }

    fn silent(watch: &mut CniWatch) -> bool {
        watch.changed().now_or_never().is_none()
    }

    fn file(scratch: &Scratch, name: &str) -> Changed {
        Changed::Files(BTreeSet::from([scratch.path().join(name)]))
    }

    #[tokio::test]
    async fn result_is_returned_when_it_is_completely_written_replaced_or_removed() {
        let scratch = Scratch::new();
        let mut watch = CniWatch::new(scratch.path()).unwrap();
        let mut begun = File::create(scratch.path().join("a-eth0")).unwrap();
        begun.write_all(b"{").unwrap();
        assert!(silent(&mut watch), "it is not written to its end");
        drop(begun);
        assert_eq!(changed(&mut watch).await, file(&scratch, "a-eth0"));
        fs::rename(scratch.path().join("a-eth0"), scratch.path().join("b-eth0")).unwrap();
        let both = ["a-eth0", "b-eth0"].map(|name| scratch.path().join(name));
        assert_eq!(changed(&mut watch).await, Changed::Files(both.into()));
        fs::remove_file(scratch.path().join("b-eth0")).unwrap();
        assert_eq!(changed(&mut watch).await, file(&scratch, "b-eth0"));
        assert!(silent(&mut watch));
    }

    #[tokio::test]
    async fn directory_that_is_made_later_is_watched_from_then_on() {
        let scratch = Scratch::new();
        let results = scratch.path().join("cni/results");
        let mut watch = CniWatch::new(&results).unwrap();
        fs::write(scratch.path().join("other"), "").unwrap();
        assert!(silent(&mut watch));
        fs::create_dir_all(&results).unwrap();
        assert_eq!(changed(&mut watch).await, Changed::Anything);
        fs::write(results.join("a-eth0"), "{}").unwrap();
        returns(&mut watch, &file(&scratch, "cni/results/a-eth0")).await;
    }

    #[tokio::test]
    async fn directory_that_is_replaced_or_made_anew_is_watched_on() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir_all(path("cni/results")).unwrap();
        let mut watch = CniWatch::new(&path("cni/results")).unwrap();
        fs::remove_dir_all(path("cni")).unwrap();
        assert_eq!(changed(&mut watch).await, Changed::Anything);
        fs::create_dir_all(path("cni/results")).unwrap();
        assert_eq!(changed(&mut watch).await, Changed::Anything);
        fs::write(path("cni/results/a-eth0"), "{}").unwrap();
        returns(&mut watch, &file(&scratch, "cni/results/a-eth0")).await;
        fs::rename(path("cni"), path("old")).unwrap();
        assert_eq!(changed(&mut watch).await, Changed::Anything);
        fs::write(path("old/results/b-eth0"), "{}").unwrap();
        assert!(silent(&mut watch), "it is elsewhere now");
        fs::create_dir_all(path("cni/results")).unwrap();
        assert_eq!(changed(&mut watch).await, Changed::Anything);
    }

    #[tokio::test]
    async fn everything_is_returned_when_events_were_lost() {
        let scratch = Scratch::new();
        let mut watch = CniWatch::new(scratch.path()).unwrap();
        let room = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let room: usize = room.trim().parse().unwrap();
        for count in 0..=room {
            // Two names in turn: the kernel merges equal events that follow each other.
            fs::write(scratch.path().join(["a-eth0", "b-eth0"][count % 2]), "").unwrap();
        }
        returns(&mut watch, &Changed::Anything).await;
        fs::write(scratch.path().join("c-eth0"), "").unwrap();
        returns(&mut watch, &file(&scratch, "c-eth0")).await;
    }
}
