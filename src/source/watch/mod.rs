//! The Kubernetes API as a source of changes: each resource listed once and then watched.
//!
//! Every server's own way is taken: a streaming list where it has them, a paged list where it does not. A watch that
//! breaks is taken up where it ended; only a server that has forgotten that point (410) is asked for everything again,
//! and what it no longer lists is gone. While the server cannot be reached nothing is told, and so nothing changes.
//!
//! An object that cannot be read is its own trouble alone: it is reported, and the watch goes on.

mod client;
mod heard;
mod hedged;
mod in_json;
mod in_protobuf;
mod known;
mod object;
mod patience;
mod protobuf;
mod resource;
mod retry;

pub use client::{ConnectError, connect};
pub use heard::Heard;
pub use resource::Resource;

use super::convert::key::Key;
use crate::model::Change;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use known::{Known, Told};
use kube::Client;
use kube::runtime::watcher::Error;
use resource::Listing;
use retry::{Failure, Retry};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many changes are told together at most, so that a long list does not have to be in memory at once.
const BATCH: usize = 256;

/// How a resource is listed before it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchList {
    /// By a streaming list, or by pages if the server refuses that.
    #[default]
    Auto,
    /// By a streaming list (`sendInitialEvents`).
    On,
    /// By pages.
    Off,
}

/// What a watch brought.
#[derive(Debug)]
pub struct News {
    /// What is different from what was told before.
    pub changes: Vec<Change>,
    /// When its bytes were read.
    pub seen: Instant,
    /// Whether a list ended with this news.
    pub listed: bool,
    /// The objects that turned out to be unreadable, or in another way than before.
    pub unreadable: Vec<Unreadable>,
}

/// An object that cannot be read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which one, such as `Pod shop/web`.
    pub object: String,
    /// What is wrong with it.
    pub fault: String,
}

/// Why a watch has to wait, and for how long.
#[derive(Debug)]
pub struct Trouble {
    /// What went wrong, in words.
    pub error: String,
    /// `unreachable`, or `refused` by a server that answered.
    pub reason: &'static str,
    /// After which time to ask again.
    pub wait: Duration,
}

impl Trouble {
    /// Every reason that there may be.
    pub const REASONS: [&str; 2] = [Failure::Unreachable.word(), Failure::Refused.word()];

    /// When to ask again, if the server was asked at `asked` and this came of it at `now`. Waiting for an answer that never
    /// came was waiting, too; a server that answered is left alone for the whole time.
    pub fn ask_again(&self, asked: Instant, now: Instant) -> Instant {
        if self.reason == Failure::Unreachable.word() { now.max(asked + self.wait) } else { now + self.wait }
    }
}

/// A watch of one resource.
pub struct Watch {
    client: Client,
    resource: Resource,
    list: WatchList,
    heard: Heard,
    known: Known,
    retry: Retry,
    events: BoxStream<'static, Result<Told, Error>>,
    /// An error that came behind news.
    owed: Option<Error>,
    /// The objects that cannot be read, and why.
    unreadable: BTreeMap<Key, String>,
}

impl Watch {
    /// A watch that has asked for nothing yet.
    pub fn new(client: &Client, resource: Resource, list: WatchList, heard: Heard) -> Watch {
        let streaming = list != WatchList::Off;
        Watch {
            client: client.clone(),
            resource,
            list,
            heard,
            known: Known::default(),
            retry: Retry::default(),
            events: resource.events(client, Listing::streamed(streaming)),
            owed: None,
            unreadable: BTreeMap::new(),
        }
    }

    /// The objects that cannot be read at present.
    pub fn unreadable(&self) -> impl ExactSizeIterator<Item = Unreadable> {
        self.unreadable
            .iter()
            .map(|(key, fault)| Unreadable { object: key.to_string(), fault: fault.clone() })
    }

    /// Which resource it watches.
    pub fn resource(&self) -> Resource {
        self.resource
    }

    /// Waits for news. On trouble the caller waits for as long as it says, and asks again.
    pub async fn next(&mut self) -> Result<News, Trouble> {
        let (mut changes, mut unreadable) = (Vec::new(), Vec::new());
        loop {
            let event = match self.owed.take() {
                Some(error) => Err(error),
                None => self.events.next().await.unwrap_or(Err(Error::NoResourceVersion)),
            };
            let mut listed = match event {
                Ok(told) => self.take_in(told, &mut changes, &mut unreadable),
                Err(error) if is_unread_event(&error) => {
                    self.heard.lose(self.resource);
                    continue;
                }
                Err(error) => {
                    self.look_into(error)?;
                    continue;
                }
            };
            let seen = self.heard.last(self.resource).unwrap_or_else(Instant::now);
            // What has arrived already is told together.
            while !listed && changes.len() < BATCH {
                match self.events.next().now_or_never().flatten() {
                    Some(Ok(told)) => listed = self.take_in(told, &mut changes, &mut unreadable),
                    Some(Err(error)) => {
                        self.owed = Some(error);
                        break;
                    }
                    None => break,
                }
            }
            if listed || !changes.is_empty() {
                return Ok(News { changes, seen, listed, unreadable });
            }
        }
    }

    /// Takes in an event; says whether it ended a list.
    fn take_in(&mut self, told: Told, changes: &mut Vec<Change>, unreadable: &mut Vec<Unreadable>) -> bool {
        match &told {
            // A paged list begins before the server was asked for anything.
            Told::ListBegins => {}
            Told::Lost => self.heard.lose(self.resource),
            Told::Is(_) | Told::Unreadable(..) | Told::Gone(_) | Told::ListEnds => {
                self.retry.succeeded();
                self.heard.understand(self.resource, Instant::now());
            }
        }
        match &told {
            Told::Unreadable(change, fault) => {
                let key = Key::of(change);
                if self.unreadable.get(&key) != Some(fault) {
                    unreadable.push(Unreadable { object: key.to_string(), fault: fault.clone() });
                    self.unreadable.insert(key, fault.clone());
                }
            }
            Told::Is(change) if !self.unreadable.is_empty() => drop(self.unreadable.remove(&Key::of(change))),
            Told::Gone(key) => drop(self.unreadable.remove(key)),
            Told::Is(_) | Told::ListBegins | Told::Lost | Told::ListEnds => {}
        }
        let listed = matches!(told, Told::ListEnds);
        self.known.take_in(told, changes);
        if listed {
            self.unreadable.retain(|key, _| self.known.has(key));
        }
        listed
    }

    /// Finds out what to do about an error: go on in another way at once, or wait.
    fn look_into(&mut self, error: Error) -> Result<(), Trouble> {
        let status = status(&error);
        let streaming_is_refused = self.list == WatchList::Auto
            && matches!(error, Error::WatchStartFailed(_) | Error::WatchError(_))
            && !self.known.is_listed()
            && matches!(status, Some(400 | 422));
        if streaming_is_refused {
            self.list = WatchList::Off;
            self.events = self.resource.events(&self.client, Listing::Paged);
            return Ok(());
        }
        if status == Some(410) {
            self.events = self.resource.events(&self.client, Listing::streamed(self.list != WatchList::Off));
        }
        let failure = if status.is_some() { Failure::Refused } else { Failure::Unreachable };
        let wait = self.retry.failed(failure, fastrand::f64());
        Err(Trouble { error: words(&error), reason: failure.word(), wait })
    }
}

/// Whether one event could not be read, and the watch goes on. kube takes whatever has no type that it knows for a refusal, which
/// then has no code.
fn is_unread_event(error: &Error) -> bool {
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

/// The HTTP status of a server that answered.
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

/// An error with what caused it, each part once.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = inner.source();
    }
    words
}
