//! The route by which a forge is read: each request is judged and sent on as it was judged, and each answer that has words of people comes back
//! when the last of it is judged.
//!
//! Always: no header of the guest's goes on but those that are named here; an answer leads nowhere but to a log or a file at another host, which
//! needs a route of its own.

use std::sync::Arc;

use bottle_policy::forge_read::{
    ForgeReadJudge, ForgeRefusal, ForgeRequest, ForgeRule, Judged, MAX_ANSWER_BYTES, MAX_QUERY_BYTES,
};
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED, LINK,
    LOCATION, RETRY_AFTER, USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};

use super::client::PipelockClient;
use super::policy::RoutePolicy;
use crate::proxy::access::AccessLog;
use crate::proxy::response::{Body, BoxError, drain, full, refuse};
use crate::proxy::target::{self, RequestTarget};

const JSON: &str = "application/json";
/// What of a client's head goes on, besides what is set here.
const SENT_ON: [HeaderName; 3] = [USER_AGENT, IF_NONE_MATCH, HeaderName::from_static("x-github-api-version")];
/// What of an answer's head comes back, besides what is set here.
const GIVEN_BACK: [HeaderName; 11] = [
    ETAG,
    LAST_MODIFIED,
    RETRY_AFTER,
    HeaderName::from_static("x-github-media-type"),
    HeaderName::from_static("x-github-request-id"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("x-ratelimit-resource"),
    HeaderName::from_static("x-ratelimit-used"),
    HeaderName::from_static("x-total-count"),
];
/// Headers by which some servers take another method than the request's.
const OTHER_METHOD: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// A request on the route.
pub(super) struct ForgeCall<'a> {
    pub(super) pipelock: &'a PipelockClient,
    pub(super) policy: &'a Arc<RoutePolicy>,
    pub(super) target: &'a RequestTarget,
    pub(super) route: usize,
    pub(super) judge: &'a ForgeReadJudge,
}

fn refusal(rule: ForgeRule, message: impl Into<String>) -> ForgeRefusal {
    ForgeRefusal { rule, message: message.into() }
}

/// Answers a request of the guest's.
pub(super) async fn answer<B>(call: ForgeCall<'_>, request: Request<B>, mut log: AccessLog) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let judged = match check_head(&call, &parts) {
        Ok(()) => judge(&call, &parts, body).await,
        Err(refusal) => {
            drain(body);
            Err(refusal)
        }
    };
    let judged = match judged {
        Ok(judged) => judged,
        Err(refusal) => {
            let answer = stopped(&mut log, AccessVerdict::Deny, StatusCode::FORBIDDEN, &refusal);
            return log.answer(answer);
        }
    };
    let answer = forward(&call, &parts, &judged, &mut log).await;
    if log.entry.verdict != AccessVerdict::Allow {
        return log.answer(answer);
    }
    let answer = match read(&call, &judged, parts.method == Method::HEAD, answer).await {
        Ok(answer) => answer,
        Err(refusal) => stopped(&mut log, AccessVerdict::Block, StatusCode::BAD_GATEWAY, &refusal),
    };
    log.answer(answer)
}

fn stopped(log: &mut AccessLog, verdict: AccessVerdict, status: StatusCode, refusal: &ForgeRefusal) -> Response<Body> {
    tracing::info!("refused at the forge's door ({}): {refusal}", refusal.rule.word());
    log.stop_by(verdict, Reason::Forge, refusal.rule.word());
    refuse(status, Reason::Forge, format!("{refusal} ({})", refusal.rule.word()))
}

/// What is wrong with a request's head.
fn check_head(call: &ForgeCall<'_>, parts: &Parts) -> Result<(), ForgeRefusal> {
    if OTHER_METHOD.iter().any(|name| parts.headers.contains_key(*name)) {
        return Err(refusal(ForgeRule::Method, "a request has one method, and no header names another"));
    }
    if parts.headers.contains_key(CONTENT_ENCODING) {
        return Err(refusal(ForgeRule::Body, "a query is not packed"));
    }
    if parts.headers.get_all(ACCEPT).iter().count() > 1 {
        return Err(refusal(ForgeRule::Parameter, "`Accept` is there twice"));
    }
    let is_query = parts.method == Method::POST && call.judge.is_graphql(parts.uri.path());
    if is_query && essence(&parts.headers).as_deref() != Some(JSON) {
        return Err(refusal(ForgeRule::Body, "a query is application/json"));
    }
    Ok(())
}

/// The content type without its parameters, where there is one and the text is UTF-8.
fn essence(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next()?;
    parts.all(|part| matches!(part.as_str(), "charset=utf-8" | "charset=\"utf-8\"")).then_some(essence)
}

async fn judge<B>(call: &ForgeCall<'_>, parts: &Parts, body: B) -> Result<Judged, ForgeRefusal>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let body = Limited::new(body, MAX_QUERY_BYTES).collect().await;
    let body = body.map_err(|error| refusal(ForgeRule::Body, format!("the query can't be read: {error}")))?.to_bytes();
    let accept = match parts.headers.get(ACCEPT).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(accept)) => Some(accept),
        Some(Err(_)) => return Err(refusal(ForgeRule::Parameter, "`Accept` is no text")),
    };
    call.judge.request(ForgeRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        accept,
        body: &body,
    })
}

/// Sends what was judged.
async fn forward(call: &ForgeCall<'_>, parts: &Parts, judged: &Judged, log: &mut AccessLog) -> Response<Body> {
    let Ok(uri) = judged.target.parse::<Uri>() else {
        let refusal = refusal(ForgeRule::Path, "the path can't be sent on");
        return stopped(log, AccessVerdict::Deny, StatusCode::FORBIDDEN, &refusal);
    };
    let mut headers = HeaderMap::new();
    for name in SENT_ON {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(ACCEPT, HeaderValue::from_static(judged.accept));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let body = judged.body.clone().unwrap_or_default();
    if judged.body.is_some() {
        headers.remove(IF_NONE_MATCH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let mut request = Request::new(full(body));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    call.pipelock.forward(call.policy, call.target, call.route, request, log).await
}

/// The forge's answer as the guest gets it.
async fn read(
    call: &ForgeCall<'_>,
    judged: &Judged,
    is_head: bool,
    answer: Response<Body>,
) -> Result<Response<Body>, ForgeRefusal> {
    let (head, body) = answer.into_parts();
    let status = head.status;
    let mut given = Response::new(full(""));
    *given.status_mut() = status;
    for name in GIVEN_BACK {
        if let Some(value) = head.headers.get(&name) {
            given.headers_mut().insert(name, value.clone());
        }
    }
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        drain(body);
        let location = elsewhere(call, judged, status, &head.headers)
            .ok_or_else(|| refusal(ForgeRule::Redirect, format!("the forge's answer ({status}) leads elsewhere")))?;
        given.headers_mut().insert(LOCATION, location);
        return Ok(given);
    }
    let origin = format!("https://{}", target::authority(call.target.scheme, &call.target.host, call.target.port));
    let pages = head.headers.get(LINK).and_then(|link| judged.pages(link.to_str().ok()?, &origin));
    if let Some(pages) = pages.and_then(|pages| HeaderValue::from_str(&pages).ok()) {
        given.headers_mut().insert(LINK, pages);
    }
    if is_head || status == StatusCode::NOT_MODIFIED || status == StatusCode::NO_CONTENT {
        drain(body);
        return Ok(given);
    }
    if head.headers.contains_key(CONTENT_ENCODING) {
        drain(body);
        return Err(refusal(ForgeRule::Answer, "the forge's answer is packed, which was not asked for"));
    }
    if judged.is_data() && status.is_success() {
        let kind = head.headers.get(CONTENT_TYPE).cloned();
        given.headers_mut().insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
        return Ok(given.map(|_| body));
    }
    let is_json = essence(&head.headers).is_some_and(|kind| kind == JSON || kind.ends_with("+json"));
    if !is_json {
        drain(body);
        return Err(refusal(ForgeRule::Answer, format!("the forge's answer ({status}) is not JSON")));
    }
    let told = call.judge.answer(judged, status.is_success(), &whole(body).await?)?;
    given.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    Ok(given.map(|_| full(told)))
}

/// All of an answer.
async fn whole(mut body: Body) -> Result<Vec<u8>, ForgeRefusal> {
    let mut read = vec![];
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| refusal(ForgeRule::Answer, format!("the forge's answer broke off: {error}")))?;
        let Ok(bytes) = frame.into_data() else { continue };
        if read.len() + bytes.len() > MAX_ANSWER_BYTES {
            let message = format!("the forge's answer is larger than {MAX_ANSWER_BYTES} bytes: ask for less");
            return Err(refusal(ForgeRule::Answer, message));
        }
        read.extend_from_slice(&bytes);
    }
    Ok(read)
}

/// Where a log or a file is, at another host.
fn elsewhere(call: &ForgeCall<'_>, judged: &Judged, status: StatusCode, headers: &HeaderMap) -> Option<HeaderValue> {
    let location = headers.get(LOCATION).filter(|_| judged.may_lead_elsewhere && status == StatusCode::FOUND)?;
    let uri: Uri = location.to_str().ok()?.parse().ok()?;
    let is_there = uri.scheme_str() == Some("https")
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && uri.host().is_some_and(|host| !host.eq_ignore_ascii_case(call.target.host.as_str()));
    is_there.then(|| location.clone())
}
