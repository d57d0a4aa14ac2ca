//! A request in search of secrets: its head at once, its body as it streams.

use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bottle_policy::supervise::Found;
use bottle_scan::dlp::{self, Finding, Head, Mode, Packing, Rules, Search, Stream};
use bottle_types::reason::Reason;
use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::policy::Policy;
use crate::proxy::access::StreamVerdict;
use crate::proxy::headers;
use crate::proxy::response::{BoxError, drain};

/// Makes the finding for the record.
pub(super) fn found(finding: Finding, at: impl Into<String>) -> Found {
    Found { rule: finding.rule, at: at.into(), offset: finding.offset }
}

/// The first finding in a request's head, and whether it is of a known secret.
pub(super) fn head(search: Search<'_>, host: &str, uri: &Uri, headers: &HeaderMap) -> Option<(bool, Found)> {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let headers = headers::pairs(headers);
    let (finding, at) = dlp::head(search, Head { target, host, headers: &headers })?;
    Some((finding.known, found(finding, at)))
}

/// The packings that the head declares of its body; a finding, if one can't be undone.
pub(super) fn packings(headers: &HeaderMap) -> Result<Vec<Packing>, Found> {
    let all = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b',');
    Packing::declared(&String::from_utf8_lossy(&all)).map_err(|finding| found(finding, "header content-encoding"))
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
}

/// A body that goes on only as far as it is judged; a finding ends it with an error, which aborts the request.
pub(super) struct ScannedRequest<B: Body + Send + Unpin + 'static> {
    /// None once it has ended.
    body: Option<B>,
    stream: Stream,
    judge: BodyRules,
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
        packings: &[Packing],
        judge: BodyRules,
        stream_verdict: StreamVerdict,
        warned: Arc<std::sync::OnceLock<Found>>,
        may: MaySend,
    ) -> Self {
        let body = (!body.is_end_stream()).then_some(body);
        let idle_timeout = Box::pin(tokio::time::sleep(BODY_IDLE_TIMEOUT));
        Self { body, stream: Stream::packed(packings), judge, taken: 0, stream_verdict, warned, may, idle_timeout }
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
            let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
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
                    // Trailers are dropped: nothing may follow the scan.
                    let Ok(data) = frame.into_data() else { continue };
                    this.taken += data.len() as u64;
                    if this.taken > compiled.max_bytes {
                        return this.stop(Reason::TooLarge, None);
                    }
                    if !(this.may)(data.len() as u64) {
                        return this.stop(Reason::Limit, None);
                    }
                    this.idle_timeout.as_mut().reset(Instant::now() + BODY_IDLE_TIMEOUT);
                    this.stream.push(search, &data, mode)
                }
                Poll::Ready(None) => {
                    this.body = None;
                    this.stream.finish(search, mode)
                }
            };
            if let Some(finding) = this.stream.warned.take() {
                let _ = this.warned.set(found(finding, "body"));
            }
            match judged {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(finding) => {
                    let found = found(finding, "body");
                    return this.stop(Reason::Dlp, Some(found));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    /// Unknown, because bytes are held back; a length that the sender gave stays in its header.
    fn size_hint(&self) -> SizeHint {
        if self.body.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// An address as a log may show it.
pub(super) fn shown(address: IpAddr) -> String {
    address.to_canonical().to_string()
}
