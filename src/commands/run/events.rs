//! What of policies cannot be enforced, told to their authors as Events.

use crate::compile::Shortfall;
use crate::net::Family;
use crate::observe::{EventWriter, Warning, Warnings};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::interval;

/// How often is looked whether a warning is due; one that could not be written is tried again then.
const EVERY: Duration = Duration::from_secs(10);

/// The families that this node's kernel has. Without IPv6 there is no such file.
pub(super) fn families() -> Vec<Family> {
    let has_v6 = Path::new("/proc/net/if_inet6").exists();
    Family::BOTH.into_iter().filter(|family| has_v6 || *family == Family::V4).collect()
}

/// Writes warnings for as long as anybody tells of shortfalls.
pub(super) async fn write(writer: EventWriter, mut shortfalls: watch::Receiver<Vec<Shortfall>>) {
    let mut warnings = Warnings::default();
    let mut tick = interval(EVERY);
    loop {
        tokio::select! {
            changed = shortfalls.changed() => {
                if changed.is_err() {
                    return;
                }
                let current = shortfalls.borrow_and_update().iter().map(warning).collect();
                warnings.hold(current, Instant::now());
            }
            _ = tick.tick() => {
                for warning in warnings.due(Instant::now()) {
                    match writer.write(&warning).await {
                        Ok(()) => warnings.told(&warning),
                        Err(error) => {
                            tracing::debug!(%error, policy = warning.name, "cannot write an Event; it is tried again");
                        }
                    }
                }
            }
        }
    }
}

fn warning(shortfall: &Shortfall) -> Warning {
    Warning {
        namespace: shortfall.policy.namespace.to_string(),
        name: shortfall.policy.name.to_string(),
        uid: shortfall.uid.as_deref().map(str::to_owned),
        reason: shortfall.reason.word(),
        note: shortfall.note.clone(),
    }
}
