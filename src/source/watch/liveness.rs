//! Records when the API server last sent anything, and when it last sent something readable: a layer between kube and
//! HTTP.
//!
//! kube's watches report neither bookmarks nor that a connection works again; the bytes of their responses show both.
//! But bytes alone prove nothing: the age of the data counts from the last event, list or bookmark that could be read.

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

/// When each resource was last updated. Clones share it.
#[derive(Clone, Debug)]
pub struct Liveness {
    since: Instant,
    shared: Arc<[ResourceLiveness; Resource::ALL.len()]>,
}

/// The times and counts of one resource. Times are microseconds after `since`; 0 is never.
#[derive(Debug, Default)]
struct ResourceLiveness {
    bytes: AtomicU64,
    decoded: AtomicU64,
    unreadable: AtomicU64,
}

impl Liveness {
    /// The state before the first byte; ages count from `now`.
    pub fn new(now: Instant) -> Liveness {
        Liveness { since: now, shared: Arc::default() }
    }

    /// When bytes about a resource last arrived.
    pub fn last_bytes(&self, resource: Resource) -> Option<Instant> {
        self.time(&self.of(resource).bytes)
    }

    /// How old the data about a resource may be at `now`: the time since something about it was last decoded.
    pub fn age(&self, resource: Resource, now: Instant) -> Duration {
        let decoded = self.time(&self.of(resource).decoded);
        now.saturating_duration_since(decoded.unwrap_or(self.since))
    }

    /// How many events about a resource could not be read at all, not even which object they were about.
    pub fn unreadable_events(&self, resource: Resource) -> u64 {
        self.of(resource).unreadable.load(Ordering::Relaxed)
    }

    /// Whether something about each resource was decoded.
    pub(super) fn has_decoded_all(&self) -> bool {
        self.shared.iter().all(|of| of.decoded.load(Ordering::Relaxed) > 0)
    }

    pub(super) fn record_decoded(&self, resource: Resource, now: Instant) {
        self.note(&self.of(resource).decoded, now);
    }

    pub(super) fn record_unreadable(&self, resource: Resource) {
        self.of(resource).unreadable.fetch_add(1, Ordering::Relaxed);
    }

    fn record_bytes(&self, resource: Resource, now: Instant) {
        self.note(&self.of(resource).bytes, now);
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

    fn of(&self, resource: Resource) -> &ResourceLiveness {
        let [namespaces, policies, pods] = &*self.shared;
        match resource {
            Resource::Namespaces => namespaces,
            Resource::NetworkPolicies => policies,
            Resource::Pods => pods,
        }
    }
}

impl<S> Layer<S> for Liveness {
    type Service = TrackLiveness<S>;

    fn layer(&self, inner: S) -> TrackLiveness<S> {
        TrackLiveness { inner, liveness: self.clone() }
    }
}

/// A service whose responses are noted.
#[derive(Clone, Debug)]
pub struct TrackLiveness<S> {
    inner: S,
    liveness: Liveness,
}

type OnFrame = Box<dyn FnMut(Frame<Bytes>) -> Frame<Bytes> + Send + Sync>;
type TrackedResponse<S, A, B> = Pin<
    Box<
        dyn Future<Output = Result<Response<MapFrame<B, OnFrame>>, <S as Service<Request<A>>>::Error>> + Send,
    >,
>;

impl<S, A, B> Service<Request<A>> for TrackLiveness<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + 'static,
{
    type Response = Response<MapFrame<B, OnFrame>>;
    type Error = S::Error;
    type Future = TrackedResponse<S, A, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let about = Resource::of_path(request.uri().path());
        let liveness = self.liveness.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let about = about.filter(|_| answer.status().is_success());
            let record = move || {
                about.into_iter().for_each(|resource| liveness.record_bytes(resource, Instant::now()))
            };
            record();
            let on_frame: OnFrame = Box::new(move |frame| {
                record();
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
    fn resource_that_was_never_decoded_is_as_old_as_the_tracker_whatever_bytes_arrived() {
        let start = Instant::now();
        let liveness = Liveness::new(start);
        assert_eq!(liveness.last_bytes(Resource::Pods), None);
        liveness.record_bytes(Resource::Pods, start + Duration::from_secs(8));
        assert_eq!(liveness.last_bytes(Resource::Pods), Some(start + Duration::from_secs(8)));
        assert_eq!(liveness.age(Resource::Pods, start + Duration::from_secs(9)), Duration::from_secs(9));
    }

    #[test]
    fn each_resource_has_its_own_age_and_count() {
        let start = Instant::now();
        let liveness = Liveness::new(start);
        liveness.clone().record_decoded(Resource::Pods, start + Duration::from_secs(5));
        liveness.clone().record_unreadable(Resource::Pods);
        assert_eq!(liveness.age(Resource::Pods, start + Duration::from_secs(9)), Duration::from_secs(4));
        assert_eq!(
            liveness.age(Resource::Namespaces, start + Duration::from_secs(9)),
            Duration::from_secs(9)
        );
        assert_eq!(
            (liveness.unreadable_events(Resource::Pods), liveness.unreadable_events(Resource::Namespaces)),
            (1, 0)
        );
    }
}
