//! A directory of manifests as a source of changes.

use super::changed::Changed;
use super::manifest_file::{ManifestFile, SETTLED, name, read_text, unreadable};
use super::register::{Register, Statements};
use super::walk::{Stamp, walk};
use crate::model::Change;
use crate::source::manifest::{ManifestError, Manifests, Problem, reader};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A directory of manifests and what was last read from it.
///
/// Each file stands for itself: one that cannot be read any more keeps its last good objects until it is mended or
/// removed, and the others go on. Of one that never could be read whole, what is certain counts: a policy that cannot be read
/// isolates its namespace, such a pod is unknown, and such a namespace has no labels. Of objects that were told, little more than their names is kept.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    settled: Duration,
    files: BTreeMap<Arc<Path>, ManifestFile>,
    register: Register,
    /// What is wrong with the directory itself, by the last look everywhere.
    problems: Vec<Problem>,
    complete: bool,
}

/// What a look at the directory brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What is different from the last look: first what is there, namespaces before pods before policies, then what is
    /// gone. Empty as long as the directory is not `complete`.
    pub changes: Vec<Change>,
    /// Whether all of the directory could be looked at once. Until then nothing may be written to the kernel.
    pub complete: bool,
    /// Everything that is wrong; the files concerned keep their last good objects.
    pub error: Option<ManifestError>,
    /// The parts of policies that could not be understood, and so allow nothing.
    pub refused: Vec<Problem>,
    /// How many objects of other kinds were passed over, by kind.
    pub skipped: BTreeMap<String, usize>,
    /// How many files were read; the others are known to be unchanged.
    pub files_read: usize,
}

impl Directory {
    /// A directory that has not been looked at. `root` may be a single file, too.
    pub fn new(root: impl Into<PathBuf>) -> Directory {
        Directory {
            root: root.into(),
            settled: SETTLED,
            files: BTreeMap::new(),
            register: Register::default(),
            problems: Vec::new(),
            complete: false,
        }
    }

    /// The directory's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks everywhere in the directory, reads the files that changed, and tells what is different.
    pub fn load(&mut self) -> Loaded {
        let files_read = self.look_everywhere(None);
        self.told(files_read)
    }

    /// Looks at what changed, and tells what is different.
    ///
    /// As long as the directory is not `complete`, it looks everywhere, and hands over what each file brings as soon as
    /// it is read, so that not all has to be in memory at once.
    pub fn look(&mut self, at: &Changed, mut hand_over: impl FnMut(Vec<Change>)) -> Loaded {
        let files_read = match at {
            Changed::Files(files) if self.complete => self.look_at(files),
            Changed::Files(_) | Changed::Anything => None,
        };
        let hand_over: Option<&mut dyn FnMut(Vec<Change>)> =
            if self.complete { None } else { Some(&mut hand_over) };
        let files_read = files_read.unwrap_or_else(|| self.look_everywhere(hand_over));
        self.told(files_read)
    }

    fn told(&mut self, files_read: usize) -> Loaded {
        let mut problems = self.problems.clone();
        problems.extend(self.files.values().flat_map(|file| file.problems.iter().cloned()));
        problems.extend(self.register.problems());
        self.complete |= self.root_was_read();
        let changes = if self.complete { self.register.tell() } else { Vec::new() };
        let remarks = || self.files.values().map(|file| &file.remarks);
        let mut skipped = BTreeMap::new();
        for (kind, count) in remarks().flat_map(|remarks| &remarks.skipped) {
            *skipped.entry(kind.clone()).or_default() += count;
        }
        Loaded {
            changes,
            complete: self.complete,
            error: ManifestError::of(problems),
            refused: remarks().flat_map(|remarks| remarks.refused.iter().cloned()).collect(),
            skipped,
            files_read,
        }
    }

    /// Whether the directory itself, or the one file that stands in its place, could be read. What it holds may be unreadable in
    /// part: that is enforced as far as it can be told.
    fn root_was_read(&self) -> bool {
        let root = name(&self.root);
        !self.problems.iter().any(|problem| problem.file == root)
            && self.files.get(&*self.root).is_none_or(|file| file.was_read)
    }

    /// Brings all files up to date; tells how many were read.
    fn look_everywhere(&mut self, mut hand_over: Option<&mut dyn FnMut(Vec<Change>)>) -> usize {
        let walk = walk(&self.root);
        let unseen = |path: &Path| walk.errors.iter().any(|(place, _)| path.starts_with(place));
        let gone = self.files.extract_if(.., |path, _| !walk.files.contains_key(&**path) && !unseen(path));
        for (path, state) in gone {
            self.register.hear(&path, &state.said, Statements::default());
        }
        let mut files_read = 0;
        for (path, stamp) in walk.files {
            files_read += usize::from(self.bring_up_to_date(path, stamp));
            if let Some(hand_over) = &mut hand_over {
                hand_over(self.register.tell());
            }
        }
        let problem = |(path, error): &(PathBuf, io::Error)| {
            Problem::of_file(&name(path), format!("cannot be looked at: {error}"))
        };
        self.problems = walk.errors.iter().map(problem).collect();
        files_read
    }

    /// Brings these files up to date; tells how many were read, or nothing if more must be looked at than these.
    fn look_at(&mut self, files: &BTreeSet<PathBuf>) -> Option<usize> {
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
            self.register.hear(&path, &state.said, Statements::default());
        }
        Some(there.into_iter().filter(|(path, stamp)| self.bring_up_to_date((*path).clone(), *stamp)).count())
    }

    /// Reads a file unless it is known to be unchanged; tells whether it was read.
    fn bring_up_to_date(&mut self, path: PathBuf, stamp: Stamp) -> bool {
        if self.files.get(&*path).is_some_and(|state| state.stamp == Some(stamp)) {
            return false;
        }
        let path: Arc<Path> = path.into();
        self.files.entry(Arc::clone(&path)).or_default().read(&path, self.settled, &mut self.register);
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
        reader::parse_into(file, &text, &mut all)?;
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

    /// The changes in short: `+Pod shop/web`, `-Pod shop/web`.
    fn told(loaded: &Loaded) -> Vec<String> {
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
                unreachable!("no manifest speaks of sandboxes")
            }
        };
        loaded.changes.iter().map(short).collect()
    }

    fn error(loaded: &Loaded) -> String {
        loaded.error.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn first_look_tells_namespaces_then_pods_then_policies() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(policy("deny") + &pod("web", "web")));
        scratch.write("below/b.yml", &namespace("shop"));
        scratch.write("below/further/c.json", r#"{"apiVersion": "v1", "kind": "Service"}"#);
        scratch.write("notes.txt", "not a manifest");
        let mut directory = Directory::new(scratch.path());
        let loaded = directory.load();
        assert_eq!(loaded.error, None);
        assert!(loaded.complete);
        assert_eq!(told(&loaded), ["+Namespace shop", "+Pod shop/web", "+Policy shop/deny"]);
        assert_eq!(loaded.skipped, BTreeMap::from([("Service".to_owned(), 1)]));
        assert_eq!(read_manifests(scratch.path()).unwrap().changes(), loaded.changes);
        assert_eq!(told(&directory.load()), [""; 0]);
    }

    #[test]
    fn only_real_differences_are_told() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(pod("web", "web") + &pod("db", "db")));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        scratch.write(
            "a.yaml",
            &format!("# reordered, and this comment\n{}{}", pod("db", "db"), pod("web", "web")),
        );
        assert_eq!(told(&directory.load()), [""; 0]);
        scratch.write("a.yaml", &(pod("db", "postgres") + &pod("web", "web")));
        assert_eq!(told(&directory.load()), ["+Pod shop/db"]);
        scratch.write("a.yaml", &pod("web", "web"));
        assert_eq!(told(&directory.load()), ["-Pod shop/db"]);
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
        assert_eq!((loaded.files_read, told(&loaded)), (1, vec!["+Pod shop/b".to_owned()]));
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
    fn broken_file_keeps_its_last_good_objects() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(pod("web", "web") + &policy("deny")));
        scratch.write("b.yaml", &pod("db", "db"));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        scratch.write("a.yaml", &(pod("web", "changed") + "spec: {nodename: a}\n"));
        scratch.write("b.yaml", &pod("db", "changed"));
        let loaded = directory.load();
        assert_eq!(told(&loaded), ["+Pod shop/db"]);
        assert!(loaded.complete);
        assert!(error(&loaded).contains("a.yaml:5:8: spec.nodename: unknown field"), "{}", error(&loaded));
        assert_eq!(directory.load().error, loaded.error);
        scratch.write("a.yaml", &pod("web", "changed"));
        let loaded = directory.load();
        assert_eq!((loaded.error.clone(), told(&loaded)), {
            (None, vec!["+Pod shop/web".to_owned(), "-Policy shop/deny".to_owned()])
        });
    }

    #[test]
    fn removed_file_takes_its_objects_along() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(namespace("shop") + &pod("web", "web") + &policy("deny")));
        scratch.write("b.yaml", "a: [");
        let mut directory = Directory::new(scratch.path());
        let loaded = directory.load();
        assert!(loaded.complete && loaded.error.is_some());
        scratch.remove("b.yaml");
        assert_eq!(directory.load().error, None);
        scratch.remove("a.yaml");
        assert_eq!(told(&directory.load()), ["-Policy shop/deny", "-Pod shop/web", "-Namespace shop"]);
    }

    #[test]
    fn what_can_be_read_is_told_from_the_first_look_on_and_the_rest_is_closed() {
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
        let told = told(&loaded);
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
            assert!(told.iter().any(|told| told == wanted), "{wanted}: {told:?}");
        }
        assert!(told.contains(&format!("+Policy bank/unreadable, {root}/d.yaml:2")), "{told:?}");
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
        let mended = super::tests::told(&directory.load());
        assert_eq!(
            mended,
            ["+Policy bank/torn".to_owned(), format!("-Policy bank/unreadable, {root}/d.yaml:2")]
        );
    }

    #[test]
    fn unreadable_text_that_names_nothing_holds_up_no_other_and_says_that_it_is_not_enforced() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("web", "web"));
        scratch.write("b.yaml", "a: [");
        let loaded = Directory::new(scratch.path()).load();
        assert_eq!((loaded.complete, told(&loaded).len()), (true, 2));
        assert!(error(&loaded).contains("cannot tell which pods this isolates"), "{}", error(&loaded));
    }

    #[test]
    fn first_look_can_be_handed_over_file_by_file() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(pod("web", "web") + &policy("deny")));
        scratch.write("b.yaml", &(pod("db", "db") + &namespace("shop")));
        let mut directory = Directory::new(scratch.path());
        let mut parts = Vec::new();
        let loaded = directory.look(&Changed::Anything, |part| parts.push(part.len()));
        assert_eq!((loaded.complete, told(&loaded), parts), (true, vec![], vec![3, 2]));
        scratch.write("a.yaml", &pod("web", "web"));
        let whole = |_| panic!("a change of a complete directory is told whole");
        assert_eq!(told(&directory.look(&Changed::Anything, whole)), ["-Policy shop/deny"]);
    }

    #[test]
    fn look_at_single_files_sees_them_come_change_and_go_and_nothing_else() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("web", "web"));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        let files = ["a.yaml", "b.yaml"].map(|name| scratch.path().join(name));
        let mut look = || told(&directory.look(&Changed::Files(files.clone().into()), |_| {}));
        scratch.write("b.yaml", &pod("db", "db"));
        scratch.write("c.yaml", &pod("unseen", "unseen"));
        assert_eq!(look(), ["+Pod shop/db"]);
        scratch.write("a.yaml", &pod("web", "changed"));
        assert_eq!(look(), ["+Pod shop/web"]);
        scratch.remove("a.yaml");
        assert_eq!(look(), ["-Pod shop/web"]);
        // A file that became a directory is more than a file: all is looked at.
        scratch.write("a.yaml/d.yaml", "");
        assert_eq!(look(), ["+Pod shop/unseen"]);
    }

    #[test]
    fn object_that_moves_to_another_file_is_not_told_again() {
        let scratch = Scratch::new();
        scratch.write("b.yaml", &pod("web", "web"));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        scratch.write("a.yaml", &pod("web", "web"));
        scratch.remove("b.yaml");
        assert_eq!(told(&directory.load()), [""; 0]);
        scratch.write("a.yaml", "");
        scratch.write("c.yaml", &pod("web", "web"));
        assert_eq!(told(&directory.load()), [""; 0]);
    }

    #[test]
    fn directory_that_is_missing_is_an_error_and_no_empty_cluster() {
        let scratch = Scratch::new();
        let root = scratch.path().join("manifests");
        let mut directory = Directory::new(&root);
        let loaded = directory.load();
        assert!(!loaded.complete && error(&loaded).contains("cannot be looked at: No such file"));
        scratch.write("manifests/a.yaml", &pod("web", "web"));
        assert_eq!(told(&directory.load()).len(), 2);
        std::fs::rename(&root, scratch.path().join("elsewhere")).unwrap();
        let loaded = directory.load();
        assert_eq!((loaded.changes.len(), loaded.error.is_some()), (0, true));
    }

    #[test]
    fn namespace_that_is_only_spoken_of_has_its_name_as_its_only_label() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &pod("web", "web"));
        let mut directory = Directory::new(scratch.path());
        let implied = crate::source::convert::implied_namespace(&NamespaceName::new("shop"));
        assert_eq!(implied.labels.iter().collect::<Vec<_>>(), [("kubernetes.io/metadata.name", "shop")]);
        assert_eq!(directory.load().changes.first(), Some(&Change::Namespace(implied.clone())));
        scratch.write("b.yaml", &namespace("shop"));
        assert_eq!(told(&directory.load()), ["+Namespace shop"]);
        scratch.remove("b.yaml");
        assert_eq!(directory.load().changes, [Change::Namespace(implied)]);
        scratch.remove("a.yaml");
        assert_eq!(told(&directory.load()), ["-Pod shop/web", "-Namespace shop"]);
    }

    #[test]
    fn object_that_two_files_say_stays_with_the_first_to_say_it() {
        let scratch = Scratch::new();
        scratch.write("b.yaml", &pod("web", "first"));
        let mut directory = Directory::new(scratch.path());
        directory.load();
        scratch.write("a.yaml", &pod("web", "second"));
        let loaded = directory.load();
        assert_eq!(told(&loaded), [""; 0]);
        let root = scratch.path().display();
        assert_eq!(error(&loaded), {
            format!(
                "{root}/b.yaml:2:1: duplicate object: Pod shop/web already stands at {root}/a.yaml:2: keep one of them"
            )
        });
        scratch.remove("b.yaml");
        let loaded = directory.load();
        assert_eq!((told(&loaded), error(&loaded)), (vec!["+Pod shop/web".to_owned()], String::new()));
    }

    #[test]
    fn refused_policy_is_in_force_and_told_with_its_place() {
        let scratch = Scratch::new();
        scratch.write("a.yaml", &(policy("deny") + "spec: {ingress: [{from: [{}]}]}\n"));
        let loaded = Directory::new(scratch.path()).load();
        assert_eq!(told(&loaded), ["+Namespace shop", "+Policy shop/deny"]);
        assert_eq!(
            loaded.refused.iter().map(|problem| (problem.line, problem.path.as_str())).collect::<Vec<_>>(),
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
        assert_eq!(told(&directory.load()), ["+Namespace shop", "+Pod shop/web"]);
        symlink("..v2", scratch.path().join("..tmp")).unwrap();
        std::fs::rename(scratch.path().join("..tmp"), scratch.path().join("..data")).unwrap();
        let loaded = directory.load();
        assert_eq!((told(&loaded), loaded.error), (vec!["+Pod shop/web".to_owned()], None));
    }

    #[test]
    fn directories_that_link_to_each_other_are_entered_once() {
        let scratch = Scratch::new();
        scratch.write("below/a.yaml", &pod("web", "web"));
        symlink("..", scratch.path().join("below/up")).unwrap();
        symlink("below", scratch.path().join("again")).unwrap();
        let loaded = Directory::new(scratch.path()).load();
        assert_eq!((told(&loaded).len(), error(&loaded)), (2, String::new()));
    }

    #[test]
    fn file_that_cannot_be_read_is_an_error() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("a.yaml"), [0xff, 0xfe]).unwrap();
        symlink("nowhere", scratch.path().join("b.yaml")).unwrap();
        let loaded = Directory::new(scratch.path()).load();
        let error = error(&loaded);
        assert!(error.contains("a.yaml:1:1: expected a Kubernetes object"), "{error}");
        assert!(error.contains("b.yaml: cannot be looked at: No such file or directory"), "{error}");
    }

    #[test]
    fn single_file_is_a_directory_of_itself() {
        let scratch = Scratch::new();
        scratch.write("cluster", &(pod("web", "web") + &policy("deny")));
        let loaded = Directory::new(scratch.path().join("cluster")).load();
        assert_eq!(told(&loaded), ["+Namespace shop", "+Pod shop/web", "+Policy shop/deny"]);
    }

    #[test]
    fn shop_of_the_examples_is_understood_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
        let shop = read_manifests(&root).unwrap();
        assert_eq!((&shop.refused, &shop.skipped), (&vec![], &BTreeMap::new()));
        assert_eq!((shop.namespaces.len(), shop.pods.len(), shop.policies.len()), (4, 12, 8));
        for pod in shop.pods.iter().map(|pod| &pod.lowered) {
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
            shop.pods.iter().flat_map(|pod| &pod.lowered.ports).map(|port| &*port.name).collect();
        let rules = shop
            .policies
            .iter()
            .flat_map(|policy| policy.lowered.ingress.iter().chain(&policy.lowered.egress).flatten());
        for rule in rules {
            let Ports::Listed(ports) = &rule.ports else { panic!("a rule of the shop allows every port") };
            for port in ports {
                assert!(!matches!(port, PortMatch::Named(_, name) if !named.contains(&**name)), "{port:?}");
            }
        }
    }
}
