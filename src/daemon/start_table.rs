//! Denies all traffic of pods until the agent has written or found rules, if the kernel has none.

use crate::compile::UnknownPods;
use crate::controller::Controller;
use crate::kernel::StartTable;
use crate::netfilter::BackendName;
use crate::observe::Health;
use crate::render::{Binding, Options, nftables};
use tokio::sync::oneshot;

/// The check of /readyz that fails while the table is there.
const CHECK: &str = "start";
const DENIES: &str = "the kernel has no rules: all traffic of pods is denied until rules are in force";

/// Creates the table if it is needed and possible. An earlier run is recognised by its tables of nf_tables, so these options must have
/// one.
pub(super) fn create(options: &Options, unknown_pods: UnknownPods, health: &Health) -> Option<StartTable> {
    let has_tables = options.backend == BackendName::Nftables || options.binding == Binding::Ports;
    if unknown_pods != UnknownPods::Reject || !has_tables {
        return None;
    }
    match StartTable::create(&nftables::start_table(&options.bridge)) {
        Ok(table) => {
            if table.is_some() {
                tracing::info!("{DENIES}");
                health.set_check(CHECK, Err(DENIES.to_owned()));
            }
            table
        }
        Err(error) => {
            tracing::info!(%error, "pods are not protected before the agent has read the kernel");
            None
        }
    }
}

/// Removes the table once the start is over, or the controller has ended. A thread does it, because the kernel takes some milliseconds.
/// The agent is not ready before.
pub(super) fn remove_after_start(table: StartTable, controller: &mut Controller, health: Health) {
    let (sender, over) = oneshot::channel();
    controller.report_end_of_start(sender);
    tokio::task::spawn_blocking(move || {
        over.blocking_recv().ok();
        if let Err(error) = table.remove() {
            tracing::warn!(%error, "the table of the start goes with its socket");
        }
        health.set_check(CHECK, Ok(()));
    });
}
