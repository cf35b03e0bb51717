//! What is shown on the test. Each begins with agents of its own, and leaves the cluster as its change made it.

pub(crate) mod cut;
pub(crate) mod events;
pub(crate) mod killed;
pub(crate) mod no_text;
pub(crate) mod noticed;
pub(crate) mod partition;

use std::time::Duration;

/// How long it may take until a change is enforced, once the API server can be heard again.
pub(crate) const PROMISED: Duration = Duration::from_secs(5);
