//! The language of iptables: typed rules, their text, the way back from text, and what a packet meets on its way.

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
