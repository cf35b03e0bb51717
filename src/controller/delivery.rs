//! How sources deliver facts to the loop.

use crate::model::Change;
use std::time::Instant;

/// Facts from a source, as they were seen together.
#[derive(Debug)]
pub struct Delivery {
    /// The facts, in order.
    pub changes: Vec<Change>,
    /// When they were seen.
    pub seen: Instant,
    /// Whether the source has now delivered its first complete list.
    pub complete: bool,
}
