//! HTTP/1.1 on a connection that costs little while nothing happens on it.
//!
//! hyper keeps two buffers of 8 KiB for every connection, and most connections of a proxy wait for their next request.
//! One that waits is taken from hyper, buffers and all, and given to a new one with the first byte of the next request.
//! That is done only where hyper certainly holds nothing: it has taken one head and as much of a body as the head says, not
//! a byte more; the answer is over, and all of it is written.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use super::response::{Body, BoxError};

/// For the head of a request, and between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Head of a request at most.
const MAX_HEAD_BYTES: usize = 256 << 10;
/// A connection on which nothing has happened for so long is put to rest.
const IDLE_AFTER: Duration = Duration::from_millis(100);
/// One that is busy with the same request is looked at again after this time at the latest.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Serves a connection to its end.
pub(super) async fn serve<S, F, A>(stream: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<Body>, Infallible>>,
{
    let conn = Arc::new(ConnState(Mutex::default()));
    let mut next = Some((stream, None));
    while let Some((stream, first)) = next.take() {
        let watched = WatchedStream { stream: Some(stream), first, conn: Arc::clone(&conn) };
        // On the heap, so that it goes away while the connection rests.
        Box::pin(serve_until_idle(watched, &conn, &answer)).await;
        let Some(mut stream) = conn.lock().parked.take() else { return };
        let mut first = [0];
        match tokio::time::timeout(HEAD_TIMEOUT, stream.read(&mut first)).await {
            Ok(Ok(1)) => next = Some((stream, Some(first[0]))),
            // It has ended: so does this side, if the other still listens.
            Ok(Ok(_)) => drop(tokio::time::timeout(IDLE_AFTER, stream.shutdown()).await),
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Serves until the connection is over, or rests.
async fn serve_until_idle<S, F, A>(watched: WatchedStream<S>, conn: &Arc<ConnState<S>>, answer: &F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<Body>, Infallible>>,
{
    *conn.lock() = ConnProgress::default();
    let service = service_fn(|request: Request<Incoming>| {
        conn.lock().begin_request(request.headers());
        let answered = answer(request);
        let guard = AnswerGuard(Arc::clone(conn));
        async move { answered.await.map(|response| response.map(|body| GuardedBody { body, _guard: guard })) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(watched), service)
        .with_upgrades();
    let (mut served, mut tick) = (pin!(served), pin!(tokio::time::sleep(IDLE_AFTER)));
    let (mut before, mut pause) = (0, IDLE_AFTER);
    let served = poll_fn(|cx| {
        if let Poll::Ready(served) = served.as_mut().poll(cx) {
            return Poll::Ready(served);
        }
        while tick.as_mut().poll(cx).is_ready() {
            let mut state = conn.lock();
            if state.is_idle() && state.finished_answers == before {
                state.is_parked = true;
                return Poll::Ready(Ok(()));
            }
            pause = if state.finished_answers == before { (pause * 2).min(MAX_CHECK_INTERVAL) } else { IDLE_AFTER };
            before = state.finished_answers;
            tick.as_mut().reset(Instant::now() + pause);
        }
        Poll::Pending
    });
    if let Err(error) = served.await {
        tracing::debug!("a connection of the guest ended: {error}");
    }
}

/// State of a connection: what hyper was given of it, and has done with that.
struct ConnState<S>(Mutex<ConnProgress<S>>);

struct ConnProgress<S> {
    /// Where the stream goes when hyper is let go.
    parked: Option<S>,
    is_parked: bool,
    /// How much there is of an empty line, which ends a head; none behind the head.
    head: Option<HeadEnd>,
    /// Bytes that were read of the head; then of what is behind it.
    read: u64,
    /// How long the body is; none if its length is not said.
    body: Option<u64>,
    /// Requests that are not answered to the end.
    open_requests: u32,
    finished_answers: u32,
    /// hyper wants more than there is.
    wants_read: bool,
    flushed: bool,
}

/// The end of a head: a line end, and another one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadEnd {
    Begun,
    Ended,
    Return,
}

impl<S> Default for ConnProgress<S> {
    fn default() -> Self {
        Self {
            parked: None,
            is_parked: false,
            head: Some(HeadEnd::Begun),
            read: 0,
            body: None,
            open_requests: 0,
            finished_answers: 0,
            wants_read: false,
            flushed: true,
        }
    }
}

impl<S> ConnState<S> {
    fn lock(&self) -> MutexGuard<'_, ConnProgress<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> ConnProgress<S> {
    /// Nothing of a request is anywhere in hyper, nor of an answer.
    fn is_idle(&self) -> bool {
        let nothing_begun = match self.head {
            Some(_) => self.read == 0,
            None => self.open_requests == 0 && self.body == Some(self.read),
        };
        nothing_begun && self.wants_read && self.flushed
    }

    /// hyper was given these bytes.
    fn record_read(&mut self, mut bytes: &[u8]) {
        if self.head.is_none() && self.is_idle() {
            (self.head, self.read, self.body) = (Some(HeadEnd::Begun), 0, None);
        }
        self.wants_read = false;
        while let (Some(line), [byte, rest @ ..]) = (self.head, bytes) {
            self.read += 1;
            bytes = rest;
            self.head = match (byte, line) {
                (b'\n', HeadEnd::Ended | HeadEnd::Return) => {
                    self.read = 0;
                    None
                }
                (b'\n', HeadEnd::Begun) => Some(HeadEnd::Ended),
                (b'\r', HeadEnd::Ended) => Some(HeadEnd::Return),
                _ => Some(HeadEnd::Begun),
            };
        }
        self.read += bytes.len() as u64;
    }

    /// hyper has read a head.
    fn begin_request(&mut self, headers: &HeaderMap) {
        self.open_requests += 1;
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        self.body = match (headers.contains_key(TRANSFER_ENCODING), lengths.next(), lengths.next()) {
            (false, None, _) => Some(0),
            (false, Some(length), None) => length.to_str().ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
    }
}

/// A connection whose bytes are watched.
struct WatchedStream<S> {
    /// There until it is dropped.
    stream: Option<S>,
    /// The byte that ended its rest.
    first: Option<u8>,
    conn: Arc<ConnState<S>>,
}

impl<S> Drop for WatchedStream<S> {
    fn drop(&mut self) {
        let mut state = self.conn.lock();
        if state.is_parked {
            state.parked = self.stream.take();
        }
    }
}

impl<S: Unpin> WatchedStream<S> {
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn mark_unflushed<T>(&self, flushed: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.conn.lock().flushed = false;
        flushed
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match self.first {
            Some(first) if buf.remaining() > 0 => {
                buf.put_slice(&[first]);
                self.first = None;
                Poll::Ready(Ok(()))
            }
            _ => self.stream()?.poll_read(cx, buf),
        };
        let mut state = self.conn.lock();
        match read {
            Poll::Pending => state.wants_read = true,
            Poll::Ready(_) => state.record_read(&buf.filled()[before..]),
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let flushed = self.stream()?.poll_write(cx, bytes);
        self.mark_unflushed(flushed)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let flushed = self.stream()?.poll_write_vectored(cx, slices);
        self.mark_unflushed(flushed)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream()?.poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.conn.lock().flushed = true;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

/// Guard that notes, when it is dropped, that an answer is over.
struct AnswerGuard<S>(Arc<ConnState<S>>);

impl<S> Drop for AnswerGuard<S> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.open_requests = state.open_requests.saturating_sub(1);
        state.finished_answers = state.finished_answers.wrapping_add(1);
    }
}

/// The body of an answer.
struct GuardedBody<S> {
    body: Body,
    _guard: AnswerGuard<S>,
}

impl<S> http_body::Body for GuardedBody<S> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "idle_tests.rs"]
mod tests;
