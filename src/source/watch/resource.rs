//! The three resources that are watched, and how each is read.

use super::known::Told;
use super::object::{Listed, Object};
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

    /// What is remarked of those of its objects that cannot be read.
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

    /// What a server tells, from a list on.
    pub(super) fn events(self, client: &Client, listing: Listing) -> BoxStream<'static, Result<Told, Error>> {
        match self {
            Resource::Namespaces => events::<api::Namespace>(client, listing),
            Resource::NetworkPolicies => events::<api::NetworkPolicy>(client, listing),
            Resource::Pods => events::<api::Pod>(client, listing),
        }
    }
}

/// How a list is asked for.
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

fn events<T: Listed>(client: &Client, listing: Listing) -> BoxStream<'static, Result<Told, Error>> {
    let config = match listing {
        Listing::Streamed => watcher::Config::default().streaming_lists(),
        Listing::Paged => watcher::Config::default().page_size(PAGE),
    };
    let events = watcher::watcher(Api::<Object<T>>::all(client.clone()), config);
    events.map(|event| event.map(told)).boxed()
}

fn told<T: Listed>(event: Event<Object<T>>) -> Told {
    match event {
        Event::Init => Told::ListBegins,
        Event::InitApply(object) | Event::Apply(object) => object.told(),
        Event::Delete(object) => object.gone(),
        Event::InitDone => Told::ListEnds,
    }
}
