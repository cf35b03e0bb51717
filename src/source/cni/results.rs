//! The directory of CNI results as a source of changes: one file, one sandbox.

use super::result::{is_of_a_pod, parse};
use crate::model::{Change, Sandbox};
use crate::source::files::Changed;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// The largest result that is read, in bytes. Most of it is the pod's annotations, of which the API server accepts 256 KiB.
const MAX_LENGTH: u64 = 4 << 20;

/// A directory of CNI results and what was last read from it.
///
/// A file that becomes unreadable keeps its last readable content until it is readable again or removed.
#[derive(Debug)]
pub struct CniResults {
    directory: PathBuf,
    files: BTreeMap<String, ResultFile>,
    problem: Option<String>,
}

#[derive(Debug, Default)]
struct ResultFile {
    sandbox: Option<Sandbox>,
    problem: Option<String>,
}

/// The result of a scan of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What has changed since the last scan.
    pub changes: Vec<Change>,
    /// Why the directory cannot be read. A missing directory is no problem: no pod has run here yet.
    pub problem: Option<String>,
    /// Whether the directory does not exist.
    pub missing: bool,
    /// Why single results cannot be read, by file name.
    pub problems: BTreeMap<String, String>,
}

impl CniResults {
    /// A directory before its first scan.
    pub fn new(directory: impl Into<PathBuf>) -> CniResults {
        CniResults { directory: directory.into(), files: BTreeMap::new(), problem: None }
    }

    /// Scans the files that may have changed, and returns what has changed.
    pub fn scan(&mut self, at: &Changed) -> Found {
        let mut changes = Vec::new();
        match at {
            Changed::Anything => self.scan_all(&mut changes),
            Changed::Files(paths) => {
                let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
                names.filter(|name| is_of_a_pod(name)).for_each(|name| self.read_file(name, &mut changes));
            }
        }
        let problem = |(name, file): (&String, &ResultFile)| Some((name.clone(), file.problem.clone()?));
        let problems = self.files.iter().filter_map(problem).collect();
        Found { changes, problem: self.problem.clone(), missing: !self.directory.exists(), problems }
    }

    /// How many sandboxes the results contain.
    pub fn sandbox_count(&self) -> usize {
        self.files.values().filter(|file| file.sandbox.is_some()).count()
    }

    fn scan_all(&mut self, changes: &mut Vec<Change>) {
        let names = match names(&self.directory) {
            Ok(names) => names,
            Err(error) => {
                self.problem = Some(format!("{} cannot be read: {error}", self.directory.display()));
                return;
            }
        };
        self.problem = None;
        for name in names.union(&self.files.keys().cloned().collect()) {
            self.read_file(name, changes);
        }
    }

    fn read_file(&mut self, name: &str, changes: &mut Vec<Change>) {
        let now = match read(&self.directory.join(name)) {
            Ok(Some((text, made))) => parse(name, &text, made).map_err(|error| error.to_string()),
            Ok(None) => {
                let sandbox = self.files.remove(name).and_then(|file| file.sandbox);
                changes.extend(sandbox.map(|sandbox| Change::SandboxGone(sandbox.key)));
                return;
            }
            Err(error) => Err(error.to_string()),
        };
        let file = self.files.entry(name.to_owned()).or_default();
        match now {
            Err(problem) => file.problem = Some(problem),
            Ok(now) => {
                file.problem = None;
                if file.sandbox != now {
                    let before = std::mem::replace(&mut file.sandbox, now.clone());
                    let gone = before.filter(|before| now.as_ref().is_none_or(|now| now.key != before.key));
                    changes.extend(gone.map(|gone| Change::SandboxGone(gone.key)));
                    changes.extend(now.map(Change::Sandbox));
                }
            }
        }
    }
}

/// The files that can be results of pods; none if the directory does not exist.
fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut names = BTreeSet::new();
    for entry in listed {
        let name = entry?.file_name();
        names.extend(name.to_str().filter(|name| is_of_a_pod(name)).map(str::to_owned));
    }
    Ok(names)
}

/// A file's content and when it was last written; `None` if it does not exist.
fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Duration)>> {
    let absent =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    // Opening a pipe of this name would never return.
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let made = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = Vec::new();
    if file.take(MAX_LENGTH + 1).read_to_end(&mut text)? as u64 > MAX_LENGTH {
        return Err(io::Error::other(format!("it is longer than {MAX_LENGTH} bytes")));
    }
    Ok(Some((text, made)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::files::scratch::Scratch;

    const NAME: &str = "cbr0-c1-eth0";

    fn result(container: &str, pod: &str, address: &str) -> String {
        format!(
            r#"{{"kind": "cniCacheV1", "containerId": "{container}", "ifName": "eth0", "networkName": "cbr0",
                 "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "{pod}"], ["K8S_POD_UID", "u"]],
                 "result": {{"cniVersion": "1.0.0", "ips": [{{"address": "{address}/24"}}]}}}}"#
        )
    }

    /// A summary of the changes: `+shop/web 10.0.0.1`, `-shop/web`.
    fn changes(found: &Found) -> Vec<String> {
        let short = |change: &Change| match change {
            Change::Sandbox(sandbox) => format!("+{} {}", sandbox.key.pod, sandbox.addresses[0]),
            Change::SandboxGone(key) => format!("-{}", key.pod),
            Change::Namespace(_) | Change::NamespaceGone(_) | Change::Pod(_) | Change::PodGone(_) => {
                unreachable!("{change:?} is of no sandbox")
            }
            Change::NamespaceUnreadable(_)
            | Change::PodUnreadable(_)
            | Change::Policy(_)
            | Change::PolicyGone(_)
            | Change::Link(_) => unreachable!("{change:?} is of no sandbox"),
        };
        found.changes.iter().map(short).collect()
    }

    fn files(scratch: &Scratch, names: &[&str]) -> Changed {
        Changed::Files(names.iter().map(|name| scratch.path().join(name)).collect())
    }

    #[test]
    fn each_result_is_returned_once_and_again_when_it_changes() {
        let scratch = Scratch::new();
        let mut results = CniResults::new(scratch.path());
        scratch.write(NAME, &result("c1", "web", "10.0.0.1"));
        scratch.write("cni-loopback-c1-lo", &result("c1", "web", "127.0.0.1"));
        assert_eq!(changes(&results.scan(&Changed::Anything)), ["+shop/web 10.0.0.1"]);
        assert_eq!(changes(&results.scan(&Changed::Anything)), [""; 0]);
        assert_eq!(changes(&results.scan(&files(&scratch, &[NAME, "cni-loopback-c1-lo"]))), [""; 0]);
        scratch.write(NAME, &result("c1", "web", "10.0.0.2"));
        assert_eq!(changes(&results.scan(&files(&scratch, &[NAME]))), ["+shop/web 10.0.0.2"]);
        scratch.write(NAME, &result("c1", "api", "10.0.0.2"));
        assert_eq!(changes(&results.scan(&files(&scratch, &[NAME]))), ["-shop/web", "+shop/api 10.0.0.2"]);
        scratch.remove(NAME);
        assert_eq!(changes(&results.scan(&files(&scratch, &[NAME]))), ["-shop/api"]);
        assert_eq!(changes(&results.scan(&Changed::Anything)), [""; 0]);
    }

    #[test]
    fn complete_scan_finds_changes_without_events() {
        let scratch = Scratch::new();
        let mut results = CniResults::new(scratch.path().join("results"));
        assert_eq!(changes(&results.scan(&Changed::Anything)), [""; 0], "it is not there yet");
        scratch.write("results/cbr0-c1-eth0", &result("c1", "web", "10.0.0.1"));
        scratch.write("results/cbr0-c2-eth0", &result("c2", "api", "10.0.0.2"));
        assert_eq!(changes(&results.scan(&Changed::Anything)), ["+shop/web 10.0.0.1", "+shop/api 10.0.0.2"]);
        scratch.remove("results/cbr0-c1-eth0");
        scratch.write("results/cbr0-c3-eth0", &result("c3", "new", "10.0.0.3"));
        assert_eq!(changes(&results.scan(&Changed::Anything)), ["-shop/web", "+shop/new 10.0.0.3"]);
        fs::remove_dir_all(scratch.path().join("results")).unwrap();
        assert_eq!(changes(&results.scan(&Changed::Anything)), ["-shop/api", "-shop/new"]);
    }

    #[test]
    fn file_that_is_being_written_keeps_its_last_content() {
        let scratch = Scratch::new();
        let mut results = CniResults::new(scratch.path());
        let whole = result("c1", "web", "10.0.0.1");
        for partial in ["", &whole[..40], &whole[..whole.len() - 1]] {
            scratch.write(NAME, partial);
            let found = results.scan(&Changed::Anything);
            assert_eq!((changes(&found), found.problems.len()), (vec![], 1));
        }
        scratch.write(NAME, &whole);
        let found = results.scan(&files(&scratch, &[NAME]));
        assert_eq!((changes(&found), found.problems.len()), (vec!["+shop/web 10.0.0.1".to_owned()], 0));
        scratch.write(NAME, "");
        let found = results.scan(&files(&scratch, &[NAME]));
        assert_eq!((changes(&found), found.problems.len()), (vec![], 1));
        scratch.remove(NAME);
        let found = results.scan(&files(&scratch, &[NAME]));
        assert_eq!((changes(&found), found.problems.len()), (vec!["-shop/web".to_owned()], 0));
    }

    #[test]
    fn what_is_no_file_of_sensible_size_is_not_read() {
        let scratch = Scratch::new();
        let mut results = CniResults::new(scratch.path());
        fs::create_dir(scratch.path().join("cbr0-dir-eth0")).unwrap();
        nix::unistd::mkfifo(&scratch.path().join("cbr0-pipe-eth0"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let huge = File::create(scratch.path().join("cbr0-huge-eth0")).unwrap();
        huge.set_len(MAX_LENGTH + 1).unwrap();
        let found = results.scan(&Changed::Anything);
        assert_eq!(changes(&found), [""; 0]);
        let problems: Vec<_> = found.problems.into_iter().collect();
        assert_eq!(problems, [("cbr0-huge-eth0".to_owned(), "it is longer than 4194304 bytes".to_owned())]);
    }

    #[test]
    fn unreadable_directory_is_reported_and_its_results_stay() {
        let scratch = Scratch::new();
        let mut results = CniResults::new(scratch.path().join("results"));
        scratch.write("results/cbr0-c1-eth0", &result("c1", "web", "10.0.0.1"));
        results.scan(&Changed::Anything);
        fs::remove_dir_all(scratch.path().join("results")).unwrap();
        fs::write(scratch.path().join("results"), "").unwrap();
        let found = results.scan(&Changed::Anything);
        assert_eq!(changes(&found), [""; 0]);
        assert!(found.problem.is_some_and(|problem| problem.contains("results cannot be read")));
    }
}
