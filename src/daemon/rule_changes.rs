//! Notifies the controller when another program changes the packet filter.

use crate::apply::KernelError;
use crate::kernel::Host;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Has `notify` notified of changes by other programs, if this kernel reports them.
pub(super) fn watch(kernel: &mut Host, notify: Arc<Notify>, audit_interval: Duration) {
    let audit_interval_seconds = audit_interval.as_secs();
    let log_failure = move |error: KernelError| {
        tracing::error!(%error, audit_interval_seconds, "only audits will notice changes by other programs");
    };
    let on_change = move |read: Result<(), KernelError>| {
        read.unwrap_or_else(log_failure);
        notify.notify_one();
    };
    match kernel.report_external_changes(on_change) {
        Ok(true) => {}
        Ok(false) => tracing::info!(
            audit_interval_seconds,
            "iptables-legacy does not report changes: only audits will notice changes by other programs"
        ),
        Err(error) => log_failure(error),
    }
}
