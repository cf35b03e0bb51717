//! Watches of pods in protocol buffers: a layer between kube, which reads JSON, and the wire.
//!
//! The server is asked for protocol buffers, and for JSON if it has none. What it sends decides how it is read.

use super::Resource;
use crate::source::protobuf::{Malformed, Session, status};
use bytes::{Buf, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use thiserror::Error;
use tower::{BoxError, Layer, Service};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const WANTED: HeaderValue =
    HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch, application/json;q=0.5");
/// The longest object that a server keeps is a few MiB; a longer frame is none.
const LONGEST: usize = 64 << 20;

/// What a server sent is no event.
#[derive(Debug, Error)]
enum Misread {
    #[error("the API server's watch of pods cannot be read: {0}")]
    Event(#[from] Malformed),
    #[error("the API server's watch of pods cannot be read: a frame of {0} bytes")]
    Long(usize),
}

/// Makes a service that watches pods in protocol buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct InProtobuf;

impl<S> Layer<S> for InProtobuf {
    type Service = Translating<S>;

    fn layer(&self, inner: S) -> Translating<S> {
        Translating { inner }
    }
}

/// A service whose watches of pods are translated.
#[derive(Clone, Debug)]
pub(super) struct Translating<S> {
    inner: S,
}

type Answer<S, A, B> =
    Pin<Box<dyn Future<Output = Result<Response<Translated<B>>, <S as Service<Request<A>>>::Error>> + Send>>;

impl<S, A, B> Service<Request<A>> for Translating<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + 'static,
{
    type Response = Response<Translated<B>>;
    type Error = S::Error;
    type Future = Answer<S, A, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        if watches_pods(request.uri()) {
            request.headers_mut().insert(ACCEPT, WANTED);
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let form = match (is_protobuf(answer.headers()), answer.status().is_success()) {
                (false, _) => Form::Json,
                (true, true) => Form::Events(BytesMut::new(), Session::default()),
                (true, false) => Form::Status(BytesMut::new()),
            };
            Ok(answer.map(|body| Translated { body: Box::pin(body), form }))
        })
    }
}

fn watches_pods(uri: &http::Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    Resource::of_path(uri.path()) == Some(Resource::Pods) && query.split('&').any(|part| part == "watch=true")
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with(PROTOBUF))
}

/// What a body holds, and what of it waits for its rest.
enum Form {
    Json,
    Events(BytesMut, Session),
    Status(BytesMut),
}

/// A body as JSON, whatever it was.
pub(super) struct Translated<B> {
    body: Pin<Box<B>>,
    form: Form,
}

impl<B> Body for Translated<B>
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
        loop {
            let Translated { body, form } = &mut *self;
            if let Form::Events(waiting, session) = form {
                let lines = lines(waiting, session)?;
                if !lines.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(lines.into()))));
                }
            }
            let frame = ready!(body.as_mut().poll_frame(context)).transpose().map_err(Into::into)?;
            let data = match frame.map(Frame::into_data) {
                Some(Ok(data)) => Some(data),
                Some(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                None => None,
            };
            let translated = match (form, data) {
                (Form::Json, data) => data,
                (Form::Events(waiting, _) | Form::Status(waiting), Some(data)) => {
                    waiting.extend_from_slice(&data);
                    continue;
                }
                // What was cut short comes again, as a watch is taken up behind the last event that was read.
                (Form::Events(..), None) => None,
                (Form::Status(whole), None) if whole.is_empty() => None,
                (Form::Status(whole), None) => Some(status(&whole.split()).map_err(Misread::Event)?.into()),
            };
            return Poll::Ready(translated.map(|data| Ok(Frame::data(data))));
        }
    }
}

/// Takes out the frames that are whole: four bytes that tell its length before each. What comes before one that cannot be read
/// is told first.
fn lines(waiting: &mut BytesMut, session: &mut Session) -> Result<Vec<u8>, Misread> {
    let mut lines = Vec::new();
    while let Some(length) = waiting.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize) {
        if length > LONGEST {
            return told_before(lines, Misread::Long(length));
        }
        let Some(frame) = waiting.get(4..4 + length) else { break };
        if let Err(malformed) = session.tell(frame, &mut lines) {
            return told_before(lines, malformed.into());
        }
        waiting.advance(4 + length);
    }
    Ok(lines)
}

fn told_before(lines: Vec<u8>, misread: Misread) -> Result<Vec<u8>, Misread> {
    if lines.is_empty() { Err(misread) } else { Ok(lines) }
}
