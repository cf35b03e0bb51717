//! Fails a response when the server sends nothing for too long: a layer between kube and HTTP.
//!
//! The read timeout of a connector resets its timer at each read, which wakes the runtime twice more for each event. Here a read
//! only stores its time, which is compared when the timer expires.

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{BoxError, Layer, Service};

/// A server has sent nothing for this long.
#[derive(Clone, Copy, Debug, Error)]
#[error("the server has sent nothing for {} s", .0.as_secs())]
struct IdleTooLong(Duration);

/// How long a server may send nothing, before its response and during it.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleTimeout(pub(super) Duration);

impl<S> Layer<S> for IdleTimeout {
    type Service = WithIdleTimeout<S>;

    fn layer(&self, inner: S) -> WithIdleTimeout<S> {
        WithIdleTimeout { inner, limit: self.0 }
    }
}

/// A service whose responses have an idle timeout.
#[derive(Clone, Debug)]
pub(super) struct WithIdleTimeout<S> {
    inner: S,
    limit: Duration,
}

impl<S, A, B> Service<Request<A>> for WithIdleTimeout<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + 'static,
{
    type Response = Response<IdleTimeoutBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<IdleTimeoutBody<B>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (limit, answer) = (self.limit, self.inner.call(request));
        Box::pin(async move {
            let answer = timeout(limit, answer).await.map_err(|_| IdleTooLong(limit))?.map_err(Into::into)?;
            Ok(answer.map(|body| IdleTimeoutBody::new(body, limit)))
        })
    }
}

/// A body with an idle timeout.
pub(super) struct IdleTimeoutBody<B> {
    body: Pin<Box<B>>,
    limit: Duration,
    last_read: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<B> IdleTimeoutBody<B> {
    fn new(body: B, limit: Duration) -> IdleTimeoutBody<B> {
        IdleTimeoutBody {
            body: Box::pin(body),
            limit,
            last_read: Instant::now(),
            timer: Box::pin(sleep(limit)),
        }
    }
}

impl<B> Body for IdleTimeoutBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let IdleTimeoutBody { body, limit, last_read, timer } = &mut *self;
        if let Poll::Ready(frame) = body.as_mut().poll_frame(context) {
            *last_read = Instant::now();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if last_read.elapsed() >= *limit {
                return Poll::Ready(Some(Err(IdleTooLong(*limit).into())));
            }
            timer.as_mut().reset(*last_read + *limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;
    use tower::ServiceExt;

    const LIMIT: Duration = Duration::from_secs(100);

    /// How many words arrive, and the error and the time, from a server that responds after a while, then sends a word after each of
    /// these pauses, and then nothing.
    async fn words_until_silence(answers_after: u64, pauses: Vec<u64>) -> (usize, String, Duration) {
        let begun = Instant::now();
        let server = tower::service_fn(move |_: Request<()>| {
            let pauses = pauses.clone();
            async move {
                sleep(Duration::from_secs(answers_after)).await;
                let stream = futures::stream::unfold(pauses.into_iter(), |mut pauses| async {
                    match pauses.next() {
                        Some(pause) => sleep(Duration::from_secs(pause)).await,
                        None => std::future::pending().await,
                    }
                    Some((Ok::<_, Infallible>(Frame::data(Bytes::from("word"))), pauses))
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(stream)))
            }
        });
        let mut words = 0;
        let error = match IdleTimeout(LIMIT).layer(server).oneshot(Request::new(())).await {
            Err(error) => error,
            Ok(answer) => {
                let mut body = std::pin::pin!(answer.into_body());
                loop {
                    match body.as_mut().frame().await.expect("it never ends by itself") {
                        Ok(_) => words += 1,
                        Err(error) => break error,
                    }
                }
            }
        };
        (words, error.to_string(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn response_fails_when_the_server_has_sent_nothing_for_the_limit() {
        for (answers_after, pauses, words, seconds) in [
            (3600, vec![], 0, 100),
            (99, vec![], 0, 199),
            (0, vec![99, 99, 1], 3, 299),
            (0, vec![1, 60, 60, 101], 3, 221),
        ] {
            let (received, error, took) = words_until_silence(answers_after, pauses).await;
            assert_eq!((received, took.as_secs()), (words, seconds));
            assert_eq!(error, "the server has sent nothing for 100 s");
        }
    }
}
