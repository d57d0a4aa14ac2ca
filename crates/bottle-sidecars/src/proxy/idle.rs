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
const HEAD: Duration = Duration::from_secs(60);
/// Head of a request at most.
const HEAD_BYTES: usize = 256 << 10;
/// A connection on which nothing has happened for so long is put to rest.
const REST: Duration = Duration::from_millis(100);
/// One that is busy with the same request is looked at again after this time at the latest.
const LATEST: Duration = Duration::from_secs(5);

/// Serves a connection to its end.
pub(super) async fn serve<S, F, A>(stream: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<Body>, Infallible>>,
{
    let place = Arc::new(Place(Mutex::default()));
    let mut next = Some((stream, None));
    while let Some((stream, first)) = next.take() {
        let watched = Watched { stream: Some(stream), first, place: Arc::clone(&place) };
        // On the heap, so that it goes away while the connection rests.
        Box::pin(awake(watched, &place, &answer)).await;
        let Some(mut stream) = place.lock().resting.take() else { return };
        let mut first = [0];
        match tokio::time::timeout(HEAD, stream.read(&mut first)).await {
            Ok(Ok(1)) => next = Some((stream, Some(first[0]))),
            // It has ended: so does this side, if the other still listens.
            Ok(Ok(_)) => drop(tokio::time::timeout(REST, stream.shutdown()).await),
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Serves until the connection is over, or rests.
async fn awake<S, F, A>(watched: Watched<S>, place: &Arc<Place<S>>, answer: &F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<Body>, Infallible>>,
{
    *place.lock() = State::default();
    let service = service_fn(|request: Request<Incoming>| {
        place.lock().asked(request.headers());
        let answered = answer(request);
        let told = Told(Arc::clone(place));
        async move { answered.await.map(|response| response.map(|body| Given { body, _told: told })) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(watched), service)
        .with_upgrades();
    let (mut served, mut tick) = (pin!(served), pin!(tokio::time::sleep(REST)));
    let (mut before, mut pause) = (0, REST);
    let served = poll_fn(|cx| {
        if let Poll::Ready(served) = served.as_mut().poll(cx) {
            return Poll::Ready(served);
        }
        while tick.as_mut().poll(cx).is_ready() {
            let mut state = place.lock();
            if state.is_idle() && state.answers == before {
                state.rests = true;
                return Poll::Ready(Ok(()));
            }
            pause = if state.answers == before { (pause * 2).min(LATEST) } else { REST };
            before = state.answers;
            tick.as_mut().reset(Instant::now() + pause);
        }
        Poll::Pending
    });
    if let Err(error) = served.await {
        tracing::debug!("a connection of the guest ended: {error}");
    }
}

/// What hyper has been given of a connection, and has done with it.
struct Place<S>(Mutex<State<S>>);

struct State<S> {
    /// Where the stream goes when hyper is let go.
    resting: Option<S>,
    rests: bool,
    /// How much there is of an empty line, which ends a head; none behind the head.
    head: Option<Line>,
    /// Of the head, so much has been read; then of what is behind it.
    read: u64,
    /// How long the body is; none if its length is not said.
    body: Option<u64>,
    /// Requests that are not answered to the end.
    open: u32,
    answers: u32,
    /// hyper wants more than there is.
    hungry: bool,
    written: bool,
}

/// The end of a head: a line end, and another one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Begun,
    Ended,
    Return,
}

impl<S> Default for State<S> {
    fn default() -> Self {
        Self {
            resting: None,
            rests: false,
            head: Some(Line::Begun),
            read: 0,
            body: None,
            open: 0,
            answers: 0,
            hungry: false,
            written: true,
        }
    }
}

impl<S> Place<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> State<S> {
    /// Nothing of a request is anywhere in hyper, nor of an answer.
    fn is_idle(&self) -> bool {
        let whole = match self.head {
            Some(_) => self.read == 0,
            None => self.open == 0 && self.body == Some(self.read),
        };
        whole && self.hungry && self.written
    }

    /// hyper was given these bytes.
    fn took(&mut self, mut bytes: &[u8]) {
        if self.head.is_none() && self.is_idle() {
            (self.head, self.read, self.body) = (Some(Line::Begun), 0, None);
        }
        self.hungry = false;
        while let (Some(line), [byte, rest @ ..]) = (self.head, bytes) {
            self.read += 1;
            bytes = rest;
            self.head = match (byte, line) {
                (b'\n', Line::Ended | Line::Return) => {
                    self.read = 0;
                    None
                }
                (b'\n', Line::Begun) => Some(Line::Ended),
                (b'\r', Line::Ended) => Some(Line::Return),
                _ => Some(Line::Begun),
            };
        }
        self.read += bytes.len() as u64;
    }

    /// hyper has read a head.
    fn asked(&mut self, headers: &HeaderMap) {
        self.open += 1;
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        self.body = match (headers.contains_key(TRANSFER_ENCODING), lengths.next(), lengths.next()) {
            (false, None, _) => Some(0),
            (false, Some(length), None) => length.to_str().ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
    }
}

/// A connection whose bytes are watched.
struct Watched<S> {
    /// There until it is dropped.
    stream: Option<S>,
    /// The byte that ended its rest.
    first: Option<u8>,
    place: Arc<Place<S>>,
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        let mut state = self.place.lock();
        if state.rests {
            state.resting = self.stream.take();
        }
    }
}

impl<S: Unpin> Watched<S> {
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.place.lock().written = false;
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
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
        let mut state = self.place.lock();
        match read {
            Poll::Pending => state.hungry = true,
            Poll::Ready(_) => state.took(&buf.filled()[before..]),
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream()?.poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.place.lock().written = true;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

/// Tells when it is dropped that an answer is over.
struct Told<S>(Arc<Place<S>>);

impl<S> Drop for Told<S> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.open = state.open.saturating_sub(1);
        state.answers = state.answers.wrapping_add(1);
    }
}

/// The body of an answer.
struct Given<S> {
    body: Body,
    _told: Told<S>,
}

impl<S> http_body::Body for Given<S> {
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
