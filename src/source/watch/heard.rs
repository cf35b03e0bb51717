//! When the API server was last heard, and when it was last understood: a layer between kube and the wire.
//!
//! kube's watches do not tell of bookmarks, nor that a connection is there again; the bytes of their answers do. But bytes prove
//! nothing: how old what is known may be counts from the last event, list or bookmark that could be read.

use super::Resource;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use http_body_util::combinators::MapFrame;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tower::{Layer, Service};

/// When each resource was last heard of. Clones share it.
#[derive(Clone, Debug)]
pub struct Heard {
    since: Instant,
    shared: Arc<[OfResource; Resource::ALL.len()]>,
}

/// What is noted of one resource. Times are microseconds after `since`; 0 is never.
#[derive(Debug, Default)]
struct OfResource {
    arrived: AtomicU64,
    understood: AtomicU64,
    lost: AtomicU64,
}

impl Heard {
    /// Nothing has been heard yet.
    pub fn new(now: Instant) -> Heard {
        Heard { since: now, shared: Arc::default() }
    }

    /// When bytes about a resource last arrived.
    pub fn last(&self, resource: Resource) -> Option<Instant> {
        self.time(&self.of(resource).arrived)
    }

    /// How old what is known of a resource may be at `now`: how long ago something about it was last understood.
    pub fn age(&self, resource: Resource, now: Instant) -> Duration {
        let understood = self.time(&self.of(resource).understood);
        now.saturating_duration_since(understood.unwrap_or(self.since))
    }

    /// How many events about a resource could not be read at all, not even which object they were about.
    pub fn lost(&self, resource: Resource) -> u64 {
        self.of(resource).lost.load(Ordering::Relaxed)
    }

    /// Whether something about every resource was understood.
    pub(super) fn has_understood_all(&self) -> bool {
        self.shared.iter().all(|of| of.understood.load(Ordering::Relaxed) > 0)
    }

    pub(super) fn understand(&self, resource: Resource, now: Instant) {
        self.note(&self.of(resource).understood, now);
    }

    pub(super) fn lose(&self, resource: Resource) {
        self.of(resource).lost.fetch_add(1, Ordering::Relaxed);
    }

    fn hear(&self, resource: Resource, now: Instant) {
        self.note(&self.of(resource).arrived, now);
    }

    fn time(&self, noted: &AtomicU64) -> Option<Instant> {
        match noted.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(self.since + Duration::from_micros(micros)),
        }
    }

    fn note(&self, to: &AtomicU64, now: Instant) {
        let micros = now.saturating_duration_since(self.since).as_micros().max(1);
        to.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn of(&self, resource: Resource) -> &OfResource {
        let [namespaces, policies, pods] = &*self.shared;
        match resource {
            Resource::Namespaces => namespaces,
            Resource::NetworkPolicies => policies,
            Resource::Pods => pods,
        }
    }
}

impl<S> Layer<S> for Heard {
    type Service = Listening<S>;

    fn layer(&self, inner: S) -> Listening<S> {
        Listening { inner, heard: self.clone() }
    }
}

/// A service that is listened to.
#[derive(Clone, Debug)]
pub struct Listening<S> {
    inner: S,
    heard: Heard,
}

type OnFrame = Box<dyn FnMut(Frame<Bytes>) -> Frame<Bytes> + Send + Sync>;
type Answer<S, A, B> = Pin<
    Box<
        dyn Future<Output = Result<Response<MapFrame<B, OnFrame>>, <S as Service<Request<A>>>::Error>> + Send,
    >,
>;

impl<S, A, B> Service<Request<A>> for Listening<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + 'static,
{
    type Response = Response<MapFrame<B, OnFrame>>;
    type Error = S::Error;
    type Future = Answer<S, A, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let about = Resource::of_path(request.uri().path());
        let heard = self.heard.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let about = about.filter(|_| answer.status().is_success());
            let hear = move || about.into_iter().for_each(|resource| heard.hear(resource, Instant::now()));
            hear();
            let on_frame: OnFrame = Box::new(move |frame| {
                hear();
                frame
            });
            Ok(answer.map(|body| body.map_frame(on_frame)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_understood_is_as_old_as_the_listener_whatever_bytes_came() {
        let start = Instant::now();
        let heard = Heard::new(start);
        assert_eq!(heard.last(Resource::Pods), None);
        heard.hear(Resource::Pods, start + Duration::from_secs(8));
        assert_eq!(heard.last(Resource::Pods), Some(start + Duration::from_secs(8)));
        assert_eq!(heard.age(Resource::Pods, start + Duration::from_secs(9)), Duration::from_secs(9));
    }

    #[test]
    fn each_resource_is_understood_for_itself() {
        let start = Instant::now();
        let heard = Heard::new(start);
        heard.clone().understand(Resource::Pods, start + Duration::from_secs(5));
        heard.clone().lose(Resource::Pods);
        assert_eq!(heard.age(Resource::Pods, start + Duration::from_secs(9)), Duration::from_secs(4));
        assert_eq!(heard.age(Resource::Namespaces, start + Duration::from_secs(9)), Duration::from_secs(9));
        assert_eq!((heard.lost(Resource::Pods), heard.lost(Resource::Namespaces)), (1, 0));
    }
}
