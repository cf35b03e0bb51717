//! Denied flows: denied packets, aggregated for people to read.
//!
//! Comes in: the first bytes of denied packets, and the time. Goes out: `DeniedFlow`, reported with a count now and
//! then, and `Record`, the report of one. This room knows neither policies nor the kernel, and no traffic on the
//! network can make it grow beyond its bounds.

mod aggregate;
mod budget;
mod live_flow;
mod packet;
mod party;
mod place;
mod record;
mod ring;
mod turns;

pub use aggregate::*;
pub use budget::*;
pub use live_flow::*;
pub use packet::*;
pub use party::Party;
pub use place::*;
pub use record::*;
pub use ring::*;
pub use turns::*;
