//! The access log, the run record's line for each request: begun with its head, written when its answer has ended.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::future::Future as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bottle_policy::supervise::Found;
use bottle_types::door::Door;
use bottle_types::reason::Reason;
use bottle_wire::access::{Access, AccessVerdict};
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::time::Sleep;

use super::response::{Body, BoxError, boxed, drain};
use crate::common::Error;

/// A file of JSON lines that is only ever appended to, a write a line.
pub(crate) struct LogFile {
    file: File,
    path: PathBuf,
}

impl LogFile {
    /// Opens the file, and makes it where there is none.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, Error> {
        let make = |error| Error::Make { path: path.to_owned(), error };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(make)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(make)?;
        Ok(Arc::new(Self { file, path: path.to_owned() }))
    }

    /// Appends one line.
    pub(crate) fn append(&self, value: &impl Serialize) {
        let Ok(mut line) = serde_json::to_vec(value) else { return };
        line.push(b'\n');
        if let Err(error) = (&self.file).write_all(&line) {
            tracing::error!("failed to write {}: {error}", self.path.display());
        }
    }
}

/// Verdict on a body under way: the reason, and the finding if a scan stopped it.
pub(crate) type StreamVerdict = Arc<OnceLock<(Reason, Option<Found>)>>;

/// In place of a path in which something was found.
pub(crate) const WITHHELD: &str = "(withheld)";

/// Access log of one request; its line, if it gets one, is written when it is dropped.
pub(crate) struct AccessLog {
    pub(crate) entry: Access,
    /// Bytes of the request's body so far.
    pub(crate) sent: Arc<AtomicU64>,
    /// Set by whoever stops the request's body.
    pub(crate) stream_verdict: StreamVerdict,
    /// A finding that stops nothing.
    pub(crate) noted: Arc<OnceLock<Found>>,
    /// The request's body broke off or was malformed.
    pub(crate) broken: Arc<AtomicBool>,
    /// It is the self-test's, which is in the run's cases, and no line.
    pub(crate) is_self_test: bool,
    started: Instant,
    log_file: Arc<LogFile>,
}

impl AccessLog {
    /// Begins the line of a request.
    pub(crate) fn new(
        log_file: &Arc<LogFile>,
        door: Door,
        id: String,
        method: &str,
        host: &str,
        port: u16,
        path: &str,
    ) -> Self {
        let entry = Access {
            time: timestamp(),
            id,
            door,
            method: method.to_owned(),
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            route: None,
            verdict: AccessVerdict::Allow,
            reason: None,
            finding: None,
            proposal: None,
            status: 0,
            bytes_out: 0,
            bytes_in: 0,
            first_ms: 0,
            ms: 0,
            credential: None,
            not_inspected: false,
        };
        Self {
            entry,
            sent: Arc::default(),
            stream_verdict: Arc::default(),
            noted: Arc::default(),
            broken: Arc::default(),
            is_self_test: false,
            started: Instant::now(),
            log_file: Arc::clone(log_file),
        }
    }

    /// Notes that the request goes no further, and why.
    pub(crate) fn stop(&mut self, verdict: AccessVerdict, reason: Reason) {
        self.entry.verdict = verdict;
        self.entry.reason = Some(reason.to_string());
    }

    /// The same, with the rule's name behind a colon.
    pub(crate) fn stop_by(&mut self, verdict: AccessVerdict, reason: Reason, rule: &str) {
        self.entry.verdict = verdict;
        self.entry.reason = Some(format!("{reason}: {rule}"));
    }

    /// Notes that an answer, or a connection that became something else, broke off.
    pub(crate) fn cut_off(&mut self, error: &impl Display) {
        self.fail(Reason::CutOff, error);
    }

    /// Notes what went wrong, with the error behind a colon.
    pub(crate) fn fail(&mut self, reason: Reason, error: &impl Display) {
        self.entry.verdict = AccessVerdict::Error;
        self.entry.reason = Some(format!("{reason}: {error}"));
    }

    /// Keeps the URL out of every log: something was found in it.
    pub(crate) fn withhold(&mut self) {
        self.entry.path = WITHHELD.to_owned();
    }

    /// Tells whether the URL is in no log.
    pub(crate) fn is_withheld(&self) -> bool {
        self.entry.path == WITHHELD
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Passes the answer on, and writes the line when the answer is over.
    pub(crate) fn answer(mut self, response: Response<Body>) -> Response<Body> {
        self.entry.status = response.status().as_u16();
        self.entry.first_ms = self.elapsed();
        response.map(|body| boxed(LoggedBody { body, log: self, failed: None }))
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if self.is_self_test {
            return;
        }
        if let Some((reason, found)) = self.stream_verdict.get()
            && self.entry.verdict == AccessVerdict::Allow
        {
            self.entry.verdict = AccessVerdict::Block;
            self.entry.reason = Some(reason.to_string());
            self.entry.finding.clone_from(found);
        }
        if self.entry.finding.is_none() {
            self.entry.finding = self.noted.get().cloned();
        }
        self.entry.bytes_out = self.sent.load(Ordering::Relaxed);
        self.entry.ms = self.elapsed();
        self.log_file.append(&self.entry);
    }
}

/// The time as the run record writes it.
fn timestamp() -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::now_utc().format(FORMAT).unwrap_or_default()
}

/// An answer's body that counts.
struct LoggedBody {
    body: Body,
    log: AccessLog,
    /// The error that ends the body, once that is sent or its time is over.
    failed: Option<(BoxError, Pin<Box<Sleep>>)>,
}

/// What was given before an error gets so long to be sent: a client that reads has it by then.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some((_, time)) = &mut self.failed {
            ready!(time.as_mut().poll(cx));
            return Poll::Ready(self.failed.take().map(|(error, _)| Err(error)));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.log.entry.bytes_in += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // A body that a scan stopped has its reason already.
                if self.log.entry.verdict == AccessVerdict::Allow && self.log.stream_verdict.get().is_none() {
                    self.log.cut_off(&error);
                }
                // An error ends the connection at once, with what it has not sent, the head maybe; nothing to do yet makes it send that.
                self.failed = Some((error, Box::pin(tokio::time::sleep(FLUSH_TIMEOUT))));
                self.poll_frame(cx)
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body that counts. What is left of it when nobody wants it any more is read to its end, or up to a bound: under the
/// hands of a sender that is cut off, the answer may be lost.
pub(crate) struct CountedBody<B: RequestBody> {
    body: Option<B>,
    sent: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
}

/// Any body of a request.
pub(crate) trait RequestBody: http_body::Body<Data = Bytes> + Send + Unpin + 'static {}
impl<B: http_body::Body<Data = Bytes> + Send + Unpin + 'static> RequestBody for B {}

impl<B: RequestBody> CountedBody<B> {
    pub(crate) fn new(body: B, log: &AccessLog) -> Self {
        Self { body: Some(body), sent: Arc::clone(&log.sent), broken: Arc::clone(&log.broken) }
    }
}

impl<B: RequestBody> Drop for CountedBody<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            drain(body);
        }
    }
}

impl<B: RequestBody> http_body::Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent.fetch_add(frame.data_ref().map_or(0, |data| data.len() as u64), Ordering::Relaxed);
            }
            Poll::Ready(Some(Err(_))) => {
                self.broken.store(true, Ordering::Relaxed);
                self.body = None;
            }
            Poll::Ready(None) => self.body = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
