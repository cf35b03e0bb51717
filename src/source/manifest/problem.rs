//! Problems in manifests, with their positions, so that authors can correct them.

use crate::source::convert::object_key::ObjectKey;
use std::fmt;
use std::sync::Arc;

/// Where an object was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file's path.
    pub file: Arc<str>,
    /// The line on which the object begins, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Origin {
    /// `policies.yaml:12`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The path of the file, or of the directory if the problem concerns the directory itself.
    pub file: Arc<str>,
    /// The line, from 1; 0 if the problem concerns the whole file.
    pub line: usize,
    /// The column in characters, from 1; 0 if the problem concerns the whole file.
    pub column: usize,
    /// The path from the object's root, such as `spec.ingress[0]`; empty if the problem concerns the whole object.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The text of that line, if it helps.
    pub source: Option<String>,
}

/// The longest line that is shown, in bytes.
const MAX_SOURCE: usize = 160;

impl Problem {
    /// A problem of a whole file or directory.
    pub(in crate::source) fn of_file(file: &Arc<str>, message: String) -> Problem {
        Problem { file: Arc::clone(file), line: 0, column: 0, path: String::new(), message, source: None }
    }

    /// Adds the text of the line.
    pub(in crate::source) fn show(mut self, line: Option<&str>) -> Problem {
        self.source = line.filter(|line| line.len() <= MAX_SOURCE).map(|line| line.replace('\t', " "));
        self
    }
}

impl fmt::Display for Problem {
    /// `file:line:column: path: message`, and below it the line with a caret under the column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(source) = &self.source {
            let number = self.line.to_string();
            let width = number.len();
            write!(
                f,
                "\n  {number} | {source}\n  {:width$} | {:>column$}",
                "",
                "^",
                column = self.column.max(1)
            )?;
        }
        Ok(())
    }
}

/// How many problems the text of an error contains.
const MAX_SHOWN: usize = 100;

/// Everything that is wrong in a set of manifests, in the order of files and lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The problems; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ManifestError {
    /// One problem after the other, the first hundred of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(MAX_SHOWN).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.problems.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl ManifestError {
    /// The error of these problems; `None` without problems.
    pub(in crate::source) fn of(mut problems: Vec<Problem>) -> Option<ManifestError> {
        problems.sort();
        problems.dedup();
        (!problems.is_empty()).then_some(ManifestError { problems })
    }
}

/// The message about an object that is defined in a second place.
pub(in crate::source) fn duplicate(key: &ObjectKey, first: &Origin) -> String {
    format!("duplicate object: {key} already stands at {first}: keep one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_shows_the_line_and_points_to_the_column() {
        let problem = Problem {
            file: "a.yaml".into(),
            line: 12,
            column: 5,
            path: "spec.ingress".to_owned(),
            message: "wrong".to_owned(),
            source: None,
        };
        assert_eq!(problem.to_string(), "a.yaml:12:5: spec.ingress: wrong");
        assert_eq!(problem.show(Some("    ingress: 5")).to_string(), {
            "a.yaml:12:5: spec.ingress: wrong\n  12 |     ingress: 5\n     |     ^"
        });
    }

    #[test]
    fn problem_of_a_whole_file_has_no_line() {
        let problem = Problem::of_file(&"a.yaml".into(), "cannot be read".to_owned());
        assert_eq!(problem.to_string(), "a.yaml: cannot be read");
    }

    #[test]
    fn error_lists_its_problems_in_order() {
        let problem =
            |line| Problem { line, column: 1, ..Problem::of_file(&"a.yaml".into(), "wrong".to_owned()) };
        let error = ManifestError::of(vec![problem(7), problem(2), problem(7)]).unwrap();
        assert_eq!(error.to_string(), "a.yaml:2:1: wrong\na.yaml:7:1: wrong");
        assert_eq!(ManifestError::of(vec![]), None);
        let text = ManifestError::of((1..=103).map(problem).collect()).unwrap().to_string();
        assert!(text.ends_with("a.yaml:100:1: wrong\nand 3 more"));
    }
}
