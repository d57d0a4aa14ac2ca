//! A request in search of secrets: its head at once, its body as it streams.

use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bottle_policy::supervise::Found;
use bottle_scan::dlp::{self, Finding, Head, Mode, Packing, Rules, Search, Stream};
use bottle_scan::envelope::Envelopes;
use bottle_types::host::HostName;
use bottle_types::place::Where;
use bottle_types::reason::Reason;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::policy::{Added, CompiledRoute, Policy};
use super::windows::Windows;
use crate::proxy::access::StreamVerdict;
use crate::proxy::headers;
use crate::proxy::response::{BoxError, drain};
use crate::sigv4;

pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Makes the finding for the record.
pub(super) fn found(finding: Finding, at: Where) -> Found {
    Found { rule: finding.rule, at, offset: finding.offset }
}

/// The first finding in a request's head.
pub(super) fn head(search: Search<'_>, host: &str, uri: &Uri, headers: &HeaderMap) -> Option<Found> {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let headers = headers::pairs(headers);
    let (finding, at) = dlp::head(search, Head { target, host, headers: &headers })?;
    Some(found(finding, at))
}

/// The packings that the head declares of its body; a finding, if one can't be undone.
pub(super) fn packings(headers: &HeaderMap) -> Result<Vec<Packing>, Found> {
    let all = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b',');
    Packing::declared(&String::from_utf8_lossy(&all))
        .map_err(|finding| found(finding, Where::header("content-encoding")))
}

/// Tells whether a placeholder that the guest holds stands in a header.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    const MARK: &[u8] = b"bottle-placeholder-";
    value.windows(MARK.len()).any(|window| window == MARK)
}

/// The rules that a body is judged by.
pub(super) struct BodyRules {
    pub(super) policy: Arc<Policy>,
    pub(super) rules: Arc<Rules>,
    pub(super) route: usize,
    /// Where the body goes, and what was sent there before it.
    pub(super) host: HostName,
    pub(super) windows: Arc<Windows>,
}

/// How a body is read.
pub(super) enum BodyScan {
    /// As bytes, the last of which are held back.
    Stream(Box<Stream>),
    /// As messages, each of which goes once it is judged: the sender of one may wait for its answer.
    Envelopes(Box<Envelopes>),
}

impl BodyScan {
    /// As the head says that it is packed, and of what type it is; behind the end of what was sent before it.
    pub(super) fn new(packings: &[Packing], headers: &HeaderMap, before: &[u8]) -> Self {
        let enveloped = headers.get(CONTENT_TYPE).is_some_and(|kind| is_enveloped(kind.as_bytes()));
        if packings.is_empty() && enveloped {
            return Self::Envelopes(Box::default());
        }
        Self::Stream(Box::new(if packings.is_empty() { Stream::after(before) } else { Stream::packed(packings) }))
    }

    /// The end of what came, where it is judged as bytes.
    fn tail(&self) -> Vec<u8> {
        match self {
            Self::Stream(stream) => stream.tail(),
            Self::Envelopes(_) => vec![],
        }
    }

    fn push(&mut self, search: Search<'_>, bytes: &[u8], mode: Mode) -> Result<Vec<u8>, Finding> {
        match self {
            Self::Stream(stream) => stream.push(search, bytes, mode),
            Self::Envelopes(envelopes) => envelopes.push(search, bytes, mode),
        }
    }

    fn finish(&mut self, search: Search<'_>, mode: Mode) -> Result<Vec<u8>, Finding> {
        match self {
            Self::Stream(stream) => stream.finish(search, mode),
            Self::Envelopes(envelopes) => envelopes.finish(search, mode),
        }
    }

    fn warned(&mut self) -> Option<Finding> {
        match self {
            Self::Stream(stream) => stream.warned.take(),
            Self::Envelopes(envelopes) => envelopes.warned.take(),
        }
    }
}

/// Tells whether a content type is one whose messages stand in envelopes: gRPC's, or Connect's of streams.
pub(super) fn is_enveloped(kind: &[u8]) -> bool {
    kind.starts_with(b"application/grpc") || kind.starts_with(b"application/connect+")
}

/// Takes from trailers what only a head may say, and from both sides the route's credential.
fn strip_trailers(trailers: &mut HeaderMap, compiled: &CompiledRoute) {
    headers::strip_hop(trailers);
    headers::strip_door_headers(trailers);
    for name in [AUTHORIZATION, COOKIE, HOST, CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, TRAILER, X_API_KEY] {
        trailers.remove(name);
    }
    match compiled.credential.as_ref().map(|credential| &credential.added) {
        Some(Added::Header(header, _)) => drop(trailers.remove(header)),
        Some(Added::Signature(_)) => sigv4::IDENTIFYING.iter().for_each(|name| drop(trailers.remove(*name))),
        None => {}
    }
}

/// A body that goes on only as far as it is judged; a finding ends it with an error, which aborts the request.
pub(super) struct ScannedRequest<B: Body + Send + Unpin + 'static> {
    /// None once it has ended.
    body: Option<B>,
    scan: BodyScan,
    judge: BodyRules,
    /// What follows the body, judged.
    trailers: Option<HeaderMap>,
    taken: u64,
    stream_verdict: StreamVerdict,
    /// A finding that the policy only warns of.
    warned: Arc<std::sync::OnceLock<Found>>,
    /// Decides whether so many more bytes may go.
    may: MaySend,
    /// When a body that does not come is given up.
    idle_timeout: Pin<Box<Sleep>>,
}

/// Asked before bytes go.
pub(super) type MaySend = Box<dyn Fn(u64) -> bool + Send>;

/// A body may pause for so long: one that drips on for ever is no upload.
pub(super) const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a body was stopped; the reason itself is in [`StreamVerdict`].
#[derive(Debug, thiserror::Error)]
#[error("stopped by pipelock")]
pub(super) struct BodyStopped;

impl<B> ScannedRequest<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    pub(super) fn new(
        body: B,
        scan: BodyScan,
        judge: BodyRules,
        stream_verdict: StreamVerdict,
        warned: Arc<std::sync::OnceLock<Found>>,
        may: MaySend,
    ) -> Self {
        let body = (!body.is_end_stream()).then_some(body);
        let idle_timeout = Box::pin(tokio::time::sleep(BODY_IDLE_TIMEOUT));
        Self { body, scan, judge, trailers: None, taken: 0, stream_verdict, warned, may, idle_timeout }
    }

    /// Judges what follows the body as a head is judged, and keeps it; the finding, if it may not go.
    fn judge_trailers(&mut self, search: Search<'_>, mode: Mode, mut trailers: HeaderMap) -> Option<Found> {
        strip_trailers(&mut trailers, &self.judge.policy.routes[self.judge.route]);
        if let Some(finding) = search.find(&headers::lines(&trailers)) {
            let found = found(finding, Where::Trailer);
            if found.rule.is_always_refused() || mode != Mode::Warn {
                return Some(found);
            }
            let _ = self.warned.set(found);
        }
        self.trailers = (!trailers.is_empty()).then_some(trailers);
        None
    }

    /// Counts bytes that have come; the reason, if they may not go.
    fn refuses(&mut self, more: u64, max_bytes: u64) -> Option<Reason> {
        self.taken += more;
        if self.taken > max_bytes {
            return Some(Reason::TooLarge);
        }
        (!(self.may)(more)).then_some(Reason::Limit)
    }

    /// Keeps the end of what was sent, for the search of the next request to the host.
    fn remember_end(&self, search: Search<'_>) {
        // What was let go in spite of a finding is no part of the next one.
        let tail = self.scan.tail();
        let tail = if search.find(&tail).is_some() { vec![] } else { tail };
        self.judge.windows.sent(&self.judge.host, &tail);
    }

    fn stop(&mut self, reason: Reason, found: Option<Found>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let _ = self.stream_verdict.set((reason, found));
        if let Some(body) = self.body.take() {
            drain(body);
        }
        Poll::Ready(Some(Err(BodyStopped.into())))
    }
}

impl<B> Body for ScannedRequest<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let (policy, rules) = (Arc::clone(&this.judge.policy), Arc::clone(&this.judge.rules));
        let compiled = &policy.routes[this.judge.route];
        let (search, mode) = (policy.search(compiled, &rules), compiled.mode.unwrap_or(Mode::Block));
        loop {
            let Some(body) = this.body.as_mut() else {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            let judged = match Pin::new(body).poll_frame(cx) {
                Poll::Pending if this.idle_timeout.as_mut().poll(cx).is_ready() => {
                    return this.stop(Reason::Slow, None);
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => {
                    this.body = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let (data, trailers) = match frame.into_data() {
                        Ok(data) => (data, None),
                        Err(frame) => (Bytes::new(), frame.into_trailers().ok()),
                    };
                    let more = data.len() + trailers.as_ref().map_or(0, |trailers| headers::lines(trailers).len());
                    if let Some(reason) = this.refuses(more as u64, compiled.max_bytes) {
                        return this.stop(reason, None);
                    }
                    this.idle_timeout.as_mut().reset(Instant::now() + BODY_IDLE_TIMEOUT);
                    match trailers {
                        None => this.scan.push(search, &data, mode),
                        Some(trailers) => {
                            if let Some(found) = this.judge_trailers(search, mode, trailers) {
                                return this.stop(Reason::Dlp, Some(found));
                            }
                            this.body = None;
                            this.scan.finish(search, mode)
                        }
                    }
                }
                Poll::Ready(None) => {
                    this.body = None;
                    this.scan.finish(search, mode)
                }
            };
            if let Some(finding) = this.scan.warned() {
                let _ = this.warned.set(found(finding, Where::Body));
            }
            if this.body.is_none() && judged.is_ok() && this.taken > 0 {
                this.remember_end(search);
            }
            match judged {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(finding) => {
                    let found = found(finding, Where::Body);
                    return this.stop(Reason::Dlp, Some(found));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.trailers.is_none()
    }

    /// Unknown, because bytes are held back; a length that the sender gave stays in its header.
    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// An address as a log may show it.
pub(super) fn shown(address: IpAddr) -> String {
    address.to_canonical().to_string()
}
