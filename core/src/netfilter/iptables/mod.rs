//! The language of iptables: typed rules, their text, a parser for that text, and a tracer for packets.

mod count;
mod foreign_rule;
mod parse;
mod rule;
mod text;
mod trace;
mod variant;

pub use count::*;
pub use foreign_rule::*;
pub use parse::*;
pub use rule::*;
pub use trace::*;
pub use variant::*;
