//! A directory for one test, removed when it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(in crate::source) struct Scratch(PathBuf);

impl Scratch {
    pub(in crate::source) fn new() -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bridgewarden-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub(in crate::source) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file atomically: under a temporary name, then renamed.
    pub(in crate::source) fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        let directory = path.parent().unwrap();
        fs::create_dir_all(directory).unwrap();
        let beside = directory.join(".beside");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub(in crate::source) fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
