//! Waits until no other agent runs in this network namespace: two would undo each other's rules.

use crate::kernel::Lock;
use crate::observe::Health;
use anyhow::{Context, Result};
use std::time::Duration;

/// The check of /readyz that fails while another agent runs.
const CHECK: &str = "only-agent";
/// The time between two attempts. The rules in force stay in force meanwhile.
const EVERY: Duration = Duration::from_millis(100);

/// Takes the lock as soon as it is free. Until then the agent is alive, not ready, and writes nothing.
///
/// # Errors
/// The lock cannot be taken, for another reason than another agent.
pub(super) async fn lock(health: &Health) -> Result<Lock> {
    let mut waiting = false;
    loop {
        health.beat();
        if let Some(lock) = Lock::take().context("cannot take the lock of this network namespace")? {
            health.set_check(CHECK, Ok(()));
            if waiting {
                tracing::info!("the other agent has exited; this one starts");
            }
            return Ok(lock);
        }
        if !waiting {
            let problem = format!(
                "another Bridgewarden agent runs in this network namespace: nothing is written until it has exited. \
                 To see it: {}",
                Lock::holder_command()
            );
            tracing::error!("{problem}");
            health.set_check(CHECK, Err(problem));
            waiting = true;
        }
        tokio::time::sleep(EVERY).await;
    }
}
