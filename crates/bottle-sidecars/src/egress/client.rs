//! The way on to pipelock: requests, WebSockets and tunnels, each with its target in headers of the doors' own.
//!
//! Always: an answer has lost what was meant for this hop, and the access log has what pipelock said of the request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bottle_policy::route::Scheme;
use bottle_policy::supervise::Found;
use bottle_types::place::Where;
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use http::header::TE;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::pipe::{self, Pipe};
use super::policy::RoutePolicy;
use crate::common::{Dirs, PIPELOCK_SOCKET};
use crate::proxy::access::AccessLog;
use crate::proxy::headers;
use crate::proxy::response::{Body, boxed, full, refuse};
use crate::proxy::target::RequestTarget;
use crate::proxy::trailers::{self, MapTrailers};
use crate::proxy::upgrade::{self, ProxyReply};

/// Client of pipelock's socket.
pub(super) struct PipelockClient(Pipe);

impl PipelockClient {
    /// Makes a client of the socket in the internal directory.
    pub(super) fn new(dirs: &Dirs) -> Self {
        Self(pipe::client(dirs.internal.join(PIPELOCK_SOCKET)))
    }

    /// Sends a request on; what comes back is free of the doors' own headers, and the line knows what they said.
    pub(super) async fn forward(
        &self,
        policy: &RoutePolicy,
        target: &RequestTarget,
        route: usize,
        request: Request<Body>,
        log: &mut AccessLog,
    ) -> Response<Body> {
        let request = match addressed(policy, target, route, request) {
            Ok(request) => request,
            Err(error) => {
                log.stop(AccessVerdict::Error, Reason::Request);
                let why = format!("the request can't be sent on: {error}");
                return refuse(StatusCode::BAD_REQUEST, Reason::Request, why);
            }
        };
        let mut request = request.map(|body| boxed(MapTrailers::new(body, trailers::pack)));
        if !request.body().is_end_stream() {
            trailers::announce(request.headers_mut());
        }
        match self.0.request(request).await {
            Ok(mut response) => match take_notes(&mut response, log) {
                Ok(()) => response.map(|body| boxed(MapTrailers::new(body, trailers::unpack))),
                Err(refusal) => *refusal,
            },
            Err(error) => unanswered(&error, log),
        }
    }

    /// A request for a WebSocket: once pipelock agrees, bytes both ways; it is pipelock that looks at them.
    pub(super) async fn websocket(
        &self,
        policy: &RoutePolicy,
        target: &RequestTarget,
        route: usize,
        mut request: Request<Incoming>,
        mut log: AccessLog,
    ) -> Response<Body> {
        let guest = hyper::upgrade::on(&mut request);
        let mut request = match addressed(policy, target, route, request.map(|_| full(""))) {
            Ok(request) => request,
            Err(error) => {
                log.stop(AccessVerdict::Error, Reason::Request);
                let why = format!("the request can't be sent on: {error}");
                return log.answer(refuse(StatusCode::BAD_REQUEST, Reason::Request, why));
            }
        };
        upgrade::ask(request.headers_mut(), upgrade::WEBSOCKET);
        let mut response = match self.0.request(request).await {
            Ok(response) => response,
            Err(error) => {
                let answer = unanswered(&error, &mut log);
                return log.answer(answer);
            }
        };
        let agreed = upgrade::agreed(&response, upgrade::WEBSOCKET);
        if let Err(refusal) = take_notes(&mut response, &mut log) {
            return log.answer(*refusal);
        }
        if !agreed {
            return log.answer(response.map(|body| boxed(MapTrailers::new(body, trailers::unpack))));
        }
        let other = hyper::upgrade::on(&mut response);
        let mut answer = response.map(|_| full(""));
        upgrade::ask(answer.headers_mut(), upgrade::WEBSOCKET);
        let relay = move |mut log: AccessLog| async move {
            match tokio::try_join!(guest, other) {
                Ok((guest, other)) => {
                    upgrade::relay(TokioIo::new(guest), TokioIo::new(other), &mut log, |_| true).await;
                }
                Err(error) => log.cut_off(&error),
            }
        };
        ProxyReply { answer, after: Some(Box::new(move |log| Box::pin(relay(log)))) }.finish(log)
    }

    /// Carries a tunnel whose TLS is not ended, from its hello on.
    pub(super) async fn tunnel<S>(
        &self,
        policy: Arc<RoutePolicy>,
        target: &RequestTarget,
        hello: Vec<u8>,
        stream: S,
        mut log: AccessLog,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(mut request) = addressed(&policy, target, 0, Request::new(full(""))) else { return };
        drop(policy);
        upgrade::ask(request.headers_mut(), upgrade::TUNNEL);
        let mut response = match self.0.request(request).await {
            Ok(response) => response,
            Err(error) => {
                unanswered(&error, &mut log);
                return;
            }
        };
        let agreed = upgrade::agreed(&response, upgrade::TUNNEL);
        let noted = take_notes(&mut response, &mut log);
        log.entry.status = response.status().as_u16();
        if !agreed || noted.is_err() {
            tracing::info!("pipelock refused a tunnel to {}", target.host);
            return;
        }
        if let Ok(other) = hyper::upgrade::on(&mut response).await {
            let mut other = TokioIo::new(other);
            log.sent.fetch_add(hello.len() as u64, Ordering::Relaxed);
            if other.write_all(&hello).await.is_ok() {
                upgrade::relay(stream, other, &mut log, |_| true).await;
            }
        }
    }
}

/// Notes what pipelock says of the request, and removes what was meant for this hop; an answer without its word is of no
/// handler of its: the request could not even be read there.
fn take_notes(response: &mut Response<Incoming>, log: &mut AccessLog) -> Result<(), Box<Response<Body>>> {
    let from = response.headers();
    let text = |name| headers::text(from, name);
    let verdict = match text(headers::VERDICT) {
        Some("allow") => None,
        Some("deny") => Some(AccessVerdict::Deny),
        Some("block") => Some(AccessVerdict::Block),
        Some(_) => Some(AccessVerdict::Error),
        None => {
            log.stop(AccessVerdict::Error, Reason::Pipelock);
            let message =
                format!("the last door, pipelock, could not read the request ({}): it was not sent", response.status());
            return Err(Box::new(refuse(StatusCode::BAD_GATEWAY, Reason::Pipelock, message)));
        }
    };
    if let Some(verdict) = verdict {
        let said = text(headers::REASON).unwrap_or_default();
        match Reason::parse(said.split(": ").next().unwrap_or_default()) {
            Some(_) => (log.entry.verdict, log.entry.reason) = (verdict, Some(said.to_owned())),
            None => log.stop(verdict, Reason::Pipelock),
        }
    }
    log.entry.credential = text(headers::CREDENTIAL).map(str::to_owned);
    log.entry.finding = text(headers::FINDING).and_then(|found| serde_json::from_str(found).ok());
    if from.contains_key(headers::WITHHELD)
        || log.entry.finding.as_ref().is_some_and(|found: &Found| found.at == Where::Url)
    {
        log.withhold();
    }
    log.is_self_test = from.contains_key(headers::SELF_TEST);
    let headers = response.headers_mut();
    headers::strip_hop(headers);
    headers::strip_door_headers(headers);
    trailers::forget(headers);
    Ok(())
}

/// There is no answer of pipelock's: because of the guest's own body, or of pipelock.
fn unanswered(error: &hyper_util::client::legacy::Error, log: &mut AccessLog) -> Response<Body> {
    if log.broken.load(Ordering::Relaxed) {
        log.stop(AccessVerdict::Deny, Reason::BadBody);
        let message = "the request's body is malformed or broke off; it was not sent as a whole";
        return refuse(StatusCode::BAD_REQUEST, Reason::BadBody, message);
    }
    log.stop(AccessVerdict::Error, Reason::Pipelock);
    tracing::warn!("pipelock did not answer: {error}");
    let message = "the last door, pipelock, did not answer, or cut the answer off; its line of this request says why";
    refuse(StatusCode::BAD_GATEWAY, Reason::Pipelock, message)
}

/// The request as pipelock takes it: in HTTP/1.1, with its place in headers of ours.
fn addressed(
    policy: &RoutePolicy,
    target: &RequestTarget,
    route: usize,
    request: Request<Body>,
) -> Result<Request<Body>, http::Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = Uri::builder().scheme("http").authority("pipelock").path_and_query(path).build()?;
    parts.version = Version::HTTP_11;
    join_cookies(&mut parts.headers);
    if parts.headers.insert(TE, HeaderValue::from_static("trailers")).is_some() {
        parts.headers.insert(headers::TE_TRAILERS, HeaderValue::from_static("1"));
    }
    let scheme = if target.scheme == Scheme::Https { "https" } else { "http" };
    for (name, value) in [
        (headers::ID, HeaderValue::from_str(&target.id)?),
        (headers::SCHEME, HeaderValue::from_static(scheme)),
        (headers::HOST, HeaderValue::from_str(target.host.as_str())?),
        (headers::PORT, HeaderValue::from(target.port)),
        (headers::ROUTE, HeaderValue::from(route)),
        (headers::POLICY, HeaderValue::from_str(&policy.hash)?),
    ] {
        parts.headers.insert(name, value);
    }
    Ok(Request::from_parts(parts, body))
}

/// HTTP/2 may carry a cookie in several headers, HTTP/1.1 may not.
fn join_cookies(headers: &mut http::HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(http::header::COOKIE, joined);
    }
}
