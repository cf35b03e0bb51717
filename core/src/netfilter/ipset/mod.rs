//! The language of ipset: kinds of sets, elements, and their text.

mod set;

pub use set::*;
