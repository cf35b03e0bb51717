//! A directory of manifests as a source of changes.

use super::changed::Changed;
use super::manifest_file::{ManifestFile, SETTLED, name, read_text, unreadable};
use super::manifest_walk::{Stamp, walk};
use super::object_index::{FileObjects, ObjectIndex};
use crate::model::Change;
use crate::source::manifest::{ManifestError, Manifests, Problem, manifest_reader};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A directory of manifests and what was last read from it.
///
/// Files do not affect each other: a file that becomes unreadable keeps its last readable objects until it is corrected
/// or removed. If a file was never completely readable, what is certain of its objects counts: an unreadable policy
/// isolates its namespace, an unreadable pod is unknown, and an unreadable namespace has no labels. Of reported
/// objects, little more than the name is kept.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    settled: Duration,
    files: BTreeMap<Arc<Path>, ManifestFile>,
    index: ObjectIndex,
    /// What is wrong with the directory itself, as of the last complete scan.
    problems: Vec<Problem>,
    complete: bool,
}

/// The result of a scan of the directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What has changed since the last scan: first existing objects, namespaces before pods before policies, then deleted ones.
    /// Empty as long as the directory is not `complete`.
    pub changes: Vec<Change>,
    /// Whether the whole directory was scanned at least once. Until then nothing may be written to the kernel.
    pub complete: bool,
    /// Everything that is wrong; the files concerned keep their last readable objects.
    pub error: Option<ManifestError>,
    /// The invalid parts of policies, which allow nothing.
    pub invalid: Vec<Problem>,
    /// How many objects of other kinds were skipped, by kind.
    pub skipped: BTreeMap<String, usize>,
    /// How many files were read; the others are unchanged.
    pub files_read: usize,
}

impl Directory {
    /// A directory before its first scan. `root` may also be a single file.
    pub fn new(root: impl Into<PathBuf>) -> Directory {
        Directory {
            root: root.into(),
            settled: SETTLED,
            files: BTreeMap::new(),
            index: ObjectIndex::default(),
            problems: Vec::new(),
            complete: false,
        }
    }

    /// The directory's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Scans the whole directory, reads the files that changed, and returns what has changed.
    pub fn load(&mut self) -> Loaded {
        let files_read = self.scan_all(None);
        self.loaded(files_read)
    }

    /// Scans the files that may have changed, and returns what has changed.
    ///
    /// Until the directory is `complete`, all of it is scanned, and the changes of each file are passed to `hand_over`
    /// as soon as it is read, so that they do not have to be in memory at once.
    pub fn scan(&mut self, at: &Changed, mut hand_over: impl FnMut(Vec<Change>)) -> Loaded {
        let files_read = match at {
            Changed::Files(files) if self.complete => self.scan_files(files),
            Changed::Files(_) | Changed::Anything => None,
        };
        let hand_over: Option<&mut dyn FnMut(Vec<Change>)> =
            if self.complete { None } else { Some(&mut hand_over) };
        let files_read = files_read.unwrap_or_else(|| self.scan_all(hand_over));
        self.loaded(files_read)
    }

    fn loaded(&mut self, files_read: usize) -> Loaded {
        let mut problems = self.problems.clone();
        problems.extend(self.files.values().flat_map(|file| file.problems.iter().cloned()));
        problems.extend(self.index.problems());
        self.complete |= self.root_was_read();
        let changes = if self.complete { self.index.take_changes() } else { Vec::new() };
        let remarks = || self.files.values().map(|file| &file.remarks);
        let mut skipped = BTreeMap::new();
        for (kind, count) in remarks().flat_map(|remarks| &remarks.skipped) {
            *skipped.entry(kind.clone()).or_default() += count;
        }
        Loaded {
            changes,
            complete: self.complete,
            error: ManifestError::of(problems),
            invalid: remarks().flat_map(|remarks| remarks.invalid.iter().cloned()).collect(),
            skipped,
            files_read,
        }
    }

    /// Whether the directory itself, or the one file in its place, was read. Parts of its content may be unreadable: what is
    /// certain of them is enforced.
    fn root_was_read(&self) -> bool {
        let root = name(&self.root);
        !self.problems.iter().any(|problem| problem.file == root)
            && self.files.get(&*self.root).is_none_or(|file| file.was_read)
    }

    /// Updates all files; returns how many were read.
    fn scan_all(&mut self, mut hand_over: Option<&mut dyn FnMut(Vec<Change>)>) -> usize {
        let walk = walk(&self.root);
        let unseen = |path: &Path| walk.errors.iter().any(|(place, _)| path.starts_with(place));
        let gone = self.files.extract_if(.., |path, _| !walk.files.contains_key(&**path) && !unseen(path));
        for (path, state) in gone {
            self.index.update(&path, &state.objects, FileObjects::default());
        }
        let mut files_read = 0;
        for (path, stamp) in walk.files {
            files_read += usize::from(self.bring_up_to_date(path, stamp));
            if let Some(hand_over) = &mut hand_over {
                hand_over(self.index.take_changes());
            }
        }
        let problem = |(path, error): &(PathBuf, io::Error)| {
            Problem::of_file(&name(path), format!("cannot be read: {error}"))
        };
        self.problems = walk.errors.iter().map(problem).collect();
        files_read
    }

    /// Updates these files; returns how many were read, or `None` if more than these must be scanned.
    fn scan_files(&mut self, files: &BTreeSet<PathBuf>) -> Option<usize> {
        let mut there = Vec::new();
        let mut gone = Vec::new();
        let is_gone =
            |path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        for path in files {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => there.push((path, Stamp::of(&metadata))),
                Err(_) if is_gone(path) => gone.push(path),
                Ok(_) | Err(_) => return None,
            }
        }
        for (path, state) in gone.into_iter().filter_map(|path| self.files.remove_entry(&**path)) {
            self.index.update(&path, &state.objects, FileObjects::default());
        }
        Some(there.into_iter().filter(|(path, stamp)| self.bring_up_to_date((*path).clone(), *stamp)).count())
    }

    /// Reads a file unless it is unchanged; returns whether it was read.
    fn bring_up_to_date(&mut self, path: PathBuf, stamp: Stamp) -> bool {
        if self.files.get(&*path).is_some_and(|state| state.stamp == Some(stamp)) {
            return false;
        }
        let path: Arc<Path> = path.into();
        self.files.entry(Arc::clone(&path)).or_default().read(&path, self.settled, &mut self.index);
        true
    }
}

/// Reads a directory, or a single file, once.
///
/// # Errors
/// Lists everything that is wrong with it.
pub fn read_manifests(root: &Path) -> Result<Manifests, ManifestError> {
    if let Some(error) = Directory::new(root).load().error {
        return Err(error);
    }
    let mut all = Manifests::default();
    for path in walk(root).files.into_keys() {
        let file = name(&path);
        let (_, text) = read_text(&path, SETTLED).map_err(|error| unreadable(&file, &error))?;
        manifest_reader::parse_into(file, &text, &mut all)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NamespaceName, PortMatch, Ports};
    use crate::net::IpNet;
    use crate::source::files::scratch::Scratch;
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;

    fn pod(name: &str, app: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}\n"
        )
    }

    fn namespace(name: &str) -> String {
        format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{team: a}}}}\n")
    }

    fn policy(name: &str) -> String {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n"
        )
    }

    /// A summary of the changes: `+Pod shop/web`, `-Pod shop/web`.
    fn changes(loaded: &Loaded) -> Vec<String> {
        let short = |change: &Change| match change {
            Change::Namespace(namespace) => format!("+Namespace {}", namespace.name),
            Change::Pod(pod) => format!("+Pod {}", pod.key),
            Change::Policy(policy) => format!("+Policy {}", policy.key),
            Change::NamespaceUnreadable(name) => format!("?Namespace {name}"),
            Change::PodUnreadable(pod) => format!("?Pod {}", pod.key),
            Change::NamespaceGone(name) => format!("-Namespace {name}"),
            Change::PodGone(key) => format!("-Pod {key}"),
            Change::PolicyGone(key) => format!("-Policy {key}"),
            Change::Sandbox(_) | Change::SandboxGone(_) | Change::Link(_) => {
                unreachable!("no manifest contains sandboxes")
            }
        };
        loaded.changes.iter().map(short).collect()
    }

    fn error(loaded: &Loaded) -> String {
        loaded.error.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn first_scan_returns_namespaces_then_pods_then_policies() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(policy("deny") + &pod("web", "web")));
        scratch.write("below/b.yml", &namespace("shop"));
        scratch.write("below/further/c.json", r#"{"apiVersion": "v1", "kind": "Service"}"#);
        scratch.write("notes.txt", "not a manifest");
        let mut directory = Directory::new(scratch.path());
        let loaded = directory.load();
        assert_eq!(loaded.error, None);
        assert!(loaded.complete);
        assert_eq!(changes(&loaded), ["+Namespace shop", "+Pod shop/web", "+Policy shop/deny"]);
        assert_eq!(loaded.skipped, BTreeMap::from([("Service".to_owned(), 1)]));
        assert_eq!(read_manifests(scratch.path()).unwrap().changes(), loaded.changes);
        assert_eq!(changes(&directory.load()), [""; 0]);
    }

    #[test]
    fn only_objects_that_changed_are_returned() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(pod("web", "web") + &pod("db", "db")));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        scratch.write(
            "a.yaml",
            &format!("# reordered, and this comment\n{}{}", pod("db", "db"), pod("web", "web")),
        );
        assert_eq!(changes(&directory.load()), [""; 0]);
        scratch.write("a.yaml", &(pod("db", "postgres") + &pod("web", "web")));
        assert_eq!(changes(&directory.load()), ["+Pod shop/db"]);
        scratch.write("a.yaml", &pod("web", "web"));
        assert_eq!(changes(&directory.load()), ["-Pod shop/db"]);
    }

    #[test]
    fn unchanged_file_is_not_read_again() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("a", "a"));
        scratch.write("b.yaml", &pod("b", "b"));
        let mut directory = Directory::new(scratch.path());
        directory.settled = Duration::ZERO;
        assert_eq!(directory.load().files_read, 2);
        assert_eq!(directory.load().files_read, 0);
        scratch.write("b.yaml", &pod("b", "c"));
        let loaded = directory.load();
        assert_eq!((loaded.files_read, changes(&loaded)), (1, vec!["+Pod shop/b".to_owned()]));
    }

    #[test]
    fn file_that_was_just_written_is_read_again() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("a", "a"));
        let mut directory = Directory::new(scratch.path());
        directory.settled = Duration::MAX;
        assert_eq!(directory.load().files_read, 1);
        assert_eq!(directory.load().files_read, 1);
    }

    #[test]
    fn broken_file_keeps_its_last_readable_objects() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(pod("web", "web") + &policy("deny")));
        scratch.write("b.yaml", &pod("db", "db"));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        scratch.write("a.yaml", &(pod("web", "changed") + "spec: {nodename: a}\n"));
        scratch.write("b.yaml", &pod("db", "changed"));
        let loaded = directory.load();
        assert_eq!(changes(&loaded), ["+Pod shop/db"]);
        assert!(loaded.complete);
        assert!(error(&loaded).contains("a.yaml:5:8: spec.nodename: unknown field"), "{}", error(&loaded));
        assert_eq!(directory.load().error, loaded.error);
        scratch.write("a.yaml", &pod("web", "changed"));
        let loaded = directory.load();
        assert_eq!((loaded.error.clone(), changes(&loaded)), {
            (None, vec!["+Pod shop/web".to_owned(), "-Policy shop/deny".to_owned()])
        });
    }

    #[test]
    fn removed_file_deletes_its_objects() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(namespace("shop") + &pod("web", "web") + &policy("deny")));
        scratch.write("b.yaml", "a: [");
        let mut directory = Directory::new(scratch.path());
        let loaded = directory.load();
        assert!(loaded.complete && loaded.error.is_some());
        scratch.remove("b.yaml");
        assert_eq!(directory.load().error, None);
        scratch.remove("a.yaml");
        assert_eq!(changes(&directory.load()), ["-Policy shop/deny", "-Pod shop/web", "-Namespace shop"]);
    }

    #[test]
    fn readable_objects_are_returned_by_the_first_scan_and_the_rest_is_denied() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("web", "web"));
        scratch.write("b.yaml", &(pod("db", "db") + "spec: {nodename: a}\n" + &pod("api", "api")));
        scratch.write("c.yaml", &(policy("deny") + "spec: {podSelector: [everyone]}\n"));
        scratch.write("d.yaml", &format!("{}spec: [\n", policy("torn").replace("shop", "bank")));
        scratch.write("e.yaml", "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: 7}\n");
        let odd = policy("odd") + "spec: {podSelector: {matchLabels: {app: X}}}\n";
        let bytes: Vec<u8> = odd.bytes().map(|byte| if byte == b'X' { 0xff } else { byte }).collect();
        std::fs::write(scratch.path().join("f.yaml"), bytes).unwrap();
        std::fs::write(
            scratch.path().join("g.yaml"),
            [pod("cafe", "cafe").as_bytes(), b"# caf\xe9\n"].concat(),
        )
        .unwrap();
        let mut directory = Directory::new(scratch.path());
        let loaded = directory.load();
        assert!(loaded.complete && loaded.error.is_some());
        let reported = changes(&loaded);
        let root = scratch.path().display();
        for wanted in [
            "+Pod shop/web",
            "?Pod shop/db",
            "+Pod shop/api",
            "+Policy shop/deny",
            "+Policy shop/odd",
            "+Pod shop/cafe",
            "?Namespace shop",
        ] {
            assert!(reported.iter().any(|change| change == wanted), "{wanted}: {reported:?}");
        }
        assert!(reported.contains(&format!("+Policy bank/unreadable, {root}/d.yaml:2")), "{reported:?}");
        for change in &loaded.changes {
            if let Change::Policy(policy) = change {
                assert_eq!(
                    (&policy.ingress, &policy.egress),
                    (&Some(vec![]), &Some(vec![])),
                    "{}",
                    policy.key
                );
            }
        }
        scratch.write("d.yaml", &policy("torn").replace("shop", "bank"));
        let corrected = changes(&directory.load());
        assert_eq!(
            corrected,
            ["+Policy bank/torn".to_owned(), format!("-Policy bank/unreadable, {root}/d.yaml:2")]
        );
    }

    #[test]
    fn unreadable_text_that_names_nothing_holds_up_no_other_and_says_that_it_is_not_enforced() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("web", "web"));
        scratch.write("b.yaml", "a: [");
        let loaded = Directory::new(scratch.path()).load();
        assert_eq!((loaded.complete, changes(&loaded).len()), (true, 2));
        assert!(error(&loaded).contains("cannot tell which pods this isolates"), "{}", error(&loaded));
    }

    #[test]
    fn first_scan_is_handed_over_file_by_file() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(pod("web", "web") + &policy("deny")));
        scratch.write("b.yaml", &(pod("db", "db") + &namespace("shop")));
        let mut directory = Directory::new(scratch.path());
        let mut parts = Vec::new();
        let loaded = directory.scan(&Changed::Anything, |part| parts.push(part.len()));
        assert_eq!((loaded.complete, changes(&loaded), parts), (true, vec![], vec![3, 2]));
        scratch.write("a.yaml", &pod("web", "web"));
        let whole = |_| panic!("changes of a complete directory are returned");
        assert_eq!(changes(&directory.scan(&Changed::Anything, whole)), ["-Policy shop/deny"]);
    }

    #[test]
    fn scan_of_single_files_finds_them_created_changed_and_removed_and_nothing_else() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("web", "web"));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        let files = ["a.yaml", "b.yaml"].map(|name| scratch.path().join(name));
        let mut scan = || changes(&directory.scan(&Changed::Files(files.clone().into()), |_| {}));
        scratch.write("b.yaml", &pod("db", "db"));
        scratch.write("c.yaml", &pod("unseen", "unseen"));
        assert_eq!(scan(), ["+Pod shop/db"]);
        scratch.write("a.yaml", &pod("web", "changed"));
        assert_eq!(scan(), ["+Pod shop/web"]);
        scratch.remove("a.yaml");
        assert_eq!(scan(), ["-Pod shop/web"]);
        // If a file became a directory, everything is scanned.
        scratch.write("a.yaml/d.yaml", "");
        assert_eq!(scan(), ["+Pod shop/unseen"]);
    }

    #[test]
    fn object_that_moves_to_another_file_is_not_returned_again() {
        let scratch = Scratch::new();
        scratch.write("b.yaml", &pod("web", "web"));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        scratch.write("a.yaml", &pod("web", "web"));
        scratch.remove("b.yaml");
        assert_eq!(changes(&directory.load()), [""; 0]);
        scratch.write("a.yaml", "");
        scratch.write("c.yaml", &pod("web", "web"));
        assert_eq!(changes(&directory.load()), [""; 0]);
    }

    #[test]
    fn directory_that_is_missing_is_an_error_and_no_empty_cluster() {
        let scratch = Scratch::new();
        let root = scratch.path().join("manifests");
        let mut directory = Directory::new(&root);
        let loaded = directory.load();
        assert!(!loaded.complete && error(&loaded).contains("cannot be read: No such file"));
        scratch.write("manifests/a.yaml", &pod("web", "web"));
        assert_eq!(changes(&directory.load()).len(), 2);
        std::fs::rename(&root, scratch.path().join("elsewhere")).unwrap();
        let loaded = directory.load();
        assert_eq!((loaded.changes.len(), loaded.error.is_some()), (0, true));
    }

    #[test]
    fn namespace_without_an_object_has_its_name_as_its_only_label() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("web", "web"));
        let mut directory = Directory::new(scratch.path());
        let implied = crate::source::convert::implied_namespace(&NamespaceName::new("shop"));
        assert_eq!(implied.labels.iter().collect::<Vec<_>>(), [("kubernetes.io/metadata.name", "shop")]);
        assert_eq!(directory.load().changes.first(), Some(&Change::Namespace(implied.clone())));
        scratch.write("b.yaml", &namespace("shop"));
        assert_eq!(changes(&directory.load()), ["+Namespace shop"]);
        scratch.remove("b.yaml");
        assert_eq!(directory.load().changes, [Change::Namespace(implied)]);
        scratch.remove("a.yaml");
        assert_eq!(changes(&directory.load()), ["-Pod shop/web", "-Namespace shop"]);
    }

    #[test]
    fn object_in_two_files_stays_as_the_first_file_defined_it() {
        let scratch = Scratch::new();
        scratch.write("b.yaml", &pod("web", "first"));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        scratch.write("a.yaml", &pod("web", "second"));
        let loaded = directory.load();
        assert_eq!(changes(&loaded), [""; 0]);
        let root = scratch.path().display();
        assert_eq!(error(&loaded), {
            format!(
                "{root}/b.yaml:2:1: duplicate object: Pod shop/web already stands at {root}/a.yaml:2: keep one of them"
            )
        });
        scratch.remove("b.yaml");
        let loaded = directory.load();
        assert_eq!((changes(&loaded), error(&loaded)), (vec!["+Pod shop/web".to_owned()], String::new()));
    }

    #[test]
    fn policy_with_an_invalid_part_is_in_force_and_reported_with_its_place() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(policy("deny") + "spec: {ingress: [{from: [{}]}]}\n"));
        let loaded = Directory::new(scratch.path()).load();
        assert_eq!(changes(&loaded), ["+Namespace shop", "+Policy shop/deny"]);
        assert_eq!(
            loaded.invalid.iter().map(|problem| (problem.line, problem.path.as_str())).collect::<Vec<_>>(),
            { [(5, "spec.ingress[0].from[0]")] }
        );
    }

    #[test]
    fn mounted_config_map_is_read_through_its_links() {
        let scratch = Scratch::new();
        scratch.write("..v1/a.yaml", &pod("web", "one"));
        scratch.write("..v2/a.yaml", &pod("web", "two"));
        symlink("..v1", scratch.path().join("..data")).unwrap();
        symlink("..data/a.yaml", scratch.path().join("a.yaml")).unwrap();
        let mut directory = Directory::new(scratch.path());
        assert_eq!(changes(&directory.load()), ["+Namespace shop", "+Pod shop/web"]);
        symlink("..v2", scratch.path().join("..tmp")).unwrap();
        std::fs::rename(scratch.path().join("..tmp"), scratch.path().join("..data")).unwrap();
        let loaded = directory.load();
        assert_eq!((changes(&loaded), loaded.error), (vec!["+Pod shop/web".to_owned()], None));
    }

    #[test]
    fn directories_that_link_to_each_other_are_entered_once() {
        let scratch = Scratch::new();
        scratch.write("below/a.yaml", &pod("web", "web"));
        symlink("..", scratch.path().join("below/up")).unwrap();
        symlink("below", scratch.path().join("again")).unwrap();
        let loaded = Directory::new(scratch.path()).load();
        assert_eq!((changes(&loaded).len(), error(&loaded)), (2, String::new()));
    }

    #[test]
    fn file_that_cannot_be_read_is_an_error() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("a.yaml"), [0xff, 0xfe]).unwrap();
        symlink("nowhere", scratch.path().join("b.yaml")).unwrap();
        let loaded = Directory::new(scratch.path()).load();
        let error = error(&loaded);
        assert!(error.contains("a.yaml:1:1: expected a Kubernetes object"), "{error}");
        assert!(error.contains("b.yaml: cannot be read: No such file or directory"), "{error}");
    }

    #[test]
    fn single_file_is_a_directory_of_itself() {
        let scratch = Scratch::new();
        scratch.write("cluster", &(pod("web", "web") + &policy("deny")));
        let loaded = Directory::new(scratch.path().join("cluster")).load();
        assert_eq!(changes(&loaded), ["+Namespace shop", "+Pod shop/web", "+Policy shop/deny"]);
    }

    #[test]
    fn shop_of_the_examples_is_read_completely() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
        let shop = read_manifests(&root).unwrap();
        assert_eq!((&shop.invalid, &shop.skipped), (&vec![], &BTreeMap::new()));
        assert_eq!((shop.namespaces.len(), shop.pods.len(), shop.policies.len()), (4, 12, 8));
        for pod in shop.pods.iter().map(|pod| &pod.converted) {
            let nets: [IpNet; 2] = match pod.node.as_deref() {
                Some("node-a") => ["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
                _ => ["10.244.2.0/24".parse().unwrap(), "fd00:10:244:2::/64".parse().unwrap()],
            };
            assert_eq!(pod.addresses.len(), nets.len(), "{}", pod.key);
            assert!(
                pod.addresses.iter().zip(nets).all(|(address, net)| net.contains(address)),
                "{}",
                pod.key
            );
        }
        let named: BTreeSet<_> =
            shop.pods.iter().flat_map(|pod| &pod.converted.ports).map(|port| &*port.name).collect();
        let rules = shop
            .policies
            .iter()
            .flat_map(|policy| policy.converted.ingress.iter().chain(&policy.converted.egress).flatten());
        for rule in rules {
            let Ports::Listed(ports) = &rule.ports else { panic!("a rule of the shop allows every port") };
            for port in ports {
                assert!(!matches!(port, PortMatch::Named(_, name) if !named.contains(&**name)), "{port:?}");
            }
        }
    }
}
