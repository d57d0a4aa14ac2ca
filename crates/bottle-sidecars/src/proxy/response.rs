//! Bodies, and responses that the doors give themselves.

use std::fmt::Display;
use std::time::Duration;

use bottle_policy::matcher::Denied;
use bottle_types::reason::Reason;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

/// Any error on the way.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Any body on the way.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Any other body.
pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Most bytes that are read of a body that was refused.
const MAX_DRAIN_BYTES: u64 = 64 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the rest of a refused body and forgets it: a sender whose connection is closed under its hands may never get
/// to read why.
pub(crate) fn drain<B>(mut body: B)
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    if body.is_end_stream() {
        return;
    }
    let rest = async move {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > MAX_DRAIN_BYTES {
                return;
            }
        }
    };
    tokio::spawn(tokio::time::timeout(DRAIN_TIMEOUT, rest));
}

/// A refusal: what kind, and what to do about it.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalBody {
    /// One word for programs.
    pub(crate) error: Reason,
    /// A sentence for people and agents.
    pub(crate) message: String,
}

/// The answer to a request that goes no further.
pub(crate) fn refuse(status: StatusCode, error: Reason, message: impl Into<String>) -> Response<Body> {
    json(status, &RefusalBody { error, message: message.into() })
}

/// A refusal as a JSON document, with its reason in a header too: an answer to HEAD has no body.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let value = serde_json::to_value(value).unwrap_or_default();
    let mut body = value.to_string().into_bytes();
    body.push(b'\n');
    let mut response = typed(status, "application/json", body);
    if let (Some(error), Some(message)) = (value["error"].as_str(), value["message"].as_str())
        && let Ok(details) = HeaderValue::from_str(&proxy_status(&error, message))
    {
        response.headers_mut().insert(PROXY_STATUS, details);
    }
    response
}

/// The refusal of a request that no rule allows. git shows people what is text, and nothing else.
pub(crate) fn denied(headers: &HeaderMap, denied: &Denied) -> Response<Body> {
    let mut response = json(StatusCode::FORBIDDEN, denied);
    if headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"git/")) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        *response.body_mut() = full(format!("{}\n", denied.message));
    }
    response
}

/// The value of `Proxy-Status` (RFC 9209), as far as a header's text goes.
pub(crate) fn proxy_status(error: &impl Display, message: &str) -> String {
    let text: String = message
        .chars()
        .take(512)
        .map(|char| if matches!(char, ' '..='~') { char } else { '?' })
        .flat_map(|char| if matches!(char, '"' | '\\') { vec!['\\', char] } else { vec![char] })
        .collect();
    format!("bottle; details=\"{error}: {text}\"")
}

/// An answer of a given content type.
pub(crate) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
