//! What of policies cannot be enforced, and what was denied, told to authors as Events.

use crate::compile::Shortfall;
use crate::flow::{Reason, Record, Turns};
use crate::net::Family;
use crate::observe::{EventWriter, Regarding, Seldom, Warning, Warnings};
use std::path::Path;
use std::pin::Pin;
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
                            tracing::debug!(%error, policy = warning.name, "cannot write an Event; the agent tries again");
                        }
                    }
                }
            }
        }
    }
}

/// How many denied flows may wait for their Events.
const WAITING: usize = 16;

/// How many Events of denied flows may wait to be written.
const UNWRITTEN: usize = 256;

/// A way for denied flows to who writes Events of them, if they are wanted.
pub(super) fn denied(wanted: bool) -> (Option<mpsc::Sender<Record>>, Option<mpsc::Receiver<Record>>) {
    let (tell, told) = mpsc::channel(WAITING);
    if wanted { (Some(tell), Some(told)) } else { (None, None) }
}

/// Writes Events of the pods that refused flows, seldom for each, and of one namespace after the other. One that cannot be
/// written is not tried again: the next denied flow will be.
pub(super) async fn write_denied(writer: EventWriter, mut denied: mpsc::Receiver<Record>) {
    let (mut seldom, mut turns) = (Seldom::default(), Turns::new(UNWRITTEN));
    let mut writing: Option<Pin<Box<dyn Future<Output = Option<Warning>> + Send>>> = None;
    loop {
        if writing.is_none() {
            writing = turns.pop().map(|warning| -> Pin<Box<dyn Future<Output = _> + Send>> {
                Box::pin(write_one(writer.clone(), warning))
            });
        }
        tokio::select! {
            record = denied.recv() => {
                let Some(record) = record else { return };
                if let Some(warning) = denied_warning(&record)
                    && seldom.may_tell(&warning, Instant::now())
                    && !turns.push(warning.namespace.clone(), warning.clone())
                {
                    seldom.forget(&warning);
                }
            }
            failed = written(&mut writing) => {
                writing = None;
                failed.iter().for_each(|warning| seldom.forget(warning));
            }
        }
    }
}

/// Writes a warning, and gives it back if that failed.
async fn write_one(writer: EventWriter, warning: Warning) -> Option<Warning> {
    let error = writer.write(&warning).await.err()?;
    tracing::debug!(%error, pod = warning.name, "cannot write an Event of a denied flow");
    Some(warning)
}

async fn written(
    writing: &mut Option<Pin<Box<dyn Future<Output = Option<Warning>> + Send>>>,
) -> Option<Warning> {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
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
