//! Answers on their way back: how large they may be, and what is said in them.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bottle_policy::pipelock::Action;
use bottle_policy::supervise::Found;
use bottle_scan::dlp::{Finding, Mode, Packing, Stream};
use bottle_scan::websocket::Talk;
use bottle_types::place::Where;
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::active::ActivePolicy;
use super::policy::{CompiledRoute, Policy};
use super::redact::RedactedBody;
use super::refusal::not_let_in;
use super::scan;
use crate::proxy::access::{AccessLog, StreamVerdict};
use crate::proxy::headers;
use crate::proxy::response::{Body, BoxError, boxed, refuse};
use crate::proxy::trailers::MapTrailers;

impl ActivePolicy {
    /// Makes an answer fit for the guest: its head scrubbed, its body looked at, the route's credential in neither.
    pub(super) async fn scrubbed(
        &self,
        route: usize,
        response: Response<Incoming>,
        log: &mut AccessLog,
    ) -> Response<Body> {
        if let Some(coding) = unknown_coding(response.headers()) {
            log.stop(AccessVerdict::Error, Reason::Upstream);
            let message = format!(
                "upstream's answer has the transfer coding `{coding}`, which no request of the doors asks for; they undo \
                 `chunked` alone"
            );
            return refuse(StatusCode::BAD_GATEWAY, Reason::Upstream, message);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            log.stop(AccessVerdict::Error, Reason::Upstream);
            let message =
                "upstream switched to another protocol, which no request of the doors asks for but a WebSocket's";
            return refuse(StatusCode::BAD_GATEWAY, Reason::Upstream, message);
        }
        let looked = self.looked_at(route, response, log).await;
        let credential = self.policy.routes[route].credential.as_ref();
        let looked = match credential.and_then(|credential| credential.sent.as_ref()) {
            Some(secret) => looked.map(|body| boxed(RedactedBody::new(body, secret))),
            None => looked,
        };
        let policy = Arc::clone(&self.policy);
        looked.map(|body| boxed(MapTrailers::new(body, move |trailers| scrubbed_trailers(&policy, trailers))))
    }

    async fn looked_at(&self, route: usize, response: Response<Incoming>, log: &mut AccessLog) -> Response<Body> {
        let compiled = &self.policy.routes[route];
        let response = self.scrubbed_head(compiled, response.map(boxed));
        let scanning = &self.policy.pipelock.response_scanning;
        let (mut parts, body) = response.into_parts();
        let too_large = scanning.max_body_bytes.is_some_and(|most| body.size_hint().lower() > most.0);
        let looked = if too_large {
            Err((Reason::AnswerTooLarge, None))
        } else {
            match ScannedResponse::new(body, &parts.headers, &self.policy, compiled.model, log) {
                Ok(body) => body.begun().await,
                Err(found) => Err((Reason::Answer, Some(found))),
            }
        };
        match looked {
            Ok(body) => {
                // A length would have to be kept, and what is cut off can't.
                if !body.is_whole() {
                    parts.headers.remove(CONTENT_LENGTH);
                }
                Response::from_parts(parts, boxed(body))
            }
            Err((reason, found)) => {
                log.stop(AccessVerdict::Block, reason);
                let answer = not_let_in(reason, found.as_ref());
                log.entry.finding = found;
                answer
            }
        }
    }

    /// Removes from an answer's head what is for one hop, a door's own, or a credential.
    pub(super) fn scrubbed_head(&self, compiled: &CompiledRoute, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        // RFC 9112, 6.3: the chunks decide, and whoever passes them on removes the length.
        if headers.contains_key(TRANSFER_ENCODING) {
            headers.remove(CONTENT_LENGTH);
        }
        headers::strip_hop(headers);
        headers::strip_door_headers(headers);
        if compiled.credential.is_some() {
            // A cookie that upstream gives to the credential's owner is a credential, too.
            headers.remove(SET_COOKIE);
        }
        mask_values(&self.policy, headers);
        *response.version_mut() = Version::HTTP_11;
        response
    }
}

/// Overwrites the values of secrets.
fn mask_values(policy: &Policy, headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if policy.known.find(value.as_bytes()).is_some() {
            *value = HeaderValue::from_bytes(&policy.known.mask(value.as_bytes()))
                .unwrap_or(HeaderValue::from_static("***"));
        }
    }
}

/// Scrubs the trailers of an answer as its head is scrubbed.
fn scrubbed_trailers(policy: &Policy, mut trailers: HeaderMap) -> HeaderMap {
    headers::strip_hop(&mut trailers);
    headers::strip_door_headers(&mut trailers);
    trailers.remove(SET_COOKIE);
    mask_values(policy, &mut trailers);
    trailers
}

/// A transfer coding that is not undone on the way; `strip_hop` takes its name away.
fn unknown_coding(headers: &HeaderMap) -> Option<&str> {
    let codings = headers.get_all(TRANSFER_ENCODING).iter().flat_map(|value| value.to_str().unwrap_or("?").split(','));
    let known = |coding: &&str| coding.eq_ignore_ascii_case("chunked") || coding.eq_ignore_ascii_case("identity");
    codings.map(str::trim).find(|coding| !known(coding))
}

/// Whether an answer is something that an agent reads: a page, what an API or a tool says; not a file of another kind.
fn is_read(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return true };
    let kind = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let named: [&[u8]; 5] = [
        b"application/json",
        b"application/xml",
        b"application/x-ndjson",
        b"application/javascript",
        b"application/yaml",
    ];
    kind.starts_with(b"text/") || kind.ends_with(b"+json") || kind.ends_with(b"+xml") || named.contains(&&kind[..])
}

/// The body of an answer, scanned as it passes.
pub(super) struct ScannedResponse {
    body: Body,
    policy: Arc<Policy>,
    taken: u64,
    mode: ScanMode,
    stream_verdict: StreamVerdict,
    noted: Arc<OnceLock<Found>>,
    /// The end, held back until all is judged.
    ended: bool,
    /// What follows it.
    trailers: Option<HeaderMap>,
    /// The first frame that may go on, if it was waited for.
    first: Option<Result<Frame<Bytes>, BoxError>>,
}

/// An answer that is held back gets so long to show its first bytes before its head goes without them.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);

/// Of an answer that nobody asked to look at, so much is read: more than an agent takes in at once.
const MAX_NOTED_BYTES: u64 = 4 << 20;

/// How an answer is scanned.
enum ScanMode {
    /// Only its size counts.
    Size,
    /// As it passes; findings are noted.
    Along(Box<Stream>),
    /// An event stream, which can't be held back: piece by piece, each with what came before.
    Pieces(Talk),
    /// Held back as far as it is not judged.
    Held(Box<Stream>),
}

#[derive(Debug, thiserror::Error)]
#[error("the answer was cut off by pipelock: {0}")]
struct AnswerCutOff(String);

impl ScannedResponse {
    /// Looks at an answer as the policy says; what it is packed in can be unknown, which is a finding.
    pub(super) fn new(
        body: Body,
        headers: &HeaderMap,
        policy: &Arc<Policy>,
        model: bool,
        log: &AccessLog,
    ) -> Result<Self, Found> {
        let action = if model { Action::Off } else { policy.pipelock.response_scanning.action };
        let packings = if model { Ok(vec![]) } else { scan::packings(headers) };
        // Whoever waits for an event, or for the message that answers its own, can't be kept waiting.
        let events = headers.get(CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes();
            kind.starts_with(b"text/event-stream") || scan::is_enveloped(kind)
        });
        let stream = |packings: Vec<Packing>| Box::new(Stream::packed(&packings));
        let mode = match (action, packings) {
            (Action::Off, Ok(packings)) if !model && is_read(headers) && !body.is_end_stream() => {
                ScanMode::Along(stream(packings))
            }
            (Action::Off, _) => ScanMode::Size,
            (Action::Warn, packings) => {
                if let Err(found) = &packings {
                    let _ = log.noted.set(found.clone());
                }
                ScanMode::Along(stream(packings.unwrap_or_default()))
            }
            (Action::Block, Ok(packings)) if events && packings.is_empty() => ScanMode::Pieces(Talk::default()),
            (Action::Block, packings) => ScanMode::Held(stream(packings?)),
        };
        Ok(Self {
            body,
            policy: Arc::clone(policy),
            taken: 0,
            mode,
            stream_verdict: Arc::clone(&log.stream_verdict),
            noted: Arc::clone(&log.noted),
            ended: false,
            trailers: None,
            first: None,
        })
    }

    /// Waits for what may go on first of an answer that is held back: where nothing may, there is still time to say why.
    pub(super) async fn begun(mut self) -> Result<Self, (Reason, Option<Found>)> {
        if matches!(self.mode, ScanMode::Held(_))
            && let Ok(Some(first)) = timeout(FIRST_BYTES_TIMEOUT, self.frame()).await
        {
            if let (Err(_), Some(stopped)) = (&first, self.stream_verdict.get()) {
                return Err(stopped.clone());
            }
            self.first = Some(first);
        }
        Ok(self)
    }

    /// Judges what stands behind the body, as the body is judged; an error is a finding that ends the answer.
    fn judge_trailers(&mut self, trailers: HeaderMap) -> Result<(), Finding> {
        let found = match self.mode {
            ScanMode::Size => None,
            _ => self.policy.answers().find(&headers::lines(&trailers)),
        };
        match (found, &self.mode) {
            (Some(finding), ScanMode::Along(_)) => drop(self.noted.set(scan::found(finding, Where::Trailer))),
            (Some(finding), _) => return Err(finding),
            (None, _) => {}
        }
        self.trailers = Some(trailers);
        Ok(())
    }

    /// Whether all of it goes on as it is, and as it came.
    fn is_whole(&self) -> bool {
        let cuts = self.policy.pipelock.response_scanning.max_body_bytes.is_some();
        !cuts && matches!(self.mode, ScanMode::Size | ScanMode::Along(_))
    }

    fn cut(&mut self, reason: Reason, found: Option<Found>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let why = found.as_ref().map_or_else(|| "it is too large".to_owned(), |found| found.rule.to_string());
        let _ = self.stream_verdict.set((reason, found));
        self.ended = true;
        Poll::Ready(Some(Err(AnswerCutOff(why).into())))
    }

    /// Judges a piece, or the end, and gives the bytes that may go on.
    fn judge(&mut self, piece: Option<&Bytes>) -> Result<Bytes, Finding> {
        let search = self.policy.answers();
        match &mut self.mode {
            ScanMode::Size => Ok(piece.cloned().unwrap_or_default()),
            ScanMode::Along(stream) => {
                let pushed = match piece {
                    Some(piece) => stream.push(search, piece, Mode::Warn),
                    None => stream.finish(search, Mode::Warn),
                };
                let seen = pushed.err().or(stream.warned.take());
                if let Some(finding) = seen {
                    // Of an answer that nobody asked to look at, what can't be looked into is no news.
                    if !(finding.rule.is_always_refused() && self.policy.only_notes()) {
                        let _ = self.noted.set(scan::found(finding, Where::Answer));
                    }
                    self.mode = ScanMode::Size;
                }
                Ok(piece.cloned().unwrap_or_default())
            }
            ScanMode::Pieces(talk) => match piece {
                Some(piece) => talk.judge(search, piece, Mode::Block).map(|_| piece.clone()),
                None => Ok(Bytes::new()),
            },
            ScanMode::Held(stream) => match piece {
                Some(piece) => stream.push(search, piece, Mode::Block).map(Bytes::from),
                None => stream.finish(search, Mode::Block).map(Bytes::from),
            },
        }
    }
}

impl HttpBody for ScannedResponse {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        loop {
            if this.ended {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let judged = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        this.taken += data.len() as u64;
                        let most = this.policy.pipelock.response_scanning.max_body_bytes;
                        if most.is_some_and(|most| this.taken > most.0) {
                            return this.cut(Reason::AnswerTooLarge, None);
                        }
                        if this.policy.only_notes() && this.taken > MAX_NOTED_BYTES {
                            this.mode = ScanMode::Size;
                        }
                        let judged = this.judge(Some(&data));
                        // Whoever has as many bytes as the head says does not ask for the end.
                        if judged.is_ok() && this.is_whole() && this.body.is_end_stream() {
                            this.ended = true;
                            let _ = this.judge(None);
                        }
                        judged
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        this.judge_trailers(trailers).and_then(|()| {
                            this.ended = true;
                            this.judge(None)
                        })
                    }
                },
                Poll::Ready(None) => {
                    this.ended = true;
                    this.judge(None)
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            };
            match judged {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(finding) => return this.cut(Reason::Answer, Some(scan::found(finding, Where::Answer))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none()
            && self.trailers.is_none()
            && (self.ended || (matches!(self.mode, ScanMode::Size) && self.body.is_end_stream()))
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_whole() { self.body.size_hint() } else { SizeHint::default() }
    }
}
