//! The Kubernetes API as a source of changes: each resource is listed once and then watched.
//!
//! A resource is listed by a streaming list if the server supports it, or else by pages. A watch that breaks resumes
//! where it ended. Only if the server no longer has that version (410), everything is listed again, and objects missing
//! from that list are deleted. While the server cannot be reached, nothing is reported, and so nothing changes.
//!
//! An object that cannot be read affects no other: it is reported, and the watch continues.

mod backoff;
mod client;
mod event;
mod hedged;
mod idle_timeout;
mod in_json;
mod in_protobuf;
mod known_objects;
mod liveness;
mod object;
mod protobuf;
mod resource;

pub use client::{ConnectError, connect};
pub use liveness::Liveness;
pub use resource::Resource;

use super::convert::object_key::ObjectKey;
use crate::causes::with_causes;
use crate::model::{Change, UnreadablePod};
use backoff::{WatchBackoff, WatchFailure};
use event::WatchEvent;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use known_objects::KnownObjects;
use kube::Client;
use kube::runtime::watcher::Error;
use resource::Listing;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The most changes in one update, so that a long list does not have to be in memory at once.
const BATCH: usize = 256;

/// How a resource is listed before it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchList {
    /// By a streaming list, or by pages if the server rejects that.
    #[default]
    Auto,
    /// By a streaming list (`sendInitialEvents`).
    On,
    /// By pages.
    Off,
}

/// What a watch has received.
#[derive(Debug)]
pub struct WatchUpdate {
    /// What has changed since the last update.
    pub changes: Vec<Change>,
    /// When its bytes arrived.
    pub seen: Instant,
    /// Whether a list completed with this update.
    pub listed: bool,
    /// The objects that became unreadable, or are unreadable for another reason than before.
    pub unreadable: Vec<UnreadableObject>,
}

/// An object that cannot be read completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableObject {
    /// Its kind and name, such as `Pod shop/web`.
    pub object: String,
    /// What is wrong with it.
    pub fault: String,
    /// What is certain of it, if it is a pod.
    pub pod: Option<UnreadablePod>,
}

/// Why a watch failed, and how long to wait before it tries again.
#[derive(Debug)]
pub struct WatchTrouble {
    /// The error and its causes.
    pub error: String,
    /// `unreachable`, or `refused` if a server rejected the request.
    pub reason: &'static str,
    /// How long to wait.
    pub wait: Duration,
}

impl WatchTrouble {
    /// Every possible reason.
    pub const REASONS: [&str; 2] = [WatchFailure::Unreachable.word(), WatchFailure::Refused.word()];

    /// When to try again, if the request that was sent at `asked` failed at `now`. The time spent waiting for a
    /// response counts, unless the server responded: then the whole wait begins at `now`.
    pub fn retry_at(&self, asked: Instant, now: Instant) -> Instant {
        if self.reason == WatchFailure::Unreachable.word() {
            now.max(asked + self.wait)
        } else {
            now + self.wait
        }
    }
}

/// A watch of one resource.
pub struct Watch {
    client: Client,
    resource: Resource,
    list: WatchList,
    liveness: Liveness,
    known: KnownObjects,
    backoff: WatchBackoff,
    events: BoxStream<'static, Result<WatchEvent, Error>>,
    /// An error that arrived after events, which are reported first.
    pending_error: Option<Error>,
    /// The objects that cannot be read, and why.
    unreadable: BTreeMap<ObjectKey, UnreadableObject>,
}

impl Watch {
    /// A watch that has sent no request yet.
    pub fn new(client: &Client, resource: Resource, list: WatchList, liveness: Liveness) -> Watch {
        let streaming = list != WatchList::Off;
        Watch {
            client: client.clone(),
            resource,
            list,
            liveness,
            known: KnownObjects::default(),
            backoff: WatchBackoff::default(),
            events: resource.events(client, Listing::streamed(streaming)),
            pending_error: None,
            unreadable: BTreeMap::new(),
        }
    }

    /// The objects that cannot be read at present.
    pub fn unreadable(&self) -> impl ExactSizeIterator<Item = &UnreadableObject> {
        self.unreadable.values()
    }

    /// Which resource it watches.
    pub fn resource(&self) -> Resource {
        self.resource
    }

    /// Waits for an update. After an error, the caller must wait for the time in the error before it calls again.
    pub async fn next(&mut self) -> Result<WatchUpdate, WatchTrouble> {
        let (mut changes, mut unreadable) = (Vec::new(), Vec::new());
        loop {
            let event = match self.pending_error.take() {
                Some(error) => Err(error),
                None => self.events.next().await.unwrap_or(Err(Error::NoResourceVersion)),
            };
            let mut listed = match event {
                Ok(event) => self.apply(event, &mut changes, &mut unreadable),
                Err(error) if is_unreadable_event(&error) => {
                    self.liveness.record_unreadable(self.resource);
                    continue;
                }
                Err(error) => {
                    self.on_error(error)?;
                    continue;
                }
            };
            let seen = self.liveness.last_bytes(self.resource).unwrap_or_else(Instant::now);
            // Events that have already arrived are added to the same update.
            while !listed && changes.len() < BATCH {
                match self.events.next().now_or_never().flatten() {
                    Some(Ok(event)) => listed = self.apply(event, &mut changes, &mut unreadable),
                    Some(Err(error)) => {
                        self.pending_error = Some(error);
                        break;
                    }
                    None => break,
                }
            }
            if listed || !changes.is_empty() {
                return Ok(WatchUpdate { changes, seen, listed, unreadable });
            }
        }
    }

    /// Applies an event; returns whether it completed a list.
    fn apply(
        &mut self,
        event: WatchEvent,
        changes: &mut Vec<Change>,
        unreadable: &mut Vec<UnreadableObject>,
    ) -> bool {
        match &event {
            // A paged list begins before the first request.
            WatchEvent::ListStarted => {}
            WatchEvent::Unidentified => self.liveness.record_unreadable(self.resource),
            WatchEvent::Applied(_)
            | WatchEvent::Unreadable(..)
            | WatchEvent::Deleted(_)
            | WatchEvent::ListCompleted => {
                self.backoff.succeeded();
                self.liveness.record_decoded(self.resource, Instant::now());
            }
        }
        match &event {
            WatchEvent::Unreadable(change, fault) => {
                let key = ObjectKey::of(change);
                let pod = if let Change::PodUnreadable(pod) = &**change { Some(pod.clone()) } else { None };
                let own = UnreadableObject { object: key.to_string(), fault: fault.clone(), pod };
                let old = self.unreadable.insert(key, own.clone());
                if old.is_none_or(|old| old.fault != own.fault) {
                    unreadable.push(own);
                }
            }
            WatchEvent::Applied(change) if !self.unreadable.is_empty() => {
                drop(self.unreadable.remove(&ObjectKey::of(change)))
            }
            WatchEvent::Deleted(key) => drop(self.unreadable.remove(key)),
            WatchEvent::Applied(_)
            | WatchEvent::ListStarted
            | WatchEvent::Unidentified
            | WatchEvent::ListCompleted => {}
        }
        let listed = matches!(event, WatchEvent::ListCompleted);
        self.known.apply(event, changes);
        if listed {
            self.unreadable.retain(|key, _| self.known.has(key));
        }
        listed
    }

    /// Decides how to handle an error: continue in another way at once, or wait.
    fn on_error(&mut self, error: Error) -> Result<(), WatchTrouble> {
        let status = status(&error);
        let streaming_is_rejected = self.list == WatchList::Auto
            && matches!(error, Error::WatchStartFailed(_) | Error::WatchError(_))
            && !self.known.is_listed()
            && matches!(status, Some(400 | 422));
        if streaming_is_rejected {
            self.list = WatchList::Off;
            self.events = self.resource.events(&self.client, Listing::Paged);
            return Ok(());
        }
        if status == Some(410) {
            self.events = self.resource.events(&self.client, Listing::streamed(self.list != WatchList::Off));
        }
        let failure = if status.is_some() { WatchFailure::Refused } else { WatchFailure::Unreachable };
        let wait = self.backoff.failed(failure, fastrand::f64());
        Err(WatchTrouble { error: with_causes(&error), reason: failure.word(), wait })
    }
}

/// Whether a single event could not be read, so that the watch continues. kube reads an event of an unknown type as a
/// status, which then has no code.
fn is_unreadable_event(error: &Error) -> bool {
    match error {
        Error::WatchFailed(kube::Error::SerdeError(_)) => true,
        Error::WatchFailed(kube::Error::Api(status)) => status.code == 0,
        Error::WatchFailed(_)
        | Error::WatchStartFailed(_)
        | Error::WatchError(_)
        | Error::InitialListFailed(_)
        | Error::NoResourceVersion => false,
    }
}

/// The HTTP status, if the server responded.
fn status(error: &Error) -> Option<u16> {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        Error::WatchError(status) => Some(status.code),
        Error::InitialListFailed(_)
        | Error::WatchStartFailed(_)
        | Error::WatchFailed(_)
        | Error::NoResourceVersion => None,
    }
}
