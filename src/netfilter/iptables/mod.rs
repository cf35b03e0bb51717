//! The language of iptables: typed rules, their text, the way back from text, and what a packet meets on its way.

mod rule;

pub use rule::*;
