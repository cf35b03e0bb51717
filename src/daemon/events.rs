//! Events about parts of policies that cannot be enforced, and about denied flows.

use crate::compile::Shortfall;
use crate::flow::{FlowVerdict, Reason, Record, Turns};
use crate::model::{Direction, UnreadablePod};
use crate::net::Family;
use crate::observe::{EventLimiter, EventWriter, Regarding, WOULD_BE_DENIED, Warning, Warnings};
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::interval;

/// How often due warnings are written; one that could not be written is tried again then.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The families of this node's kernel. Without IPv6 the file does not exist.
pub(super) fn families() -> Vec<Family> {
    let has_v6 = Path::new("/proc/net/if_inet6").exists();
    Family::BOTH.into_iter().filter(|family| has_v6 || *family == Family::V4).collect()
}

/// Writes warnings about shortfalls and about pods that cannot be read, until the sender of either is dropped.
pub(super) async fn write(
    writer: EventWriter,
    mut shortfalls: watch::Receiver<Vec<Shortfall>>,
    mut unreadable_pods: watch::Receiver<Vec<Warning>>,
) {
    let mut warnings = Warnings::default();
    let mut tick = interval(CHECK_INTERVAL);
    loop {
        let changed = async {
            tokio::select! {
                changed = shortfalls.changed() => changed,
                changed = unreadable_pods.changed() => changed,
            }
        };
        tokio::select! {
            changed = changed => {
                if changed.is_err() {
                    return;
                }
                let mut current: Vec<Warning> = shortfalls.borrow_and_update().iter().map(warning).collect();
                current.extend(unreadable_pods.borrow_and_update().iter().cloned());
                warnings.hold(current, Instant::now());
            }
            _ = tick.tick() => {
                for warning in warnings.due(Instant::now()) {
                    match writer.write(&warning).await {
                        Ok(()) => warnings.written(&warning),
                        Err(error) => {
                            tracing::debug!(%error, policy = warning.name, "cannot write an Event; the agent tries again");
                        }
                    }
                }
            }
        }
    }
}

/// The reason of an Event on a pod whose connection the policies of its destination denied.
const DENIED_BY_DESTINATION: &str = "FlowDeniedByDestination";

/// How many denied flows may be queued.
const MAX_QUEUED: usize = 16;

/// How many Events about denied flows may wait to be written.
const MAX_UNWRITTEN: usize = 256;

/// A channel for denied flows to the writer of their Events, if Events are wanted.
pub(super) fn denied(wanted: bool) -> (Option<mpsc::Sender<Record>>, Option<mpsc::Receiver<Record>>) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    if wanted { (Some(sender), Some(receiver)) } else { (None, None) }
}

/// Writes Events on pods that denied a flow, and on pods that sent it, rarely for each pod, and for each namespace in turn. An Event
/// that cannot be written is not tried again; the next denied flow is.
pub(super) async fn write_denied(writer: EventWriter, mut denied: mpsc::Receiver<Record>) {
    let (mut limiter, mut turns) = (EventLimiter::default(), Turns::new(MAX_UNWRITTEN));
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
                for warning in denied_warning(&record).into_iter().chain(sender_warning(&record)) {
                    if limiter.allows(&warning, Instant::now())
                        && !turns.push(warning.namespace.clone(), warning.clone())
                    {
                        limiter.not_written(&warning);
                    }
                }
            }
            failed = written(&mut writing) => {
                writing = None;
                failed.iter().for_each(|warning| limiter.not_written(warning));
            }
        }
    }
}

/// Writes a warning, and returns it if that failed. Each node whose pods deny a sender warns of the same.
async fn write_one(writer: EventWriter, warning: Warning) -> Option<Warning> {
    let written = match warning.reason {
        DENIED_BY_DESTINATION => writer.write_with_others(&warning).await,
        _ => writer.write(&warning).await,
    };
    let error = written.err()?;
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
    let denier = account.refuser();
    let by_policy = matches!(account.reason, Reason::NoRuleAllows | Reason::OwnNode);
    // A pod that is not known yet has no object that an Event could be about.
    let (namespace, name) = denier.namespace.clone().zip(denier.pod.clone()).filter(|_| by_policy)?;
    let port = account.port.map(|port| format!("{port}/")).unwrap_or_default();
    let (source, destination, protocol) = (&account.source, &account.destination, &account.protocol);
    let denied = match account.verdict {
        FlowVerdict::Denied => "denied",
        FlowVerdict::WouldBeDenied => "would have denied",
    };
    Some(Warning {
        regarding: Regarding::Pod,
        namespace,
        name,
        uid: account.uid.clone(),
        reason: match account.verdict {
            FlowVerdict::Denied => "FlowDenied",
            FlowVerdict::WouldBeDenied => WOULD_BE_DENIED,
        },
        note: format!(
            "{} {denied} {source} ({}) -> {destination} ({}) {port}{protocol}: {}. All of them: bridgewarden flows",
            account.direction,
            source.address,
            destination.address,
            account.why()
        ),
    })
}

/// The warning of the sender, whose owners see nothing of the destination's Events. It says what the sender knows, and nothing of the
/// other namespace's policies and pods.
fn sender_warning(record: &Record) -> Option<Warning> {
    let account = &record.account;
    let is_by_destination = account.direction == Direction::Ingress
        && account.verdict == FlowVerdict::Denied
        && account.reason == Reason::NoRuleAllows;
    let (namespace, name) =
        account.source.namespace.clone().zip(account.source.pod.clone()).filter(|_| is_by_destination)?;
    let port = account.port.map(|port| format!("port {port}/")).unwrap_or_default();
    Some(Warning {
        regarding: Regarding::Pod,
        note: format!(
            "no NetworkPolicy of the destination allows this pod to reach {} {port}{}. Who may read the policies there sees why: \
             bridgewarden explain {namespace}/{name} {}",
            account.destination.address, account.protocol, account.destination.address
        ),
        namespace,
        name,
        uid: None,
        reason: DENIED_BY_DESTINATION,
    })
}

/// The warning about a pod that cannot be read.
pub(super) fn unreadable_warning(pod: &UnreadablePod, fault: &str, consequence: &str) -> Warning {
    Warning {
        regarding: Regarding::Pod,
        namespace: pod.key.namespace.to_string(),
        name: pod.key.name.to_string(),
        uid: pod.uid.as_deref().map(str::to_owned),
        reason: "PodNotUnderstood",
        note: format!("the pod cannot be read: {fault}; {consequence}. Correct or delete it"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Account, FlowEnd};

    fn denied(direction: Direction) -> Record {
        let end = |namespace: &str, pod: &str, host: u8| FlowEnd {
            address: [10, 244, 1, host].into(),
            namespace: Some(namespace.to_owned()),
            pod: Some(pod.to_owned()),
            owner: None,
        };
        let account = Account {
            verdict: FlowVerdict::Denied,
            direction,
            source: end("shop", "client", 1),
            destination: end("bank", "vault", 2),
            protocol: "TCP".to_owned(),
            port: Some(443),
            reason: Reason::NoRuleAllows,
            policies: vec!["bank/locked".to_owned()],
            nearest: None,
            bridge_port: None,
            uid: None,
        };
        let time = "2026-01-02T03:04:05.678Z".to_owned();
        Record { number: 0, time: time.clone(), last: time, count: 1, node: "node-a".into(), account }
    }

    #[test]
    fn event_on_the_sender_names_the_address_and_nothing_of_the_other_namespace() {
        let warning = sender_warning(&denied(Direction::Ingress)).unwrap();
        assert_eq!((&*warning.namespace, &*warning.name), ("shop", "client"));
        assert!(warning.note.contains("to reach 10.244.1.2 port 443/TCP"), "{}", warning.note);
        assert!(
            !["bank", "vault", "locked"].iter().any(|word| warning.note.contains(word)),
            "{}",
            warning.note
        );
    }

    #[test]
    fn sender_that_its_own_policies_deny_or_that_is_no_pod_gets_no_second_event() {
        assert_eq!(sender_warning(&denied(Direction::Egress)), None);
        let mut outside = denied(Direction::Ingress);
        outside.account.source.pod = None;
        assert_eq!(sender_warning(&outside), None);
        let mut audited = denied(Direction::Ingress);
        audited.account.verdict = FlowVerdict::WouldBeDenied;
        assert_eq!(sender_warning(&audited), None);
        let mut unknown = denied(Direction::Ingress);
        unknown.account.reason = Reason::PodNotYetKnown;
        assert_eq!(sender_warning(&unknown), None);
    }
}
