//! HTTP/1.1 on a connection that costs little while nothing happens on it.
//!
//! hyper keeps two buffers of 8 KiB for every connection, and most connections of a proxy wait for their next request.
//! hyper gets one with the first byte of a request, and one that waits for the next is taken from it, buffers and all.
//! That is done only where hyper certainly holds nothing: it has taken one head and as much of a body as the head says, not
//! a byte more; the answer is over, and all of it is written.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use super::headers::MAX_HEADERS;
use super::response::{Body, BoxError};
use super::unreadable::{NoteUnreadable, UnreadableHead, keep_line};

/// For the head of a request, and between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Head of a request at most.
const MAX_HEAD_BYTES: usize = 256 << 10;
/// A client that goes on sending what was refused may do so for that long, and that much.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 4 << 20;
/// A connection on which nothing has happened for so long is put to rest.
const IDLE_AFTER: Duration = Duration::from_millis(100);
/// One that is busy with the same request is looked at again after this time at the latest.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Serves a connection to its end.
pub(super) async fn serve<S, F, A>(stream: S, answer: F, note: NoteUnreadable)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<Body>, Infallible>>,
{
    let conn = Arc::new(ConnState(Mutex::default()));
    let mut stream = stream;
    loop {
        let mut first = [0];
        match tokio::time::timeout(HEAD_TIMEOUT, stream.read(&mut first)).await {
            Ok(Ok(1)) => {}
            // It has ended: so does this side, if the other still listens.
            Ok(Ok(_)) => return drop(tokio::time::timeout(IDLE_AFTER, stream.shutdown()).await),
            Ok(Err(_)) | Err(_) => return,
        }
        let (first, note, pending) = (Some(first[0]), Arc::clone(&note), vec![]);
        let watched = WatchedStream { stream: Some(stream), first, conn: Arc::clone(&conn), note, pending };
        // On the heap, so that it goes away while the connection rests.
        Box::pin(serve_until_idle(watched, &conn, &answer)).await;
        let (parked, refused) = {
            let mut state = conn.lock();
            (state.parked.take(), state.refused)
        };
        let Some(rests) = parked else { return };
        if refused {
            return linger(rests).await;
        }
        stream = rests;
    }
}

/// Reads what a client still sends of a request that was refused: under its hands a connection that is closed may take the
/// answer with it.
async fn linger<S: AsyncRead + Unpin>(mut stream: S) {
    let mut buffer = vec![0; 16 << 10];
    let rest = async {
        let mut left = MAX_LINGER_BYTES;
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// Serves until the connection is over, or rests.
async fn serve_until_idle<S, F, A>(watched: WatchedStream<S>, conn: &Arc<ConnState<S>>, answer: &F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<Body>, Infallible>>,
{
    *conn.lock() = ConnProgress::default();
    let note = Arc::clone(&watched.note);
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
        .max_headers(MAX_HEADERS)
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
    let Err(error) = served.await else { return };
    tracing::debug!("a connection of the guest ended: {error}");
    let state = conn.lock();
    let slow = error.is_timeout() && state.head.is_some() && state.read > 0;
    if (error.is_parse() || slow) && !state.refused {
        let status = if slow { StatusCode::REQUEST_TIMEOUT } else { StatusCode::BAD_REQUEST };
        let head = UnreadableHead::new(status, &state.line);
        drop(state);
        note(&head);
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
    /// The head's first line, and whether more of it is to come.
    line: Vec<u8>,
    in_line: bool,
    /// The head could not be read, and was refused.
    refused: bool,
    /// Bytes that were read of the head; then of what is behind it.
    read: u64,
    /// How long the body is; none if its length is not said.
    body: Option<u64>,
    /// Requests that are not answered to the end.
    open_requests: u32,
    finished_answers: u32,
    /// So many of them were over when all was written.
    flushed_answers: u32,
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
            line: vec![],
            in_line: true,
            refused: false,
            read: 0,
            body: None,
            open_requests: 0,
            finished_answers: 0,
            flushed_answers: 0,
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
            self.line.clear();
            self.in_line = true;
        }
        self.wants_read = false;
        while let (Some(line), [byte, rest @ ..]) = (self.head, bytes) {
            // Nothing but the end of a line is of interest within one.
            if line == HeadEnd::Begun && !self.in_line {
                let skip = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
                if skip > 0 {
                    self.read += skip as u64;
                    bytes = &bytes[skip..];
                    continue;
                }
            }
            self.read += 1;
            bytes = rest;
            self.in_line = self.in_line && keep_line(&mut self.line, *byte);
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

    /// Whatever is written now is hyper's own answer to a head that it can't read: all requests are answered, and the
    /// answers written.
    fn is_own_answer(&self) -> bool {
        self.open_requests == 0 && self.flushed && self.finished_answers == self.flushed_answers && !self.refused
    }

    /// hyper has read a head.
    fn begin_request(&mut self, headers: &HeaderMap) {
        self.open_requests += 1;
        self.line.clear();
        self.in_line = false;
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
    note: NoteUnreadable,
    /// An answer in place of hyper's own that is not written yet.
    pending: Vec<u8>,
}

impl<S> Drop for WatchedStream<S> {
    fn drop(&mut self) {
        let mut state = self.conn.lock();
        if state.is_parked || state.refused {
            state.parked = self.stream.take();
        }
    }
}

impl<S: Unpin> WatchedStream<S> {
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Takes hyper's own answer to a head that it can't read, and has another one written that says why.
    fn takes_own_answer(&mut self, bytes: &[u8]) -> bool {
        let status = bytes.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok());
        let Some(status) = status.filter(|_| bytes.ends_with(b"\r\n\r\n")) else { return false };
        let mut state = self.conn.lock();
        if !state.is_own_answer() {
            return false;
        }
        (state.refused, state.flushed) = (true, false);
        let head = UnreadableHead::new(status, &state.line);
        drop(state);
        (self.note)(&head);
        self.pending = head.answer();
        true
    }

    fn mark_unflushed<T>(&self, flushed: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.conn.lock().flushed = false;
        flushed
    }
}

impl<S: AsyncWrite + Unpin> WatchedStream<S> {
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            let written = self.stream()?.poll_write(cx, &pending);
            let written_bytes = if let Poll::Ready(Ok(written)) = &written { *written } else { 0 };
            self.pending = pending[written_bytes..].to_vec();
            if ready!(written)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
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
        if self.takes_own_answer(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let flushed = self.stream()?.poll_write(cx, bytes);
        self.mark_unflushed(flushed)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.conn.lock().is_own_answer() {
            let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
            if self.takes_own_answer(&bytes) {
                return Poll::Ready(Ok(bytes.len()));
            }
        }
        let flushed = self.stream()?.poll_write_vectored(cx, slices);
        self.mark_unflushed(flushed)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        let flushed = self.stream()?.poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            let mut state = self.conn.lock();
            state.flushed = true;
            state.flushed_answers = state.finished_answers;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
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
