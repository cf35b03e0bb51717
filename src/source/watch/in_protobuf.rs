//! Converts a server's responses to JSON: a layer between kube, which reads only JSON, and HTTP.
//!
//! Watches of pods request protocol buffers, or JSON from a server that has none. The content type of the response decides how it
//! is read. An event that cannot be read, not even which pod it is about, is counted and skipped: the watch goes on.

use super::in_json::Text;
use super::protobuf::{Malformed, Session, status};
use super::{Liveness, Resource};
use bytes::{Buf, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use thiserror::Error;
use tower::{BoxError, Layer, Service};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const WANTED: HeaderValue =
    HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch, application/json;q=0.5");
/// The longest object that is read completely; servers store a few MiB at most. Of a longer one, only the beginning is
/// read, which contains its name.
const LONGEST: usize = 16 << 20;
const BEGINNING: usize = 1 << 20;
/// No server sends an object this long: the frames are misaligned.
const ABSURD: usize = 1 << 30;

/// The response of a server is not an event.
#[derive(Debug, Error)]
enum Misread {
    #[error("the API server's error response cannot be read: {0}")]
    Status(Malformed),
    #[error("the API server's watch of pods cannot be read: a frame of {0} bytes")]
    Long(usize),
}

/// Makes a service that watches pods in protocol buffers, and records what was decoded.
#[derive(Clone, Debug)]
pub(super) struct InProtobuf(pub(super) Liveness);

impl<S> Layer<S> for InProtobuf {
    type Service = Translating<S>;

    fn layer(&self, inner: S) -> Translating<S> {
        Translating { inner, liveness: self.0.clone() }
    }
}

/// A service whose watches of pods are translated to JSON.
#[derive(Clone, Debug)]
pub(super) struct Translating<S> {
    inner: S,
    liveness: Liveness,
}

type TranslatedResponse<S, A, B> =
    Pin<Box<dyn Future<Output = Result<Response<Translated<B>>, <S as Service<Request<A>>>::Error>> + Send>>;

impl<S, A, B> Service<Request<A>> for Translating<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + 'static,
{
    type Response = Response<Translated<B>>;
    type Error = S::Error;
    type Future = TranslatedResponse<S, A, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        if watches_pods(request.uri()) {
            request.headers_mut().insert(ACCEPT, WANTED);
        }
        let (about, liveness) = (Resource::of_path(request.uri().path()), self.liveness.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let form = match (is_protobuf(answer.headers()), answer.status().is_success()) {
                (false, _) => Form::Json(Text::default()),
                (true, true) => Form::Events(Frames::default()),
                (true, false) => Form::Status(BytesMut::new()),
            };
            let note = Note { about: about.filter(|_| answer.status().is_success()), liveness };
            Ok(answer.map(|body| Translated { body: Box::pin(body), form, note }))
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

/// The format of a body, and the part of it that is incomplete.
enum Form {
    Json(Text),
    Events(Frames),
    Status(BytesMut),
}

/// Records what was decoded from a response.
struct Note {
    about: Option<Resource>,
    liveness: Liveness,
}

impl Note {
    fn decoded(&self) {
        self.about.into_iter().for_each(|resource| self.liveness.record_decoded(resource, Instant::now()));
    }

    fn unreadable(&self) {
        self.about.into_iter().for_each(|resource| self.liveness.record_unreadable(resource));
    }
}

/// A body translated to JSON.
pub(super) struct Translated<B> {
    body: Pin<Box<B>>,
    form: Form,
    note: Note,
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
            let Translated { body, form, note } = &mut *self;
            if let Form::Events(frames) = form {
                let lines = frames.lines(note)?;
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
                (Form::Json(text), Some(data)) => {
                    if text.bookmarks(&data) > 0 {
                        note.decoded();
                    }
                    Some(text.repair(data))
                }
                (Form::Json(_), None) => None,
                (Form::Events(Frames { waiting, .. }) | Form::Status(waiting), Some(data)) => {
                    waiting.extend_from_slice(&data);
                    continue;
                }
                // An event that was cut short is sent again, as a watch resumes after the last event that was read.
                (Form::Events(_), None) => None,
                (Form::Status(whole), None) if whole.is_empty() => None,
                (Form::Status(whole), None) => Some(status(&whole.split()).map_err(Misread::Status)?.into()),
            };
            return Poll::Ready(translated.map(|data| Ok(Frame::data(data))));
        }
    }
}

/// The frames of a watch, each after its length in four bytes.
#[derive(Default)]
struct Frames {
    waiting: BytesMut,
    session: Session,
    /// How many bytes of a frame that is too long are still to come.
    to_skip: usize,
}

impl Frames {
    /// Removes the complete frames, and returns their events as lines.
    fn lines(&mut self, note: &Note) -> Result<Vec<u8>, Misread> {
        let mut lines = Vec::new();
        loop {
            let skipped = self.to_skip.min(self.waiting.len());
            self.waiting.advance(skipped);
            self.to_skip -= skipped;
            if self.to_skip > 0 {
                break;
            }
            let Some(length) = self.waiting.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize)
            else {
                break;
            };
            if length > ABSURD {
                // The events before it are returned first.
                return if lines.is_empty() { Err(Misread::Long(length)) } else { Ok(lines) };
            }
            let read = if length > LONGEST { BEGINNING } else { length };
            let Some(frame) = self.waiting.get(4..4 + read) else { break };
            let decoded = match length > LONGEST {
                true => self.session.decode_beginning(frame, &mut lines),
                false => self.session.decode(frame, &mut lines),
            };
            match decoded {
                Ok(()) => note.decoded(),
                Err(_) => note.unreadable(),
            }
            self.waiting.advance(4 + read);
            self.to_skip = length - read;
        }
        Ok(lines)
    }
}
