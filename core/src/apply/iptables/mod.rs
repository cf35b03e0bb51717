//! Keeps iptables and ipset equal to the rendered rules, although they are separate transactions: what the kernel
//! holds, the order of the steps, and what may be written concurrently with them.

mod applier;
mod concurrent_edits;
mod table_edit;
mod transaction;

pub use applier::*;
pub use concurrent_edits::*;
use table_edit::FilterTableEdit;
pub use table_edit::removal;
