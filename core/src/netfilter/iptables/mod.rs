//! The language of iptables: typed rules, their text, a parser for that text, and a tracer for packets.

mod count;
mod parse;
mod rule;
mod text;
mod trace;
mod variant;
mod words;

pub use count::*;
pub use parse::*;
pub use rule::*;
pub use trace::*;
pub use variant::*;
pub use words::*;
