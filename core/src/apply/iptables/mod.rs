//! Keeps iptables and ipset equal to what was rendered, although they are separate transactions: what the kernel holds, the
//! order of the steps, and what may be written beside them.

mod applier;
mod concurrent_edits;
mod table_edit;
mod transaction;

pub use applier::*;
pub use concurrent_edits::*;
use table_edit::FilterTableEdit;
pub use table_edit::removal;
