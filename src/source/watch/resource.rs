//! The three watched resources, and how each is read.

use super::event::WatchEvent;
use super::object::{WatchedKind, WatchedObject};
use crate::api;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::watcher::{self, Error, Event};
use kube::{Api, Client};

/// How many objects a page of a list has.
const PAGE: u32 = 500;

/// A resource of the API that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// v1 Namespaces.
    Namespaces,
    /// networking.k8s.io/v1 NetworkPolicies.
    NetworkPolicies,
    /// v1 Pods.
    Pods,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 3] = [Resource::Namespaces, Resource::NetworkPolicies, Resource::Pods];

    /// Its name in the API's paths, in logs and in labels.
    pub fn word(self) -> &'static str {
        match self {
            Resource::Namespaces => "namespaces",
            Resource::NetworkPolicies => "networkpolicies",
            Resource::Pods => "pods",
        }
    }

    /// The key of `/readyz`'s remark about its objects that cannot be read.
    pub fn unreadable(self) -> &'static str {
        match self {
            Resource::Namespaces => "unreadable namespaces",
            Resource::NetworkPolicies => "unreadable networkpolicies",
            Resource::Pods => "unreadable pods",
        }
    }

    /// The resource that the path of a request ends with.
    pub(super) fn of_path(path: &str) -> Option<Resource> {
        let last = path.rsplit('/').next()?;
        Resource::ALL.into_iter().find(|resource| resource.word() == last)
    }

    /// The events of a list and the watch that follows it.
    pub(super) fn events(
        self,
        client: &Client,
        listing: Listing,
    ) -> BoxStream<'static, Result<WatchEvent, Error>> {
        match self {
            Resource::Namespaces => events::<api::Namespace>(client, listing),
            Resource::NetworkPolicies => events::<api::NetworkPolicy>(client, listing),
            Resource::Pods => events::<api::Pod>(client, listing),
        }
    }
}

/// How a list is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// As the beginning of a watch.
    Streamed,
    /// Page by page, before the watch.
    Paged,
}

impl Listing {
    pub(super) fn streamed(streamed: bool) -> Listing {
        if streamed { Listing::Streamed } else { Listing::Paged }
    }
}

fn events<T: WatchedKind>(
    client: &Client,
    listing: Listing,
) -> BoxStream<'static, Result<WatchEvent, Error>> {
    let config = match listing {
        Listing::Streamed => watcher::Config::default().streaming_lists(),
        Listing::Paged => watcher::Config::default().page_size(PAGE),
    };
    let events = watcher::watcher(Api::<WatchedObject<T>>::all(client.clone()), config);
    events.map(|event| event.map(watch_event)).boxed()
}

fn watch_event<T: WatchedKind>(event: Event<WatchedObject<T>>) -> WatchEvent {
    match event {
        Event::Init => WatchEvent::ListStarted,
        Event::InitApply(object) | Event::Apply(object) => object.applied(),
        Event::Delete(object) => object.deleted(),
        Event::InitDone => WatchEvent::ListCompleted,
    }
}
