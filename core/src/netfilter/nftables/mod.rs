//! The language of nf_tables, as far as this program uses it: tables, chains, sets and typed rules.
//!
//! A rule is a list of statements without registers; the room `kernel` assigns registers when it encodes them, and
//! decodes the same statements. A rule that cannot be decoded to statements is not ours.

mod ahead;
mod change;
mod edit;
mod elements;
mod field;
mod field_text;
mod headers;
mod packet;
mod soundness;
mod statement;
mod table;
mod text;
mod trace;
mod visit;

pub use change::*;
pub use edit::*;
pub use elements::*;
pub use field::*;
pub use field_text::key_text;
pub use packet::*;
pub use statement::*;
pub use table::*;
pub use trace::*;
pub use visit::*;
