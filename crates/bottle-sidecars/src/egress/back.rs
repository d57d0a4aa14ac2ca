//! Which route a request takes, and the way on to pipelock.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use bottle_policy::access::{Found, Verdict};
use bottle_policy::host::HostName;
use bottle_policy::matcher::{Matcher, Target};
use bottle_policy::proposal::sha256;
use bottle_policy::route::{RoutesPolicy, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use super::model::Model;
use super::pipe::{self, Pipe};
use crate::common::{self, Dirs, Error};
use crate::proxy::access::{Counted, Line};
use crate::proxy::answer::{Body, boxed, drain, json, refuse};
use crate::proxy::front::Back;
use crate::proxy::headers;
use crate::proxy::target::Asked;

/// The name of pipelock's socket in the internal directory.
pub(crate) const PIPELOCK_SOCKET: &str = "pipelock.sock";

/// The routes in force.
pub(super) struct Policy {
    pub(super) routes: RoutesPolicy,
    matcher: Matcher,
    /// The file's SHA-256, by which pipelock knows it again.
    pub(super) hash: String,
}

impl Policy {
    /// Takes the text of `routes.yaml`.
    pub(super) fn new(path: &Path, text: &str) -> Result<Self, Error> {
        let routes: RoutesPolicy = common::parse_policy(path, text)?;
        let matcher = Matcher::new(&routes)
            .map_err(|error| Error::Policy { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self { routes, matcher, hash: sha256(text) })
    }
}

/// Behind egress' front.
pub(super) struct Egress {
    policy: RwLock<Arc<Policy>>,
    model: Model,
    pipe: Pipe,
}

impl Egress {
    pub(super) fn new(policy: Policy, model: Model, dirs: &Dirs) -> Self {
        let pipe = pipe::client(dirs.internal.join(PIPELOCK_SOCKET));
        Self { policy: RwLock::new(Arc::new(policy)), model, pipe }
    }

    /// From now on requests are judged by this policy; those under way finish under theirs.
    pub(super) fn replace(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a request on; what comes back is free of the doors' own headers, and the line knows what they said.
    pub(super) async fn forward(
        &self,
        policy: &Policy,
        asked: &Asked,
        route: usize,
        request: Request<Body>,
        line: &mut Line,
    ) -> Response<Body> {
        let request = match addressed(policy, asked, route, request) {
            Ok(request) => request,
            Err(error) => {
                line.stop(Verdict::Error, "request");
                return refuse(StatusCode::BAD_REQUEST, "request", format!("the request can't be sent on: {error}"));
            }
        };
        match self.pipe.request(request).await {
            Ok(mut response) => {
                let from = response.headers();
                let text = |name| headers::text(from, name);
                if let Some(verdict) = text(headers::VERDICT) {
                    let reason = text(headers::REASON).unwrap_or_default();
                    let verdict = match verdict {
                        "deny" => Verdict::Deny,
                        "block" => Verdict::Block,
                        _ => Verdict::Error,
                    };
                    line.stop(verdict, reason);
                }
                line.access.credential = text(headers::CREDENTIAL).map(str::to_owned);
                line.access.finding = text(headers::FINDING).and_then(|found| serde_json::from_str(found).ok());
                if line.access.finding.as_ref().is_some_and(|found: &Found| found.at == "url") {
                    line.access.path = "(withheld)".to_owned();
                }
                headers::strip_hop(response.headers_mut());
                headers::strip_own(response.headers_mut());
                response.map(boxed)
            }
            Err(error) => {
                line.stop(Verdict::Error, "pipelock");
                tracing::warn!("pipelock did not answer: {error}");
                let message = "the last door, pipelock, did not answer; nothing was sent; try again";
                refuse(StatusCode::BAD_GATEWAY, "pipelock", message)
            }
        }
    }
}

impl Back for Egress {
    fn knows(&self, scheme: Scheme, host: &HostName, port: u16) -> bool {
        self.policy().matcher.knows(scheme, host, port)
    }

    async fn answer(&self, asked: Asked, request: Request<Incoming>, mut line: Line) -> Response<Body> {
        let policy = self.policy();
        let target = Target {
            scheme: asked.scheme,
            host: &asked.host,
            port: asked.port,
            method: request.method().as_str(),
            path: request.uri().path(),
        };
        let route = match policy.matcher.decide(target) {
            Ok(route) => route,
            Err(denied) => {
                line.stop(Verdict::Deny, denied.error);
                tracing::info!("refused {} {}: {}", target.method, asked.host, denied.error);
                drain(request.into_body());
                return line.answer(json(StatusCode::FORBIDDEN, &denied));
            }
        };
        line.access.route = Some(route);
        let sent = Arc::clone(&line.sent);
        let request = request.map(|body| Counted { body, sent });
        if policy.routes.routes[route].model {
            return self.model.answer(self, &policy, &asked, route, request, line).await;
        }
        let response = self.forward(&policy, &asked, route, request.map(boxed), &mut line).await;
        line.answer(response)
    }
}

/// The request as pipelock takes it: in HTTP/1.1, with its place in headers of ours.
fn addressed(
    policy: &Policy,
    asked: &Asked,
    route: usize,
    request: Request<Body>,
) -> Result<Request<Body>, http::Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = Uri::builder().scheme("http").authority("pipelock").path_and_query(path).build()?;
    parts.version = Version::HTTP_11;
    join_cookies(&mut parts.headers);
    let scheme = if asked.scheme == Scheme::Https { "https" } else { "http" };
    for (name, value) in [
        (headers::ID, HeaderValue::from_str(&asked.id)?),
        (headers::SCHEME, HeaderValue::from_static(scheme)),
        (headers::HOST, HeaderValue::from_str(asked.host.as_str())?),
        (headers::PORT, HeaderValue::from(asked.port)),
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
