//! Requests on routes that ask: each is read to its end and judged whole, and if something is found held until a person has
//! decided. Nothing of it goes before that: an upstream that has half of a request would not wait.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bottle_policy::supervise::Found;
use bottle_policy::supervise::{Held, MOST_FINDINGS};
use bottle_scan::dlp::{Mode, Packing, Rules, Stream};
use bottle_types::place::Where;
use bottle_types::reason::Reason;
use bottle_types::rule::Rule;
use bottle_wire::access::AccessVerdict;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::active::ActivePolicy;
use super::approval_client::{ApprovalOutcome, Digest};
use super::policy::CompiledRoute;
use super::refusal::{blocked, refused, stopped, too_large};
use super::scan::{self, BODY_IDLE_TIMEOUT};
use crate::proxy::access::AccessLog;
use crate::proxy::response::{Body, BoxError, boxed, drain, full, refuse};
use crate::proxy::target::RequestTarget;

/// A larger body is not held: it is judged on its way, and a finding in it is blocked.
pub(super) const MAX_HELD_BYTES: usize = 1 << 20;

/// A request's body, read.
enum ReadBody<B> {
    /// To its end.
    Whole(Bytes),
    /// It is larger than what is held.
    Large(Bytes, B),
    /// It is not sent.
    Stopped(Response<Body>),
}

/// All findings in a request, and the rules that find nothing more in it.
struct AllFindings {
    all: Vec<Found>,
    rest: Arc<Rules>,
}

impl ActivePolicy {
    /// Answers a request of a route that asks.
    pub(super) async fn send_asking<B>(
        self: &Arc<Self>,
        target: &RequestTarget,
        route: usize,
        packings: &[Packing],
        request: Request<B>,
        log: &mut AccessLog,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let compiled = &self.policy.routes[route];
        let (parts, body) = request.into_parts();
        // Released when the request is on its way, or refused.
        let slot = self.approvals.slot();
        let largest = if slot.is_some() { MAX_HELD_BYTES } else { 0 };
        let (complete, body) = match read(body, largest, compiled.max_bytes, log).await {
            ReadBody::Whole(bytes) => (Some(bytes.clone()), full(bytes)),
            ReadBody::Large(first, rest) => (None, boxed(Resumed { first: Some(first), rest })),
            ReadBody::Stopped(answer) => return answer,
        };
        let found =
            match self.findings(target, compiled, &parts, packings, complete.as_deref().unwrap_or_default(), log) {
                Ok(found) => found,
                Err(found) => return block(found, body, log),
            };
        let Some(first) = found.all.first().cloned() else {
            return self.send(target, route, packings, found.rest, Request::from_parts(parts, body), log).await;
        };
        let (Some(complete), Some(_)) = (complete, &slot) else { return block(first, body, log) };
        let digest = digest(target, &parts, &found.all, &complete);
        let question = question(target, &parts, &found.all, log);
        // Whoever gives up leaves a line that says so.
        block_line(&first, log);
        match self.approvals.ask(digest, question).await {
            ApprovalOutcome::Refused(id, why) => {
                log.entry.proposal = id;
                refused(&found.all, &why, id)
            }
            ApprovalOutcome::Approved(id) => {
                log.entry.proposal = Some(id);
                (log.entry.verdict, log.entry.reason) = (AccessVerdict::Allow, None);
                self.send(target, route, packings, found.rest, Request::from_parts(parts, body), log).await
            }
        }
    }

    /// Every rule that finds something, with its first place; an error is what nobody is asked about.
    fn findings(
        &self,
        target: &RequestTarget,
        compiled: &CompiledRoute,
        parts: &Parts,
        packings: &[Packing],
        body: &[u8],
        log: &mut AccessLog,
    ) -> Result<AllFindings, Found> {
        let mut all: Vec<Found> = vec![];
        loop {
            let rules = self.policy.rules_but(&target.host, &all).map_err(|error| {
                tracing::error!("failed to leave DLP rules out: {error}");
                all.first().cloned().unwrap_or_else(|| unreadable("the rules"))
            })?;
            let search = self.policy.search(compiled, &rules);
            let in_head = scan::head(search, target.host.as_str(), &parts.uri, &parts.headers);
            let in_body = || {
                if body.is_empty() {
                    return None;
                }
                let mut stream = Stream::packed(packings);
                let judged = stream.push(search, body, Mode::Block).and_then(|_| stream.finish(search, Mode::Block));
                judged.err().map(|finding| scan::found(finding, Where::Body))
            };
            let found = in_head.or_else(in_body);
            // `headers` is what several parts say together, the URL perhaps among them.
            if found.as_ref().is_some_and(|found| matches!(found.at, Where::Url | Where::Headers)) {
                log.withhold();
            }
            match found {
                None => return Ok(AllFindings { all, rest: rules }),
                // A name of a host has been told when it is resolved, and could not be shown.
                Some(found)
                    if found.rule.is_always_refused() || found.at == Where::Host || all.len() == MOST_FINDINGS =>
                {
                    return Err(found);
                }
                Some(found) => all.push(found),
            }
        }
    }
}

fn unreadable(what: &str) -> Found {
    Found { rule: Rule::unreadable(what), at: Where::Request, offset: 0 }
}

/// Reads a body as far as it may be held.
async fn read<B>(mut body: B, largest: usize, max: u64, log: &mut AccessLog) -> ReadBody<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let mut taken = vec![];
    loop {
        if taken.len() > largest {
            return ReadBody::Large(taken.into(), body);
        }
        if body.is_end_stream() {
            return ReadBody::Whole(taken.into());
        }
        match timeout(BODY_IDLE_TIMEOUT, body.frame()).await {
            Ok(None) => return ReadBody::Whole(taken.into()),
            Ok(Some(Ok(frame))) => {
                // Trailers are dropped: nothing may follow the scan.
                let Ok(data) = frame.into_data() else { continue };
                taken.extend_from_slice(&data);
                if taken.len() as u64 > max {
                    log.stop(AccessVerdict::Block, Reason::TooLarge);
                    drain(body);
                    return ReadBody::Stopped(too_large(max));
                }
            }
            Ok(Some(Err(_))) => {
                log.broken.store(true, Ordering::Relaxed);
                log.stop(AccessVerdict::Deny, Reason::BadBody);
                let message = "the request's body is malformed or broke off; it was not sent";
                return ReadBody::Stopped(refuse(StatusCode::BAD_REQUEST, Reason::BadBody, message));
            }
            Err(_) => {
                log.stop(AccessVerdict::Block, Reason::Slow);
                drain(body);
                return ReadBody::Stopped(stopped(Reason::Slow, max));
            }
        }
    }
}

fn block_line(found: &Found, log: &mut AccessLog) {
    log.stop(AccessVerdict::Block, Reason::Dlp);
    log.entry.finding = Some(found.clone());
}

fn block(found: Found, body: Body, log: &mut AccessLog) -> Response<Body> {
    block_line(&found, log);
    drain(body);
    blocked(&found)
}

/// The question for a person, which never shows what was found.
fn question(target: &RequestTarget, parts: &Parts, all: &[Found], log: &AccessLog) -> Held {
    Held {
        scheme: target.scheme,
        host: target.host.clone(),
        port: Some(target.port),
        method: parts.method.to_string(),
        path: log.entry.path.clone(),
        findings: all.to_vec(),
        request: String::new(),
    }
}

/// Digest of all that makes a request the same: everything of it that goes to upstream, but for headers that
/// say nothing of interest.
fn digest(target: &RequestTarget, parts: &Parts, all: &[Found], body: &[u8]) -> Digest {
    let mut sum = Sha256::new();
    let mut add = |bytes: &[u8]| {
        sum.update((bytes.len() as u64).to_be_bytes());
        sum.update(bytes);
    };
    add(if target.scheme.is_https() { b"https" } else { b"http" });
    add(target.host.as_str().as_bytes());
    add(&target.port.to_be_bytes());
    add(parts.method.as_str().as_bytes());
    add(parts.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes());
    for found in all {
        add(found.rule.to_string().as_bytes());
        add(found.at.to_string().as_bytes());
    }
    // A client counts its attempts in a header; where something was found in one, all are the same or it is another request.
    let every = all.iter().any(|found| found.at.is_in_headers());
    for (question_name, value) in &parts.headers {
        if every || *question_name == CONTENT_TYPE || *question_name == CONTENT_ENCODING {
            add(question_name.as_str().as_bytes());
            add(value.as_bytes());
        }
    }
    add(body);
    sum.finalize().into()
}

/// A body whose beginning was read already.
struct Resumed<B> {
    first: Option<Bytes>,
    rest: B,
}

impl<B> HttpBody for Resumed<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
