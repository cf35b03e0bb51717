//! Gives up on a server that says nothing for too long: a layer between kube and the wire.
//!
//! What a connector offers for that winds a clock at every read, which wakes the runtime twice more for each event. Here only
//! the time of a read is kept, and looked at when the clock has run down.

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{BoxError, Layer, Service};

/// A server has said nothing for so long.
#[derive(Clone, Copy, Debug, Error)]
#[error("the server has sent nothing for {} s", .0.as_secs())]
struct Silent(Duration);

/// How long a server may say nothing: before it answers, and while it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(pub(super) Duration);

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Patient<S> {
        Patient { inner, patience: self.0 }
    }
}

/// A service that does not wait for ever.
#[derive(Clone, Debug)]
pub(super) struct Patient<S> {
    inner: S,
    patience: Duration,
}

impl<S, A, B> Service<Request<A>> for Patient<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + 'static,
{
    type Response = Response<Awaited<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Awaited<B>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (patience, answer) = (self.patience, self.inner.call(request));
        Box::pin(async move {
            let answer =
                timeout(patience, answer).await.map_err(|_| Silent(patience))?.map_err(Into::into)?;
            Ok(answer.map(|body| Awaited::new(body, patience)))
        })
    }
}

/// A body that does not wait for ever.
pub(super) struct Awaited<B> {
    body: Pin<Box<B>>,
    patience: Duration,
    heard: Instant,
    clock: Pin<Box<Sleep>>,
}

impl<B> Awaited<B> {
    fn new(body: B, patience: Duration) -> Awaited<B> {
        Awaited { body: Box::pin(body), patience, heard: Instant::now(), clock: Box::pin(sleep(patience)) }
    }
}

impl<B> Body for Awaited<B>
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
        let Awaited { body, patience, heard, clock } = &mut *self;
        if let Poll::Ready(frame) = body.as_mut().poll_frame(context) {
            *heard = Instant::now();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        loop {
            ready!(clock.as_mut().poll(context));
            if heard.elapsed() >= *patience {
                return Poll::Ready(Some(Err(Silent(*patience).into())));
            }
            clock.as_mut().reset(*heard + *patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;
    use tower::ServiceExt;

    const PATIENCE: Duration = Duration::from_secs(100);

    /// Answers after a while, and then says a word after each of these pauses, and then nothing more.
    async fn words_until_silence(answers_after: u64, pauses: Vec<u64>) -> (usize, String, Duration) {
        let begun = Instant::now();
        let server = tower::service_fn(move |_: Request<()>| {
            let pauses = pauses.clone();
            async move {
                sleep(Duration::from_secs(answers_after)).await;
                let words = futures::stream::unfold(pauses.into_iter(), |mut pauses| async {
                    match pauses.next() {
                        Some(pause) => sleep(Duration::from_secs(pause)).await,
                        None => std::future::pending().await,
                    }
                    Some((Ok::<_, Infallible>(Frame::data(Bytes::from("word"))), pauses))
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(words)))
            }
        });
        let mut heard = 0;
        let error = match Patience(PATIENCE).layer(server).oneshot(Request::new(())).await {
            Err(error) => error,
            Ok(answer) => {
                let mut body = std::pin::pin!(answer.into_body());
                loop {
                    match body.as_mut().frame().await.expect("it never ends by itself") {
                        Ok(_) => heard += 1,
                        Err(error) => break error,
                    }
                }
            }
        };
        (heard, error.to_string(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn server_is_given_up_when_it_has_said_nothing_for_as_long_as_that() {
        for (answers_after, pauses, words, seconds) in [
            (3600, vec![], 0, 100),
            (99, vec![], 0, 199),
            (0, vec![99, 99, 1], 3, 299),
            (0, vec![1, 60, 60, 101], 3, 221),
        ] {
            let (heard, error, took) = words_until_silence(answers_after, pauses).await;
            assert_eq!((heard, took.as_secs()), (words, seconds));
            assert_eq!(error, "the server has sent nothing for 100 s");
        }
    }
}
