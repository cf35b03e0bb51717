//! Denied flows: packets that were refused, gathered so that people can read them.
//!
//! Comes in: the first bytes of refused packets, and the time, as it passes. Goes out: `DeniedFlow`, each once in a while with a
//! count, and `Record`, the report of one. This room knows neither policies nor the kernel, and nothing that is
//! sent through the network can make it grow beyond its bounds.

mod aggregate;
mod budget;
mod packet;
mod party;
mod record;
mod ring;
mod turns;

pub use aggregate::*;
pub use budget::*;
pub use packet::*;
pub use party::Party;
pub use record::*;
pub use ring::*;
pub use turns::*;
