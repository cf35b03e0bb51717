//! Hedged connecting: if a connection is not established after half a second, another attempt starts, and the first that succeeds
//! is used.
//!
//! A node that boots connects to the API server at its Service's address before kube-proxy has written that Service's rules. Such
//! a connection never succeeds, as conntrack remembers it as not translated; a new one succeeds as soon as the rules are there.

use super::Liveness;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::sleep;
use tower::Service;

/// After how long another attempt starts.
const ANOTHER_AFTER: Duration = Duration::from_millis(500);
/// The maximum number of attempts for one connection. Until a server has sent data, the rules that make it reachable
/// may appear at any moment; later, a single packet may have been lost.
const AT_MOST_FIRST: usize = 10;
const AT_MOST_LATER: usize = 2;

/// Starts one attempt after the other until one succeeds.
#[derive(Clone, Debug)]
pub(super) struct Hedged<S> {
    connector: S,
    liveness: Liveness,
}

impl<S> Hedged<S> {
    pub(super) fn new(connector: S, liveness: Liveness) -> Hedged<S> {
        Hedged { connector, liveness }
    }
}

impl<S, A> Service<A> for Hedged<S>
where
    S: Service<A> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
    A: Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: A) -> Self::Future {
        let first = self.connector.call(to.clone());
        let mut connector = self.connector.clone();
        let at_most = if self.liveness.has_decoded_all() { AT_MOST_LATER } else { AT_MOST_FIRST };
        Box::pin(async move {
            let mut begun = FuturesUnordered::from_iter([first]);
            for _ in 1..at_most {
                tokio::select! {
                    // A failure is a result, too: a server that refuses one connection refuses the next.
                    Some(ended) = begun.next() => return ended,
                    () = sleep(ANOTHER_AFTER) => {}
                }
                if std::future::poll_fn(|context| connector.poll_ready(context)).await.is_ok() {
                    begun.push(connector.call(to.clone()));
                }
            }
            match begun.next().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Resource;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::{Instant, timeout};
    use tower::service_fn;

    /// The result, the time that it took, and the number of attempts. Attempt n ends with `answers(n)`, and never if
    /// that is `None`.
    async fn connect(
        liveness: Liveness,
        answers: fn(usize) -> Option<Result<(), &'static str>>,
    ) -> (Option<Result<usize, &'static str>>, Duration, usize) {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let connector = service_fn(move |(): ()| {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            async move {
                match answers(number) {
                    Some(answer) => answer.map(|()| number),
                    None => std::future::pending().await,
                }
            }
        });
        let start = Instant::now();
        let connected = timeout(Duration::from_secs(60), Hedged::new(connector, liveness).call(())).await;
        (connected.ok(), start.elapsed(), begun.load(Ordering::Relaxed))
    }

    fn nothing_decoded() -> Liveness {
        Liveness::new(std::time::Instant::now())
    }

    fn all_decoded() -> Liveness {
        let liveness = nothing_decoded();
        Resource::ALL
            .into_iter()
            .for_each(|resource| liveness.record_decoded(resource, std::time::Instant::now()));
        liveness
    }

    #[tokio::test(start_paused = true)]
    async fn lost_connection_attempt_costs_half_a_second() {
        for liveness in [nothing_decoded(), all_decoded()] {
            let connected = connect(liveness, |number| (number == 1).then_some(Ok(()))).await;
            assert_eq!(connected, (Some(Ok(1)), ANOTHER_AFTER, 2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_was_never_reached_is_tried_again_and_again() {
        let connected = connect(nothing_decoded(), |number| (number == 7).then_some(Ok(()))).await;
        assert_eq!(connected, (Some(Ok(7)), 7 * ANOTHER_AFTER, 8));
        let unreachable = connect(nothing_decoded(), |_| None).await;
        assert_eq!((unreachable.0, unreachable.2), (None, AT_MOST_FIRST));
        let unreachable = connect(all_decoded(), |_| None).await;
        assert_eq!((unreachable.0, unreachable.2), (None, AT_MOST_LATER));
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_succeeds_or_is_refused_starts_no_other() {
        let connected = connect(nothing_decoded(), |_| Some(Ok(()))).await;
        assert_eq!(connected, (Some(Ok(0)), Duration::ZERO, 1));
        let refused = connect(nothing_decoded(), |_| Some(Err("refused"))).await;
        assert_eq!(refused, (Some(Err("refused")), Duration::ZERO, 1));
    }
}
