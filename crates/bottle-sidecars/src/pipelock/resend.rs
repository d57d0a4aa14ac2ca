//! Requests sent a second time: those that upstream has certainly not worked on, and those that may be repeated and met a
//! kept connection that upstream was about to close. As much of a body as has gone is kept for that, up to [`MAX_KEPT_BYTES`].

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Extensions, HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};

use super::dial::Dialer;
use crate::proxy::response::{Body, BoxError, boxed};

/// A request whose body is larger is sent once.
const MAX_KEPT_BYTES: usize = 256 << 10;
/// A server that refuses again and again is not asked for ever.
const MAX_ATTEMPTS: u32 = 6;

/// Marks a connection that has answered a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Answered(Arc<AtomicBool>);

/// Why a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// RFC 9113, 8.7: it is above the last one that upstream worked on, or was refused.
    NotProcessed,
    /// RFC 9112, 9.3.1: the connection was kept from a request before, and ended.
    KeptConnection,
}

/// The two ways upstream: over kept connections, and over a new one for each request.
pub(super) struct UpstreamClients {
    pub(super) kept: Client<Dialer, Body>,
    pub(super) fresh: Client<Dialer, Body>,
}

impl UpstreamClients {
    /// Sends a request, and again what may be sent again.
    pub(super) async fn request(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let (parts, body) = request.into_parts();
        let source = SourceSlot::new(body);
        let mut client = &self.kept;
        for _ in 1..MAX_ATTEMPTS {
            let error = match client.request(attempt(&parts, &source)).await {
                Ok(response) => {
                    if let Some(Answered(answered)) = response.extensions().get() {
                        answered.store(true, Ordering::Relaxed);
                    }
                    return Ok(response);
                }
                Err(error) => error,
            };
            let Some(again) = again(&error, &parts).filter(|_| source.lock().is_complete()) else {
                return Err(error);
            };
            tracing::info!("sends a request again ({again:?}): {error}");
            if again == Again::KeptConnection {
                client = &self.fresh;
            }
        }
        client.request(attempt(&parts, &source)).await
    }
}

fn attempt(parts: &Parts, source: &Arc<SourceSlot>) -> Request<Body> {
    let mut lock = source.lock();
    lock.attempt += 1;
    let body = boxed(Attempt { source: Arc::clone(source), number: lock.attempt, next: 0 });
    drop(lock);
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers.clone();
    request
}

fn again(error: &Error, parts: &Parts) -> Option<Again> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut ended = false;
    while let Some(current) = source {
        if let Some(h2) = current.downcast_ref::<h2::Error>() {
            // Streams that a GOAWAY lets go on don't end with it.
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            if h2.is_remote() && (h2.is_go_away() || refused) {
                return Some(Again::NotProcessed);
            }
            ended |= h2.is_io();
        }
        if let Some(hyper) = current.downcast_ref::<hyper::Error>() {
            ended |= hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled();
        }
        ended |= current.is::<std::io::Error>();
        source = current.source();
    }
    let mut extras = Extensions::new();
    error.connect_info()?.get_extras(&mut extras);
    let kept = extras.get().is_some_and(|Answered(answered)| answered.load(Ordering::Relaxed));
    (ended && kept && is_idempotent(parts)).then_some(Again::KeptConnection)
}

/// Whether a request means the same when it comes twice: by its method, or as one of git's that only reads (RFC 9110, 9.2.2).
fn is_idempotent(parts: &Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE);
    parts.method.is_idempotent() || kind.is_some_and(|kind| kind == "application/x-git-upload-pack-request")
}

/// A body, and what has gone of it.
struct Source {
    body: Body,
    /// None: it has become too much to be kept, or the body has failed.
    kept: Option<Vec<Kept>>,
    bytes: usize,
    /// Which attempt may read; those before have lost.
    attempt: u32,
}

struct SourceSlot(Mutex<Source>);

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Source {
    fn is_complete(&self) -> bool {
        self.kept.is_some()
    }

    fn keep(&mut self, frame: &Result<Frame<Bytes>, BoxError>) {
        let Some(kept) = &mut self.kept else { return };
        let Ok(frame) = frame else {
            self.kept = None;
            return;
        };
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len();
            kept.push(Kept::Data(data.clone()));
        }
        if let Some(trailers) = frame.trailers_ref() {
            kept.push(Kept::Trailers(trailers.clone()));
        }
        if self.bytes > MAX_KEPT_BYTES {
            self.kept = None;
        }
    }
}

impl SourceSlot {
    fn new(body: Body) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Source { body, kept: Some(vec![]), bytes: 0, attempt: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body as one attempt reads it: first what has gone already.
struct Attempt {
    source: Arc<SourceSlot>,
    number: u32,
    /// Of what is kept, the next frame.
    next: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("the request is sent again")]
struct Superseded;

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut source = this.source.lock();
        if source.attempt != this.number {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(kept) = source.kept.as_ref().and_then(|kept| kept.get(this.next)) {
            this.next += 1;
            return Poll::Ready(Some(Ok(match kept.clone() {
                Kept::Data(data) => Frame::data(data),
                Kept::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        let polled = Pin::new(&mut source.body).poll_frame(cx);
        if let Poll::Ready(Some(frame)) = &polled {
            source.keep(frame);
            this.next += 1;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.lock();
        let all_read = source.kept.as_ref().is_none_or(|kept| kept.len() <= self.next);
        all_read && source.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let source = self.source.lock();
        match &source.kept {
            Some(kept) if kept.is_empty() => source.body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn source(pieces: &[usize]) -> Arc<SourceSlot> {
        let frames: Vec<_> = pieces.iter().map(|size| Ok(Frame::data(Bytes::from(vec![b'x'; *size])))).collect();
        SourceSlot::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
    }

    fn read(source: &Arc<SourceSlot>) -> Attempt {
        let mut lock = source.lock();
        lock.attempt += 1;
        Attempt { source: Arc::clone(source), number: lock.attempt, next: 0 }
    }

    #[test]
    fn what_git_only_reads_by_may_come_twice() {
        for (method, kind, expected) in [
            ("GET", "text/plain", true),
            ("PUT", "text/plain", true),
            ("POST", "application/json", false),
            ("POST", "application/x-git-upload-pack-request", true),
            ("POST", "application/x-git-receive-pack-request", false),
        ] {
            let request = Request::builder().method(method).header(CONTENT_TYPE, kind).body(()).expect("a request");
            assert_eq!(is_idempotent(&request.into_parts().0), expected, "{method} {kind}");
        }
    }

    #[tokio::test]
    async fn a_second_attempt_reads_the_body_from_its_beginning() {
        let source = source(&[3, 4, 5]);
        let mut first = read(&source);
        first.frame().await.expect("a frame").expect("data");
        let second = read(&source);
        assert!(first.frame().await.expect("an end").is_err(), "two attempts read one body");
        assert_eq!(second.collect().await.expect("a body").to_bytes().len(), 12);
        assert!(source.lock().is_complete());
    }

    #[tokio::test]
    async fn a_large_body_is_not_kept() {
        let source = source(&[MAX_KEPT_BYTES, 1]);
        assert_eq!(read(&source).collect().await.expect("a body").to_bytes().len(), MAX_KEPT_BYTES + 1);
        assert!(!source.lock().is_complete());
    }
}
