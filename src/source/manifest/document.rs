//! A document that is no Kubernetes object, such as a file of settings.

use super::problem::{ManifestError, Problem};
use super::yaml::Documents;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Reads a text with one document, in YAML or JSON; `file` is its name in problems.
///
/// # Errors
/// Says what is wrong with it, and where it is known, on which line.
pub fn read_document<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ManifestError> {
    let file: Arc<str> = file.into();
    let of_file = |message: String| ManifestError { problems: vec![Problem::of_file(&file, message)] };
    let mut documents = Documents::new(text);
    let node = match documents.next() {
        Some(Ok(node)) => node,
        Some(Err(faults)) => {
            let problems = faults.into_iter().map(|fault| Problem {
                line: fault.at.line,
                column: fault.at.column,
                ..Problem::of_file(&file, fault.message)
            });
            return Err(ManifestError { problems: problems.collect() });
        }
        None => return Err(of_file("it is empty".to_owned())),
    };
    if documents.next().is_some() {
        return Err(of_file("it has more than one document: write one file for each".to_owned()));
    }
    T::deserialize(&node).map_err(|fault| of_file(fault.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(text: &str) -> Result<BTreeMap<String, u8>, String> {
        read_document("a.yaml", text).map_err(|error| error.to_string())
    }

    #[test]
    fn document_is_read_as_what_is_asked_for_and_otherwise_its_fault_is_named() {
        assert_eq!(read("a: 1\nb: 2\n"), Ok([("a".to_owned(), 1), ("b".to_owned(), 2)].into()));
        for (text, fault) in [
            ("", "it is empty"),
            ("a: 1\n---\nb: 2\n", "more than one document"),
            ("a: 1\na: 2\n", "a.yaml:2:1"),
            ("a: text\n", "invalid type"),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.contains(fault), "{text:?}: {found}");
        }
    }
}
