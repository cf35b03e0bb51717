//! The language of iptables: typed rules, their text, the way back from text, and what a packet meets on its way.

mod parse;
mod rule;
mod text;
mod trace;

pub use parse::*;
pub use rule::*;
pub use trace::*;
