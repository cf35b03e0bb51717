//! The files of the repository, and which of them the compiler reaches.

use crate::text::Text;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The sources of the packages whose modules are rooms: the pure part, and the program.
pub(crate) const PACKAGES: [&str; 2] = [CORE, "src"];
/// Those of the pure part.
pub(crate) const CORE: &str = "core/src";

/// Rust sources by their path from the repository's root.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// Each as it is written, and taken apart.
    pub(crate) files: BTreeMap<PathBuf, (String, Text)>,
}

impl Tree {
    /// Every source under a directory, except build output and hidden files.
    pub(crate) fn read(root: &Path) -> Tree {
        let mut tree = Tree::default();
        let mut directories = vec![root.to_path_buf()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a directory can be listed") {
                let entry = entry.expect("a directory can be listed");
                let path = entry.path();
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type().expect("a file has a type").is_dir() {
                    if name != "target" && !name.starts_with('.') {
                        directories.push(path);
                    }
                } else if name.ends_with(".rs") {
                    let text = fs::read_to_string(&path).expect("a source is text");
                    tree.add(path.strip_prefix(root).expect("it was found below"), &text);
                }
            }
        }
        tree
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, path: impl AsRef<Path>, text: &str) {
        self.files.insert(path.as_ref().to_path_buf(), (text.to_owned(), Text::of(text)));
    }

    /// The files below a directory.
    pub(crate) fn below<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = (&'a PathBuf, &'a Text)> {
        let own = self.files.iter().filter(move |(path, _)| path.starts_with(directory));
        own.map(|(path, (_, text))| (path, text))
    }

    /// The files of the library's packages.
    pub(crate) fn library(&self) -> impl Iterator<Item = (&PathBuf, &Text)> {
        PACKAGES.iter().flat_map(|package| self.below(package))
    }

    /// Files that no `mod` declaration leads to from any of `roots`.
    pub(crate) fn unreached(&self, roots: &BTreeSet<PathBuf>) -> Vec<String> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<PathBuf> = roots.iter().cloned().collect();
        while let Some(path) = open.pop() {
            let Some((_, text)) = self.files.get(&path) else { continue };
            let stem = path.file_stem().unwrap_or_default();
            let is_owner = roots.contains(&path) || stem == "mod";
            let directory = if is_owner {
                path.parent().unwrap_or(Path::new("")).into()
            } else {
                path.with_extension("")
            };
            for name in declared(&text.code) {
                open.push(directory.join(format!("{name}.rs")));
                open.push(directory.join(name).join("mod.rs"));
            }
            reached.insert(path);
        }
        let lost = self.files.keys().filter(|path| !reached.contains(*path));
        lost.map(|path| format!("{}: no `mod` leads to it", path.display())).collect()
    }
}

/// The names in `mod name;` declarations.
fn declared(code: &str) -> impl Iterator<Item = &str> {
    code.split(';').filter_map(|statement| {
        let words = statement.rsplit(['\n', '}', '{', ']']).next()?;
        let mut words = words.split_whitespace().rev();
        let name = words.next()?;
        (words.next() == Some("mod")).then_some(name)
    })
}

fn in_package(path: &Path) -> Option<&Path> {
    PACKAGES.iter().find_map(|package| path.strip_prefix(package).ok())
}

/// The room of a file of the library: its first directory, or its own name. None for the crates' roots and other files.
pub(crate) fn room(path: &Path) -> Option<String> {
    let name = in_package(path)?.components().next()?.as_os_str().to_string_lossy();
    let name = name.strip_suffix(".rs").unwrap_or(&name).to_owned();
    (name != "lib" && name != "main").then_some(name)
}

/// Whether a file is the root module of its room.
pub(crate) fn is_room_root(path: &Path) -> bool {
    let parts = in_package(path).map_or(0, |path| path.components().count());
    parts == 1 || (parts == 2 && path.ends_with("mod.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(paths: &[&str]) -> BTreeSet<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn modules_are_followed_through_files_and_directories() {
        let mut tree = Tree::default();
        tree.add("src/lib.rs", "//! A crate.\npub mod a;\nmod b;\n");
        tree.add("src/a/mod.rs", "mod c;\n#[cfg(test)]\nmod d;\n");
        tree.add("src/a/c.rs", "pub(crate) mod e;");
        tree.add("src/a/c/e.rs", "");
        tree.add("src/a/d.rs", "");
        tree.add("src/b.rs", "");
        assert_eq!(tree.unreached(&roots(&["src/lib.rs"])), Vec::<String>::new());
    }

    #[test]
    fn file_that_nothing_declares_is_noticed() {
        let mut tree = Tree::default();
        tree.add("src/lib.rs", "// mod lost;\nmod found { fn f() {} }\n");
        tree.add("src/lost.rs", "");
        tree.add("tests/one.rs", "");
        assert_eq!(
            tree.unreached(&roots(&["src/lib.rs", "tests/one.rs"])),
            ["src/lost.rs: no `mod` leads to it"]
        );
    }

    #[test]
    fn room_is_the_first_directory_or_the_file() {
        let of = |path: &str| room(Path::new(path));
        assert_eq!(of("src/kernel/ipset/codec.rs").as_deref(), Some("kernel"));
        assert_eq!(of("core/src/net.rs").as_deref(), Some("net"));
        assert_eq!((of("src/lib.rs"), of("src/main.rs"), of("tests/kernel.rs")), (None, None, None));
        let roots = ["core/src/net.rs", "src/kernel/mod.rs", "src/kernel/ipset/mod.rs", "src/kernel/exec.rs"];
        assert_eq!(roots.map(|path| is_room_root(Path::new(path))), [true, true, false, false]);
    }
}
