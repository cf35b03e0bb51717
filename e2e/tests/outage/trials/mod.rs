//! The trials. Each starts its own agents, and leaves the cluster in its last state.

pub(crate) mod cut;
pub(crate) mod events;
pub(crate) mod killed;
pub(crate) mod no_text;
pub(crate) mod noticed;
pub(crate) mod partition;

use std::time::Duration;

/// The deadline for enforcing changes once the API server can be reached again.
pub(crate) const PROMISED: Duration = Duration::from_secs(5);
