//! The routes of MCP servers (Streamable HTTP): each message is judged on its way out and on its way back, and sent on as it was judged.
//!
//! Always: only the headers that the protocol needs go on, in either direction; an answer goes on when the last of it is judged; no stream
//! is taken up again, and none is opened that nothing was asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bottle_policy::mcp::{MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, McpJudge, McpRefusal, Outgoing, SeenTools};
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::client::PipelockClient;
use super::policy::RoutePolicy;
use crate::proxy::access::AccessLog;
use crate::proxy::response::{Body, BoxError, drain, full, refuse, typed};
use crate::proxy::target::RequestTarget;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// What of a client's head goes on, besides what is set here.
const SENT_ON: [HeaderName; 3] = [SESSION, HeaderName::from_static("mcp-protocol-version"), USER_AGENT];
/// JSON-RPC's codes from -32000 to -32099 are the implementation's own.
const REFUSED: i32 = -32_000;

/// What the run has seen of each server.
#[derive(Default)]
pub(super) struct McpServers(Mutex<BTreeMap<String, SeenTools>>);

/// A request on the route of a server.
pub(super) struct McpCall<'a> {
    pub(super) pipelock: &'a PipelockClient,
    pub(super) policy: &'a Arc<RoutePolicy>,
    pub(super) target: &'a RequestTarget,
    pub(super) route: usize,
    pub(super) judge: &'a McpJudge,
}

impl McpServers {
    /// Answers a request of the guest's.
    pub(super) async fn answer<B>(&self, call: McpCall<'_>, request: Request<B>, mut log: AccessLog) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let is_end = parts.method == Method::DELETE;
        if !is_end && parts.method != Method::POST {
            drain(body);
            let why = "messages are posted here; no stream is opened without one";
            let mut answer = stopped(&mut log, StatusCode::METHOD_NOT_ALLOWED, why);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, DELETE"));
            return log.answer(answer);
        }
        if let Err(why) = check_head(&parts, is_end) {
            drain(body);
            let answer = stopped(&mut log, StatusCode::BAD_REQUEST, why);
            return log.answer(answer);
        }
        let body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let answer = stopped(&mut log, StatusCode::BAD_REQUEST, &format!("the message can't be read: {error}"));
                return log.answer(answer);
            }
        };
        let answer = if is_end {
            self.end(&call, &parts, &body, &mut log).await
        } else {
            self.post(&call, &parts, &body, &mut log).await
        };
        log.answer(answer)
    }

    /// Ends a session.
    async fn end(&self, call: &McpCall<'_>, parts: &Parts, body: &[u8], log: &mut AccessLog) -> Response<Body> {
        if !body.is_empty() {
            return stopped(log, StatusCode::BAD_REQUEST, "a session is ended without a message");
        }
        let answer = forward(call, parts, vec![], log).await;
        if log.entry.verdict != AccessVerdict::Allow {
            return answer;
        }
        let status = answer.status();
        drain(answer.into_body());
        if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED || status == StatusCode::NOT_FOUND {
            return empty(status);
        }
        stopped(log, StatusCode::BAD_GATEWAY, &format!("the server answered with {status}"))
    }

    /// Sends messages, and gives the server's back.
    async fn post(&self, call: &McpCall<'_>, parts: &Parts, body: &[u8], log: &mut AccessLog) -> Response<Body> {
        let judged = self.seen(call, |seen| seen.check()).and_then(|()| call.judge.request(body));
        let mut outgoing = match judged {
            Ok(outgoing) => outgoing,
            Err(refusal) => return self.refused(&refusal, is_list(body), AccessVerdict::Deny, log),
        };
        let answer = forward(call, parts, outgoing.body.clone(), log).await;
        if log.entry.verdict != AccessVerdict::Allow {
            return answer;
        }
        match self.judged(call, &mut outgoing, answer).await {
            Ok(answer) => answer,
            Err(NoAnswer::Status(status)) => {
                log.stop(AccessVerdict::Error, Reason::Mcp);
                refuse(status, Reason::Mcp, "the server does not know the session, or does not answer to this")
            }
            Err(NoAnswer::Refused(refusal)) => {
                let id = refusal.id.or_else(|| outgoing.only_id().cloned());
                self.refused(&McpRefusal { id, ..refusal }, outgoing.is_batch, AccessVerdict::Block, log)
            }
        }
    }

    /// The server's answer as the guest gets it.
    async fn judged(
        &self,
        call: &McpCall<'_>,
        outgoing: &mut Outgoing,
        answer: Response<Body>,
    ) -> Result<Response<Body>, NoAnswer> {
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::NOT_FOUND {
            // Which is how a client learns that it has to begin anew.
            drain(body);
            return Err(NoAnswer::Status(StatusCode::NOT_FOUND));
        }
        if !head.status.is_success() {
            drain(body);
            return Err(refusal(format!("the server answered with {}", head.status)));
        }
        if !outgoing.wants_answer() {
            drain(body);
            return Ok(with_session(empty(StatusCode::ACCEPTED), &head.headers));
        }
        if head.headers.contains_key(CONTENT_ENCODING) {
            return Err(refusal("the server's answer is packed, which was not asked for"));
        }
        let kind = essence(&head.headers);
        let is_stream = kind.as_deref() == Some(EVENTS);
        if !is_stream && kind.as_deref() != Some(JSON) {
            return Err(refusal("the server's answer is neither JSON nor a stream of events"));
        }
        let messages = self.messages(call, outgoing, body, is_stream).await?;
        Ok(with_session(written(messages, is_stream, outgoing.is_batch), &head.headers))
    }

    /// Reads the server's messages, until the last request is answered.
    async fn messages(
        &self,
        call: &McpCall<'_>,
        outgoing: &mut Outgoing,
        mut body: Body,
        is_stream: bool,
    ) -> Result<Vec<Value>, NoAnswer> {
        let mut messages = vec![];
        let mut events = Events::default();
        let mut read = 0;
        let mut whole = vec![];
        while outgoing.wants_answer()
            && let Some(frame) = body.frame().await
        {
            let frame = frame.map_err(|error| refusal(format!("the server's answer broke off: {error}")))?;
            let Ok(bytes) = frame.into_data() else { continue };
            read += bytes.len();
            if read > MAX_ANSWER_BYTES {
                return Err(refusal(format!("the server's answer is larger than {MAX_ANSWER_BYTES} bytes")));
            }
            if !is_stream {
                whole.extend_from_slice(&bytes);
                continue;
            }
            for event in events.push(&bytes) {
                // What comes behind the last answer is nobody's.
                if outgoing.wants_answer() {
                    messages.extend(self.message(call, outgoing, &event)?);
                }
            }
        }
        if !is_stream {
            messages = self.message(call, outgoing, &whole)?;
        }
        if outgoing.wants_answer() {
            return Err(refusal("the server's answer broke off"));
        }
        Ok(messages)
    }

    fn message(&self, call: &McpCall<'_>, outgoing: &mut Outgoing, message: &[u8]) -> Result<Vec<Value>, NoAnswer> {
        self.seen(call, |seen| call.judge.answer(outgoing, seen, message)).map_err(NoAnswer::Refused)
    }

    fn seen<T>(&self, call: &McpCall<'_>, work: impl FnOnce(&mut SeenTools) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry(call.judge.server().to_owned()).or_default())
    }

    /// A refusal: to one request an answer of the protocol's, so that the agent reads it; else one of HTTP's.
    fn refused(
        &self,
        refusal: &McpRefusal,
        is_batch: bool,
        verdict: AccessVerdict,
        log: &mut AccessLog,
    ) -> Response<Body> {
        tracing::info!("refused a message of MCP: {refusal}");
        log.stop(verdict, Reason::Mcp);
        match refusal.id.as_ref().filter(|_| !is_batch) {
            Some(id) => {
                let error = json!({ "code": REFUSED, "message": format!("claude-bottle: {refusal}") });
                typed(StatusCode::OK, JSON, json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string())
            }
            None => refuse(StatusCode::BAD_REQUEST, Reason::Mcp, refusal.to_string()),
        }
    }
}

/// Why there is no answer of the server's to give back.
enum NoAnswer {
    /// A status that tells a client something.
    Status(StatusCode),
    Refused(McpRefusal),
}

fn refusal(message: impl Into<String>) -> NoAnswer {
    NoAnswer::Refused(McpRefusal { message: message.into(), id: None })
}

fn stopped(log: &mut AccessLog, status: StatusCode, why: &str) -> Response<Body> {
    log.stop(AccessVerdict::Deny, Reason::Mcp);
    refuse(status, Reason::Mcp, why)
}

/// Whether a refused body was a batch, as far as can be told.
fn is_list(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"[")
}

/// What is wrong with a request's head.
fn check_head(parts: &Parts, is_end: bool) -> Result<(), &'static str> {
    if parts.uri.query().is_some() {
        return Err("a server's address has no query");
    }
    if is_end {
        return parts.headers.contains_key(SESSION).then_some(()).ok_or("no session is named");
    }
    if parts.headers.contains_key(CONTENT_ENCODING) {
        return Err("a message is not packed");
    }
    match essence(&parts.headers).as_deref() {
        Some(JSON) => Ok(()),
        _ => Err("a message is application/json"),
    }
}

/// The content type without its parameters, where there is one and the text is UTF-8.
fn essence(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next()?;
    parts.all(|part| matches!(part.as_str(), "charset=utf-8" | "charset=\"utf-8\"")).then_some(essence)
}

/// Sends what was judged, with the headers that the protocol needs alone.
async fn forward(call: &McpCall<'_>, parts: &Parts, body: Vec<u8>, log: &mut AccessLog) -> Response<Body> {
    // As the manifest has it, however the guest has written it.
    let path = call.policy.routes.routes[call.route].paths.first();
    let Some(uri) = path.and_then(|path| path.parse().ok()) else {
        return stopped(log, StatusCode::BAD_GATEWAY, "the route to the server has no path");
    };
    let mut headers = HeaderMap::new();
    for name in SENT_ON {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if parts.method == Method::POST {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let mut request = Request::new(full(body));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    call.pipelock.forward(call.policy, call.target, call.route, request, log).await
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = status;
    response
}

/// The messages in the form in which the server gave them.
fn written(messages: Vec<Value>, is_stream: bool, is_batch: bool) -> Response<Body> {
    if is_stream {
        let events: String = messages.iter().map(|message| format!("event: message\ndata: {message}\n\n")).collect();
        return typed(StatusCode::OK, EVENTS, events);
    }
    let text = match messages.as_slice() {
        [message] if !is_batch => message.to_string(),
        _ => Value::Array(messages).to_string(),
    };
    typed(StatusCode::OK, JSON, text)
}

fn with_session(mut response: Response<Body>, headers: &HeaderMap) -> Response<Body> {
    if let Some(session) = headers.get(SESSION) {
        response.headers_mut().insert(SESSION, session.clone());
    }
    response
}

/// The data of a stream's events: an event of another name than `message` has none for us, and ids, by which a stream could be taken up
/// again, are left out.
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
    /// So far it has no line's end in it.
    looked: usize,
    data: Option<Vec<u8>>,
    is_other: bool,
}

impl Events {
    /// The data of the events that these bytes complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = vec![];
        self.rest.extend_from_slice(bytes);
        // A line's end is CR LF, LF or CR; of a CR at the end of the bytes it is not known yet.
        while let Some(at) = memchr::memchr2(b'\n', b'\r', &self.rest[self.looked..]) {
            let at = self.looked + at;
            let width = match (self.rest[at], self.rest.get(at + 1)) {
                (b'\r', None) => {
                    self.looked = at;
                    return found;
                }
                (b'\r', Some(b'\n')) => 2,
                _ => 1,
            };
            let line: Vec<u8> = self.rest.drain(..at + width).take(at).collect();
            self.looked = 0;
            found.extend(self.line(&line));
        }
        self.looked = self.rest.len();
        found
    }

    fn line(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if line.is_empty() {
            let (data, is_other) = (self.data.take(), std::mem::take(&mut self.is_other));
            return data.filter(|data| !is_other && !data.is_empty());
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            b"event" => self.is_other = value != b"message",
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_come() {
        let text = b": hello\r\nid: 1\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nevent: other\ndata: x\n\nevent: message\rdata:y\r\rdata\n\n";
        let wanted = [b"{\"a\":\n1}".to_vec(), b"y".to_vec()];
        for size in 1..text.len() {
            let mut events = Events::default();
            let found: Vec<_> = text.chunks(size).flat_map(|bytes| events.push(bytes)).collect();
            assert_eq!(found, wanted, "{size}");
        }
    }
}
