//! Judges one request, adds the credential of its route, sends it, and gives the answer back.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bottle_policy::access::{Found, Verdict};
use bottle_policy::dlp::Packing;
use bottle_policy::matcher::Target;
use bottle_policy::route::Scheme;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;

use super::dial::{DialError, Dialer};
use super::policy::{Policy, Way};
use super::scan::{self, Scanned};
use crate::proxy::access::{Counted, Line};
use crate::proxy::answer::{Body, BoxError, boxed, drain, json, refuse};
use crate::proxy::headers;
use crate::proxy::target::{Asked, authority};
use crate::tls::Trust;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A policy in force, with the connections made under it.
pub(super) struct Force {
    pub(super) policy: Arc<Policy>,
    client: Client<Dialer, Body>,
}

/// The way out.
pub(super) struct Exit {
    force: RwLock<Forces>,
    trust: Trust,
}

/// How long the policy before stays for requests that egress has judged by it and that are still on their way here.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// The policy in force, and the one before it.
struct Forces {
    now: Arc<Force>,
    before: Option<(Arc<Force>, Instant)>,
}

/// The refusal of a request with a secret in it.
#[derive(Serialize)]
struct Dlp<'a> {
    error: &'static str,
    message: String,
    rule: &'a str,
    #[serde(rename = "where")]
    at: &'a str,
    offset: u64,
}

impl Exit {
    pub(super) fn new(policy: Policy) -> Self {
        let trust = Trust::default();
        let now = Arc::new(Force::new(policy, &trust));
        Self { force: RwLock::new(Forces { now, before: None }), trust }
    }

    /// From now on requests are judged by this policy, over connections of its own.
    pub(super) fn replace(&self, policy: Policy) {
        let now = Arc::new(Force::new(policy, &self.trust));
        let mut forces = self.force.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut forces.now, now);
        // With the same routes nothing is on its way that the new policy could not judge.
        if before.policy.routes_hash != forces.now.policy.routes_hash {
            forces.before = Some((before, Instant::now()));
        }
    }

    /// The policy in force, which a request keeps to its end.
    pub(super) fn force(&self) -> Arc<Force> {
        Arc::clone(&self.force.read().unwrap_or_else(PoisonError::into_inner).now)
    }

    /// The policy with the routes that egress went by, so that a request is judged by one policy all the way. With routes
    /// that are not known (any more) it is judged by those in force, and refused where they don't agree.
    pub(super) fn force_of(&self, routes_hash: &str) -> Arc<Force> {
        let forces = self.force.read().unwrap_or_else(PoisonError::into_inner);
        match &forces.before {
            Some((before, since))
                if forces.now.policy.routes_hash != routes_hash
                    && before.policy.routes_hash == routes_hash
                    && since.elapsed() < ON_THE_WAY =>
            {
                Arc::clone(before)
            }
            _ => Arc::clone(&forces.now),
        }
    }
}

impl Force {
    fn new(policy: Policy, trust: &Trust) -> Self {
        let dialer = Dialer::new(trust.clone(), &policy.pipelock.ssrf.ip_allowlist);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(32)
            .build(dialer);
        Self { policy: Arc::new(policy), client }
    }

    /// Answers a request whose headers are free of what is for one hop or a door's own. `claimed` is the route that
    /// egress found; it is found again here, and both have to agree.
    pub(super) async fn pass<B>(
        &self,
        asked: &Asked,
        claimed: Option<usize>,
        request: Request<B>,
        line: &mut Line,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        match self.judge(asked, claimed, &request, line) {
            Ok((route, packings)) => self.send(asked, route, &packings, request, line).await,
            Err(answer) => {
                drain(request.into_body());
                *answer
            }
        }
    }

    /// The route of a request whose head may leave, and what its body is said to be packed in; or the refusal.
    fn judge<B: http_body::Body>(
        &self,
        asked: &Asked,
        claimed: Option<usize>,
        request: &Request<B>,
        line: &mut Line,
    ) -> Result<(usize, Vec<Packing>), Box<Response<Body>>> {
        let policy = &self.policy;
        line.access.path = policy.known.mask_str(&line.access.path);
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
                return Err(Box::new(json(StatusCode::FORBIDDEN, &denied)));
            }
        };
        line.access.route = Some(route);
        if claimed.is_some_and(|claimed| claimed != route) {
            line.stop(Verdict::Deny, "route_mismatch");
            let message = "the doors don't agree about the route; the policy may be changing: try again";
            return Err(Box::new(refuse(StatusCode::FORBIDDEN, "route_mismatch", message)));
        }
        if let Some(answer) = self.judge_head(asked, &policy.routes[route], request, line) {
            return Err(Box::new(answer));
        }
        scan::packings(request.headers()).map(|packings| (route, packings)).map_err(|found| {
            line.stop(Verdict::Block, "dlp");
            let answer = blocked(&found);
            line.access.finding = Some(found);
            Box::new(answer)
        })
    }

    /// The refusal, if the head of the request is not to leave.
    fn judge_head<B: http_body::Body>(
        &self,
        asked: &Asked,
        way: &Way,
        request: &Request<B>,
        line: &mut Line,
    ) -> Option<Response<Body>> {
        let max = self.policy.pipelock.request_body_scanning.max_body_bytes;
        if request.body().size_hint().lower() > max.0 {
            line.stop(Verdict::Block, "too_large");
            return Some(too_large(max.0));
        }
        let rules = self.policy.rules_for(&asked.host);
        let search = self.policy.search(way, &rules);
        let (known, found) = scan::head(search, asked.host.as_str(), request.uri(), request.headers())?;
        if self.policy.warns() && !known {
            line.access.finding = Some(found);
            return None;
        }
        if found.at == "url" {
            line.access.path = "(withheld)".to_owned();
        }
        line.stop(Verdict::Block, "dlp");
        let answer = blocked(&found);
        line.access.finding = Some(found);
        Some(answer)
    }

    async fn send<B>(
        &self,
        asked: &Asked,
        route: usize,
        packings: &[Packing],
        request: Request<B>,
        line: &mut Line,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let way = &self.policy.routes[route];
        let warned = Arc::new(OnceLock::new());
        let (mut parts, body) = request.into_parts();
        let body = Counted { body, sent: Arc::clone(&line.sent) };
        let late = Arc::clone(&line.late);
        let judge = scan::Judge { rules: self.policy.rules_for(&asked.host), policy: Arc::clone(&self.policy), route };
        let body = Scanned::new(body, packings, judge, late, Arc::clone(&warned));
        parts.uri = match whole_uri(asked, &parts.uri) {
            Ok(uri) => uri,
            Err(error) => {
                line.stop(Verdict::Error, "request");
                return refuse(StatusCode::BAD_REQUEST, "request", format!("the request can't be sent: {error}"));
            }
        };
        parts.version = Version::HTTP_11;
        parts.headers.remove(HOST);
        credentials(way, &mut parts.headers);
        line.access.credential = way.credential.as_ref().map(|added| added.name.to_string());
        let result = self.client.request(Request::from_parts(parts, boxed(body))).await;
        if let Some(found) = warned.get() {
            line.access.finding.get_or_insert_with(|| found.clone());
        }
        if let Some((reason, found)) = line.late.get() {
            let (reason, found) = (*reason, found.clone());
            line.stop(Verdict::Block, reason);
            line.access.finding.clone_from(&found);
            return match found {
                Some(found) => blocked(&found),
                None => too_large(self.policy.pipelock.request_body_scanning.max_body_bytes.0),
            };
        }
        match result {
            Ok(response) => self.scrubbed(way, response.map(boxed)),
            Err(error) => failed(asked, &error, line),
        }
    }

    /// An answer without what is for one hop, a door's own, or a credential.
    fn scrubbed(&self, way: &Way, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        headers::strip_hop(headers);
        headers::strip_own(headers);
        if way.credential.is_some() {
            // What upstream gives to the credential's owner is a credential, too.
            headers.remove(SET_COOKIE);
        }
        for value in headers.values_mut() {
            if self.policy.known.find(value.as_bytes()).is_some() {
                *value = HeaderValue::from_bytes(&self.policy.known.mask(value.as_bytes()))
                    .unwrap_or(HeaderValue::from_static("***"));
            }
        }
        *response.version_mut() = Version::HTTP_11;
        response
    }
}

/// Puts the route's credential in place of whatever the guest sent; a placeholder goes nowhere.
fn credentials(way: &Way, headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, X_API_KEY] {
        let placeholder = headers.get_all(&name).iter().any(|value| scan::is_placeholder(value.as_bytes()));
        // Beside the route's credential, another one could make the request somebody else's.
        if placeholder || way.credential.is_some() {
            headers.remove(&name);
        }
    }
    if let Some(added) = &way.credential {
        headers.insert(added.header.clone(), added.value.clone());
    }
}

fn whole_uri(asked: &Asked, uri: &Uri) -> Result<Uri, http::Error> {
    let scheme = if asked.scheme == Scheme::Https { "https" } else { "http" };
    Uri::builder()
        .scheme(scheme)
        .authority(authority(asked.scheme, &asked.host, asked.port))
        .path_and_query(uri.path_and_query().map_or("/", |path| path.as_str()))
        .build()
}

fn blocked(found: &Found) -> Response<Body> {
    let message = match found.rule.split_once(':') {
        Some(("known-secret", name)) => {
            format!("the request was not sent: the value of {name} was found in its {}; leave it out", found.at)
        }
        Some(("unreadable", why)) => format!(
            "the request was not sent: pipelock can't look into its {} ({why}); send it unpacked, or in gzip, deflate, br \
             or zstd",
            found.at
        ),
        _ => format!(
            "the request was not sent: what looks like a secret ({}) was found in its {}; leave it out",
            found.rule, found.at
        ),
    };
    let body = Dlp { error: "dlp", message, rule: &found.rule, at: &found.at, offset: found.offset };
    json(StatusCode::FORBIDDEN, &body)
}

fn too_large(max: u64) -> Response<Body> {
    let message = format!("the request's body is larger than the {max} bytes that may leave at once");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

fn failed(asked: &Asked, error: &hyper_util::client::legacy::Error, line: &mut Line) -> Response<Body> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(current) = source {
        if let Some(dial) = current.downcast_ref::<DialError>() {
            tracing::info!("{dial}");
            if matches!(dial, DialError::Refused { .. }) {
                line.stop(Verdict::Block, "address");
                return refuse(StatusCode::FORBIDDEN, "address", dial.to_string());
            }
            line.stop(Verdict::Error, "connect");
            return refuse(StatusCode::BAD_GATEWAY, "connect", dial.to_string());
        }
        last = current.to_string();
        source = current.source();
    }
    line.stop(Verdict::Error, "upstream");
    refuse(StatusCode::BAD_GATEWAY, "upstream", format!("the request to {} failed: {last}", asked.host))
}
