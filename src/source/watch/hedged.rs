//! Connections that do not wait for a packet that was lost: another is begun after half a second, and the first to come about is
//! taken.
//!
//! A node that boots asks the API server at its Service's address before kube-proxy has written where that leads. Such a
//! connection is lost for good, as the kernel remembers that it was not translated; a new one gets through as soon as the rules
//! are there.

use super::Heard;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::sleep;
use tower::Service;

/// After how long another connection is begun.
const ANOTHER_AFTER: Duration = Duration::from_millis(500);
/// How many are begun at most for one that is wanted: as long as a server never said anything, what makes it reachable may be
/// there at any moment; later, a single packet may have been lost.
const AT_MOST_FIRST: usize = 10;
const AT_MOST_LATER: usize = 2;

/// Begins connections one after the other until one comes about.
#[derive(Clone, Debug)]
pub(super) struct Hedged<S> {
    connector: S,
    heard: Heard,
}

impl<S> Hedged<S> {
    pub(super) fn new(connector: S, heard: Heard) -> Hedged<S> {
        Hedged { connector, heard }
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
        let at_most = if self.heard.has_understood_all() { AT_MOST_LATER } else { AT_MOST_FIRST };
        Box::pin(async move {
            let mut begun = FuturesUnordered::from_iter([first]);
            for _ in 1..at_most {
                tokio::select! {
                    // A failure is an answer: whoever refuses one connection refuses the next.
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

    /// When each connection is begun, and what it comes to: the nth is `answers(n)`, never if that is `None`.
    async fn connect(
        heard: Heard,
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
        let connected = timeout(Duration::from_secs(60), Hedged::new(connector, heard).call(())).await;
        (connected.ok(), start.elapsed(), begun.load(Ordering::Relaxed))
    }

    fn nothing_heard() -> Heard {
        Heard::new(std::time::Instant::now())
    }

    fn all_heard() -> Heard {
        let heard = nothing_heard();
        Resource::ALL.into_iter().for_each(|resource| heard.understand(resource, std::time::Instant::now()));
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_is_lost_costs_half_a_second() {
        for heard in [nothing_heard(), all_heard()] {
            let connected = connect(heard, |number| (number == 1).then_some(Ok(()))).await;
            assert_eq!(connected, (Some(Ok(1)), ANOTHER_AFTER, 2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_was_never_reached_is_tried_again_and_again() {
        let connected = connect(nothing_heard(), |number| (number == 7).then_some(Ok(()))).await;
        assert_eq!(connected, (Some(Ok(7)), 7 * ANOTHER_AFTER, 8));
        let nobody = connect(nothing_heard(), |_| None).await;
        assert_eq!((nobody.0, nobody.2), (None, AT_MOST_FIRST));
        let nobody = connect(all_heard(), |_| None).await;
        assert_eq!((nobody.0, nobody.2), (None, AT_MOST_LATER));
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_comes_about_or_is_refused_begins_no_other() {
        let connected = connect(nothing_heard(), |_| Some(Ok(()))).await;
        assert_eq!(connected, (Some(Ok(0)), Duration::ZERO, 1));
        let refused = connect(nothing_heard(), |_| Some(Err("refused"))).await;
        assert_eq!(refused, (Some(Err("refused")), Duration::ZERO, 1));
    }
}
