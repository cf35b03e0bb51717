//! Manifests as documents: parses YAML or JSON to objects, and locates everything that is wrong.
//!
//! Comes in: the text of one file. Goes out: its objects, converted, with the lines on which they begin, and problems
//! with line, column and field. This folder reads no file and knows no directory.

pub(in crate::source) mod collect;
mod decode;
mod document;
mod json;
pub(in crate::source) mod manifest_reader;
pub(in crate::source) mod object;
pub(in crate::source) mod problem;
mod scalar;
mod schema;
mod tree;
pub(in crate::source) mod unparsed;
mod yaml;

pub use document::read_document;
pub use manifest_reader::parse;
pub use object::{Manifests, Object};
pub use problem::{ManifestError, Origin, Problem};
