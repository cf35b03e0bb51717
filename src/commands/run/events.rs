//! What of policies cannot be enforced, and what was denied, told to authors as Events.

use crate::compile::Shortfall;
use crate::flow::{Reason, Record};
use crate::net::Family;
use crate::observe::{EventWriter, Regarding, Seldom, Warning, Warnings};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
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

/// How many denied flows may wait for their Events.
const WAITING: usize = 16;

/// A way for denied flows to who writes Events of them, if they are wanted.
pub(super) fn denied(wanted: bool) -> (Option<mpsc::Sender<Record>>, Option<mpsc::Receiver<Record>>) {
    let (tell, told) = mpsc::channel(WAITING);
    if wanted { (Some(tell), Some(told)) } else { (None, None) }
}

/// Writes an Event of the pod that refused a flow, seldom for each. One that cannot be written is not tried again: the
/// next denied flow will be.
pub(super) async fn write_denied(writer: EventWriter, mut denied: mpsc::Receiver<Record>) {
    let mut seldom = Seldom::default();
    while let Some(record) = denied.recv().await {
        let Some(warning) = denied_warning(&record) else { continue };
        if !seldom.may_tell(&warning, Instant::now()) {
            continue;
        }
        if let Err(error) = writer.write(&warning).await {
            seldom.forget(&warning);
            tracing::debug!(%error, pod = warning.name, "cannot write an Event of a denied flow");
        }
    }
}

fn denied_warning(record: &Record) -> Option<Warning> {
    let account = &record.account;
    let refuser = account.refuser();
    let refused = matches!(account.reason, Reason::NoRuleAllows | Reason::OwnNode);
    // A pod that is not known yet has no object that an Event could be about.
    let (namespace, name) = refuser.namespace.clone().zip(refuser.pod.clone()).filter(|_| refused)?;
    let port = account.port.map(|port| format!("{port}/")).unwrap_or_default();
    let (source, destination, protocol) = (&account.source, &account.destination, &account.protocol);
    Some(Warning {
        regarding: Regarding::Pod,
        namespace,
        name,
        uid: account.uid.clone(),
        reason: "FlowDenied",
        note: format!(
            "{} refused {source} ({}) -> {destination} ({}) {port}{protocol}: {}. All of them: bridgewarden flows",
            account.direction,
            source.address,
            destination.address,
            account.why()
        ),
    })
}

fn warning(shortfall: &Shortfall) -> Warning {
    Warning {
        regarding: Regarding::NetworkPolicy,
        namespace: shortfall.policy.namespace.to_string(),
        name: shortfall.policy.name.to_string(),
        uid: shortfall.uid.as_deref().map(str::to_owned),
        reason: shortfall.reason.word(),
        note: shortfall.note.clone(),
    }
}
