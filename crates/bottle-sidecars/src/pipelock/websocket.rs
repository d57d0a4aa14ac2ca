//! WebSockets: the handshake is judged as any request, then every message of the guest before it goes; upstream's where
//! answers are looked at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bottle_policy::pipelock::Action;
use bottle_policy::supervise::Found;
use bottle_scan::dlp::{Finding, Mode, Rules};
use bottle_scan::websocket::{Frames, Talk};
use bottle_types::host::HostName;
use bottle_types::place::Where;
use bottle_types::reason::Reason;
use bottle_types::rule::Rule;
use bottle_wire::access::AccessVerdict;
use bytes::Bytes;
use http::header::{HOST, SEC_WEBSOCKET_EXTENSIONS};
use http::{Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::active::ActivePolicy;
use super::forward::{credentials, ended, failed, whole_uri};
use super::policy::Policy;
use super::redact::Redactor;
use crate::proxy::access::AccessLog;
use crate::proxy::response::{BoxError, full, refuse};
use crate::proxy::target::RequestTarget;
use crate::proxy::upgrade::{self, ProxyReply};

/// RFC 6455, 7.4.1: a message that a policy does not allow; one that is no message.
const CLOSE_POLICY: u16 = 1008;
const CLOSE_PROTOCOL: u16 = 1002;

/// Why a WebSocket is ended by us.
struct WebSocketEnd {
    /// Told to the guest; none where it is in the middle of a frame.
    code: Option<u16>,
    reason: Reason,
    why: String,
    found: Option<Found>,
}

impl ActivePolicy {
    /// Answers a request for a WebSocket.
    pub(super) async fn websocket<B>(
        self: &Arc<Self>,
        target: &RequestTarget,
        claimed: Option<usize>,
        mut request: Request<B>,
        log: &mut AccessLog,
    ) -> ProxyReply
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let route = match self.judge(target, claimed, &request, log) {
            Ok((route, _)) => route,
            Err(answer) => return (*answer).into(),
        };
        let compiled = &self.policy.routes[route];
        if let Some(answer) = ended(compiled, log) {
            return answer.into();
        }
        let guest = hyper::upgrade::on(&mut request);
        let (mut parts, _) = request.into_parts();
        parts.uri = match whole_uri(target, compiled, &parts.uri) {
            Ok(uri) => uri,
            Err(error) => {
                log.stop(AccessVerdict::Error, Reason::Request);
                return refuse(StatusCode::BAD_REQUEST, Reason::Request, format!("the request can't be sent: {error}"))
                    .into();
            }
        };
        parts.version = Version::HTTP_11;
        parts.headers.remove(HOST);
        // Compression, or whatever else, would hide what is said.
        parts.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        credentials(compiled, &mut parts.headers);
        upgrade::ask(&mut parts.headers, upgrade::WEBSOCKET);
        log.entry.credential = compiled.credential.as_ref().map(|added| added.name.to_string());
        let mut response = match self.switcher.request(Request::from_parts(parts, full(""))).await {
            Ok(response) => response,
            Err(error) => return failed(target, &error, log).into(),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.scrubbed(route, response, log).await.into();
        }
        if !upgrade::agreed(&response, upgrade::WEBSOCKET) || response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS)
        {
            log.stop(AccessVerdict::Error, Reason::Upstream);
            let message = "upstream answered the WebSocket's handshake with something that was not asked for";
            return refuse(StatusCode::BAD_GATEWAY, Reason::Upstream, message).into();
        }
        let upstream = hyper::upgrade::on(&mut response);
        let mut answer: Response<_> = self.scrubbed_head(compiled, response.map(|_| full("")));
        upgrade::ask(answer.headers_mut(), upgrade::WEBSOCKET);
        let (active, host) = (Arc::clone(self), target.host.clone());
        let talk = WebSocketRelay { active, route, host, guest, upstream };
        ProxyReply { answer, after: Some(Box::new(move |log| Box::pin(talk.run(log)))) }
    }
}

/// Two upgraded connections, and what judges between them.
struct WebSocketRelay {
    active: Arc<ActivePolicy>,
    route: usize,
    host: HostName,
    guest: OnUpgrade,
    upstream: OnUpgrade,
}

impl WebSocketRelay {
    async fn run(self, mut log: AccessLog) {
        let Self { active, route, host, guest, upstream } = self;
        let (guest, upstream) = match tokio::try_join!(guest, upstream) {
            Ok(both) => both,
            Err(error) => {
                log.stop(AccessVerdict::Error, Reason::Upgrade);
                tracing::debug!("a WebSocket was not taken up: {error}");
                return;
            }
        };
        let (mut guest_in, mut guest_out) = tokio::io::split(TokioIo::new(guest));
        let (mut up_in, mut up_out) = tokio::io::split(TokioIo::new(upstream));
        let (got, sent) = (AtomicU64::new(0), Arc::clone(&log.sent));
        let warned = OnceLock::new();
        let compiled = &active.policy.routes[route];
        let out = forth(&active, route, &host, &mut guest_in, &mut up_out, &sent, &warned);
        let noted = OnceLock::new();
        let ended = {
            let mask = compiled.credential.as_ref().and_then(|added| added.sent.as_ref()).map(Redactor::new);
            let back = back(&active.policy, mask, &mut up_in, &mut guest_out, &got, &noted);
            tokio::pin!(back);
            tokio::select! {
                ended = out => match ended {
                    Ok(()) => {
                        let _ = up_out.shutdown().await;
                        back.await
                    }
                    ended => ended,
                },
                ended = &mut back => ended,
            }
        };
        log.entry.bytes_in = got.into_inner();
        log.entry.finding = warned.into_inner().or(noted.into_inner());
        if let Err(ended) = ended {
            end(ended, &host, &mut guest_out, &mut log).await;
        }
    }
}

/// Notes why a WebSocket is ended, and tells the guest.
async fn end<W: AsyncWrite + Unpin>(ended: WebSocketEnd, host: &HostName, guest: &mut W, log: &mut AccessLog) {
    tracing::info!("ended a WebSocket to {host}: {}", ended.why);
    log.stop(if ended.code == Some(CLOSE_PROTOCOL) { AccessVerdict::Deny } else { AccessVerdict::Block }, ended.reason);
    if ended.found.is_some() {
        log.entry.finding = ended.found;
    }
    if let Some(code) = ended.code {
        let _ = guest.write_all(&close(code, &ended.why)).await;
    }
    let _ = guest.shutdown().await;
}

/// Passes on the guest's messages, each once it is judged.
async fn forth<R, W>(
    active: &ActivePolicy,
    route: usize,
    host: &HostName,
    from: &mut R,
    to: &mut W,
    sent: &AtomicU64,
    warned: &OnceLock<Found>,
) -> Result<(), WebSocketEnd>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let rules = active.policy.rules_for(host);
    let judge = GuestJudge { active, route, host, rules, sent, warned };
    let (mut frames, mut talk) = (Frames::default(), Talk::default());
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return Ok(());
        }
        let messages = frames.push(&buffer[..read]).map_err(|error| WebSocketEnd {
            code: Some(CLOSE_PROTOCOL),
            reason: Reason::Websocket,
            why: error.to_string(),
            found: None,
        })?;
        for message in messages {
            judge.judge(&mut talk, &message.payload)?;
            if to.write_all(&message.raw).await.is_err() || to.flush().await.is_err() {
                return Ok(());
            }
            sent.fetch_add(message.payload.len() as u64, Ordering::Relaxed);
        }
    }
}

/// Judges the guest's messages.
struct GuestJudge<'a> {
    active: &'a ActivePolicy,
    route: usize,
    host: &'a HostName,
    rules: Arc<Rules>,
    sent: &'a AtomicU64,
    warned: &'a OnceLock<Found>,
}

impl GuestJudge<'_> {
    /// Whether a message may go, and is counted.
    fn judge(&self, talk: &mut Talk, payload: &[u8]) -> Result<(), WebSocketEnd> {
        let policy = &self.active.policy;
        let compiled = &policy.routes[self.route];
        let found = |finding: Finding| Found {
            rule: finding.rule,
            at: Where::Websocket,
            offset: self.sent.load(Ordering::Relaxed),
        };
        let code = Some(CLOSE_POLICY);
        match talk.judge(policy.search(compiled, &self.rules), payload, compiled.mode.unwrap_or(Mode::Block)) {
            Ok(Some(finding)) => drop(self.warned.set(found(finding))),
            Ok(None) => {}
            Err(finding) => {
                let found = found(finding);
                let why = format!("not sent: {} was found", found.rule);
                return Err(WebSocketEnd { code, reason: Reason::Dlp, why, found: Some(found) });
            }
        }
        self.active.may_send(self.host, payload.len() as u64).map_err(|reached| {
            let why = reached.to_string();
            WebSocketEnd { code, reason: Reason::Limit, why, found: None }
        })
    }
}

/// Passes on what upstream says, looked at as answers are: where findings block, a message at a time, once it is judged.
async fn back<R, W>(
    policy: &Policy,
    mut mask: Option<Redactor>,
    from: &mut R,
    to: &mut W,
    got: &AtomicU64,
    noted: &OnceLock<Found>,
) -> Result<(), WebSocketEnd>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let scanning = &policy.pipelock.response_scanning;
    let mut look = Some((Frames::of_server(), Talk::default()));
    let block = scanning.action == Action::Block;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        if let Some(mask) = &mut mask {
            mask.at_once(&mut buffer[..read]);
        }
        let bytes = &buffer[..read];
        let so_far = got.fetch_add(read as u64, Ordering::Relaxed);
        if scanning.max_body_bytes.is_some_and(|most| so_far + read as u64 > most.0) {
            let why = "upstream has said more than an answer may say".to_owned();
            return Err(WebSocketEnd {
                code: block.then_some(CLOSE_POLICY),
                reason: Reason::AnswerTooLarge,
                why,
                found: None,
            });
        }
        let mut judged = vec![];
        if let Err(ended) = judge_answer(&mut look, policy, bytes, block, so_far, noted, &mut judged) {
            // Messages before it in the same piece were judged and may go.
            let _ = to.write_all(&judged).await;
            return Err(ended);
        }
        let bytes = if block { &judged } else { bytes };
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            return Ok(());
        }
    }
}

/// Judges a piece of upstream's; `judged` gets the messages that may go on, also those before the one that ends it.
fn judge_answer(
    look: &mut Option<(Frames, Talk)>,
    policy: &Policy,
    bytes: &[u8],
    block: bool,
    so_far: u64,
    noted: &OnceLock<Found>,
    judged: &mut Vec<u8>,
) -> Result<(), WebSocketEnd> {
    let mode = if block { Mode::Block } else { Mode::Warn };
    let found = |rule: Rule| Found { rule, at: Where::Answer, offset: so_far };
    let Some((frames, talk)) = look else { return Ok(()) };
    match frames.push(bytes) {
        Ok(messages) => {
            for message in messages {
                match talk.judge(policy.answers(), &message.payload, mode) {
                    Ok(seen) => drop(seen.map(|finding| noted.set(found(finding.rule)))),
                    Err(finding) if block => {
                        let found = found(finding.rule);
                        let why = format!("not let in: {} was found", found.rule);
                        let code = Some(CLOSE_POLICY);
                        return Err(WebSocketEnd { code, reason: Reason::Answer, why, found: Some(found) });
                    }
                    // Of an answer that nobody asked to look at, what can't be looked into is no news.
                    Err(finding) if finding.rule.is_always_refused() && policy.only_notes() => {}
                    Err(finding) => drop(noted.set(found(finding.rule))),
                }
                judged.extend(message.raw);
            }
        }
        Err(error) if block => {
            let (code, why) = (Some(CLOSE_PROTOCOL), error.to_string());
            return Err(WebSocketEnd { code, reason: Reason::Websocket, why, found: None });
        }
        Err(error) => {
            if !policy.only_notes() {
                let _ = noted.set(found(Rule::unreadable(&error.to_string())));
            }
            *look = None;
        }
    }
    Ok(())
}

/// The frame by which a server ends a WebSocket.
fn close(code: u16, why: &str) -> Vec<u8> {
    let why = &why.as_bytes()[..why.len().min(120)];
    let length = u8::try_from(why.len() + 2).unwrap_or(2);
    [&[0x88, length], &code.to_be_bytes()[..], why].concat()
}
