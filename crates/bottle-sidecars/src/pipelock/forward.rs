//! Judges one request, adds the credential of its route, sends it, and gives the answer back.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bottle_policy::access::Verdict;
use bottle_policy::dlp::{Mode, Packing, Rules};
use bottle_policy::host::{HostName, HostPattern};
use bottle_policy::limits::Reached;
use bottle_policy::route::Scheme;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, SET_COOKIE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::approval_client::ApprovalClient;
use super::dial::{DialError, Dialer};
use super::policy::{CompiledRoute, Policy};
use super::redact::RedactedBody;
use super::refusal::{blocked, not_let_in, stopped, too_large};
use super::response::ScannedResponse;
use super::scan::{self, ScannedRequest};
use super::usage::UsageLog;
use crate::proxy::access::{AccessLog, CountedBody};
use crate::proxy::headers;
use crate::proxy::response::{Body, BoxError, boxed, drain, json, refuse};
use crate::proxy::target::{self, RequestTarget, authority};
use crate::proxy::upgrade::Reply;
use crate::tls::Trust;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A policy in force, with the connections made under it.
pub(super) struct ActivePolicy {
    pub(super) policy: Arc<Policy>,
    client: Client<Dialer, Body>,
    /// For connections that become something else.
    pub(super) switcher: Client<Dialer, Body>,
    pub(super) dialer: Dialer,
    pub(super) approvals: Arc<ApprovalClient>,
    usage_log: Arc<UsageLog>,
}

/// The way out.
pub(super) struct Forwarder {
    active: RwLock<PolicySlot>,
    trust: Trust,
    approvals: Arc<ApprovalClient>,
    usage_log: Arc<UsageLog>,
}

/// How long the policy before stays for requests that egress has judged by it and that are still on their way here.
const PREVIOUS_POLICY_GRACE: Duration = Duration::from_secs(5);

/// The policy in force, and the one before it.
struct PolicySlot {
    now: Arc<ActivePolicy>,
    before: Option<(Arc<ActivePolicy>, Instant)>,
}

impl Forwarder {
    pub(super) fn new(policy: Policy, approvals: ApprovalClient, usage_log: UsageLog) -> Self {
        let (trust, approvals, usage_log) = (Trust::default(), Arc::new(approvals), Arc::new(usage_log));
        let now = Arc::new(ActivePolicy::new(policy, &trust, &approvals, &usage_log));
        Self { active: RwLock::new(PolicySlot { now, before: None }), trust, approvals, usage_log }
    }

    /// From now on requests are judged by this policy, over connections of its own.
    pub(super) fn replace(&self, policy: Policy) {
        let now = Arc::new(ActivePolicy::new(policy, &self.trust, &self.approvals, &self.usage_log));
        let mut slot = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut slot.now, now);
        // With the same routes nothing is on its way that the new policy could not judge.
        if before.policy.routes_hash != slot.now.policy.routes_hash {
            slot.before = Some((before, Instant::now()));
        }
    }

    /// The policy in force, which a request keeps to its end.
    pub(super) fn active(&self) -> Arc<ActivePolicy> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner).now)
    }

    /// The policy with the routes that egress went by, so that a request is judged by one policy all the way. With routes
    /// that are not known (any more) it is judged by those in force, and refused where they don't agree.
    pub(super) fn active_for(&self, routes_hash: &str) -> Arc<ActivePolicy> {
        let slot = self.active.read().unwrap_or_else(PoisonError::into_inner);
        match &slot.before {
            Some((before, since))
                if slot.now.policy.routes_hash != routes_hash
                    && before.policy.routes_hash == routes_hash
                    && since.elapsed() < PREVIOUS_POLICY_GRACE =>
            {
                Arc::clone(before)
            }
            _ => Arc::clone(&slot.now),
        }
    }
}

impl ActivePolicy {
    fn new(policy: Policy, trust: &Trust, approvals: &Arc<ApprovalClient>, usage_log: &Arc<UsageLog>) -> Self {
        let dialer = Dialer::new(trust.clone(), &policy.pipelock);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(32)
            .build(dialer.clone());
        let switcher = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(dialer.http1());
        let (approvals, usage_log) = (Arc::clone(approvals), Arc::clone(usage_log));
        Self { policy: Arc::new(policy), client, switcher, dialer, approvals, usage_log }
    }

    /// Counts a request by the rule about these hosts.
    pub(super) fn count(&self, pattern: &HostPattern, host: &HostName) -> Result<(), Reached> {
        self.usage_log.request(&self.policy.pipelock.limits, pattern, host)
    }

    /// Counts bytes that are about to leave.
    pub(super) fn may_send(&self, host: &HostName, more: u64) -> Result<(), Reached> {
        let limits = &self.policy.pipelock.limits;
        if limits.is_default() {
            return Ok(());
        }
        self.usage_log.bytes(limits, host, more)
    }

    /// Answers a request whose headers are free of what is for one hop or a door's own. `claimed` is the route that
    /// egress found; it is found again here, and both have to agree.
    pub(super) async fn pass<B>(
        self: &Arc<Self>,
        target: &RequestTarget,
        claimed: Option<usize>,
        request: Request<B>,
        log: &mut AccessLog,
    ) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        if target.websocket {
            return self.websocket(target, claimed, request, log).await;
        }
        match self.judge(target, claimed, &request, log) {
            Ok((route, packings)) if self.policy.routes[route].ask => {
                Box::pin(self.send_asking(target, route, &packings, request, log)).await.into()
            }
            Ok((route, packings)) => {
                let rules = self.policy.rules_for(&target.host);
                self.send(target, route, &packings, rules, request, log).await.into()
            }
            Err(answer) => {
                drain(request.into_body());
                (*answer).into()
            }
        }
    }

    /// The route of a request whose head may leave, and what its body is said to be packed in; or the refusal.
    pub(super) fn judge<B: http_body::Body>(
        &self,
        target: &RequestTarget,
        claimed: Option<usize>,
        request: &Request<B>,
        log: &mut AccessLog,
    ) -> Result<(usize, Vec<Packing>), Box<Response<Body>>> {
        let policy = &self.policy;
        log.entry.path = policy.known.mask_str(&log.entry.path);
        let seen = headers::pairs(request.headers());
        let route = match policy.matcher.decide(target::for_rules(target, request, &seen)) {
            Ok(route) => route,
            Err(denied) => {
                log.stop(Verdict::Deny, denied.error);
                return Err(Box::new(json(StatusCode::FORBIDDEN, &denied)));
            }
        };
        log.entry.route = Some(route);
        if claimed.is_some_and(|claimed| claimed != route) {
            log.stop(Verdict::Deny, "route_mismatch");
            let message = "the doors don't agree about the route; the policy may be changing: try again";
            return Err(Box::new(refuse(StatusCode::FORBIDDEN, "route_mismatch", message)));
        }
        let compiled = &policy.routes[route];
        if let Some(answer) = self.judge_head(target, compiled, request, log) {
            return Err(Box::new(answer));
        }
        if let Some(base) = &compiled.upstream
            && policy.matcher.is_git(&base.host, &format!("{}{}", base.path, request.uri().path()))
        {
            log.stop(Verdict::Deny, "git_upstream");
            let message = "git over https to a declared upstream would go round the gate; use git://git-gate:9418/";
            return Err(Box::new(refuse(StatusCode::FORBIDDEN, "git_upstream", message)));
        }
        let rated = |rate| self.usage_log.rate(route, rate);
        if let Err(reached) =
            compiled.rate.map_or(Ok(()), rated).and_then(|()| self.count(&compiled.host, &target.host))
        {
            log.stop(Verdict::Deny, "limit");
            return Err(Box::new(refuse(StatusCode::TOO_MANY_REQUESTS, "limit", reached.to_string())));
        }
        scan::packings(request.headers()).map(|packings| (route, packings)).map_err(|found| {
            log.stop(Verdict::Block, "dlp");
            let answer = blocked(&found);
            log.entry.finding = Some(found);
            Box::new(answer)
        })
    }

    /// The refusal, if the head of the request is not to leave.
    fn judge_head<B: http_body::Body>(
        &self,
        target: &RequestTarget,
        compiled: &CompiledRoute,
        request: &Request<B>,
        log: &mut AccessLog,
    ) -> Option<Response<Body>> {
        if request.body().size_hint().lower() > compiled.max_bytes {
            log.stop(Verdict::Block, "too_large");
            return Some(too_large(compiled.max_bytes));
        }
        let rules = self.policy.rules_for(&target.host);
        let search = self.policy.search(compiled, &rules);
        let (known, found) = scan::head(search, target.host.as_str(), request.uri(), request.headers())?;
        if compiled.ask && !known && !target.websocket {
            // It is looked for again with the body, and asked about together with what is there.
            return None;
        }
        if compiled.mode == Some(Mode::Warn) && !known {
            log.entry.finding = Some(found);
            return None;
        }
        if found.at == "url" {
            log.withhold();
        }
        log.stop(Verdict::Block, "dlp");
        let answer = blocked(&found);
        log.entry.finding = Some(found);
        Some(answer)
    }

    /// Sends a request whose head is judged, and judges its body by these rules.
    pub(super) async fn send<B>(
        self: &Arc<Self>,
        target: &RequestTarget,
        route: usize,
        packings: &[Packing],
        rules: Arc<Rules>,
        request: Request<B>,
        log: &mut AccessLog,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let compiled = &self.policy.routes[route];
        let warned = Arc::new(OnceLock::new());
        let (mut parts, body) = request.into_parts();
        let body = CountedBody::new(body, log);
        let stream_verdict = Arc::clone(&log.stream_verdict);
        let judge = scan::Judge { rules, policy: Arc::clone(&self.policy), route };
        let (this, host) = (Arc::clone(self), target.host.clone());
        let may = Box::new(move |more| this.may_send(&host, more).is_ok());
        let body = ScannedRequest::new(body, packings, judge, stream_verdict, Arc::clone(&warned), may);
        parts.uri = match whole_uri(target, compiled, &parts.uri) {
            Ok(uri) => uri,
            Err(error) => {
                log.stop(Verdict::Error, "request");
                return refuse(StatusCode::BAD_REQUEST, "request", format!("the request can't be sent: {error}"));
            }
        };
        parts.version = Version::HTTP_11;
        parts.headers.remove(HOST);
        credentials(compiled, &mut parts.headers);
        log.entry.credential = compiled.credential.as_ref().map(|added| added.name.to_string());
        let result = self.client.request(Request::from_parts(parts, boxed(body))).await;
        if let Some(found) = warned.get() {
            log.entry.finding.get_or_insert_with(|| found.clone());
        }
        if let Some((reason, found)) = log.stream_verdict.get() {
            let (reason, found) = (*reason, found.clone());
            log.stop(Verdict::Block, reason);
            log.entry.finding.clone_from(&found);
            return match found {
                Some(found) => blocked(&found),
                None => stopped(reason, compiled.max_bytes),
            };
        }
        match result {
            Ok(response) => self.scrubbed(route, response, log).await,
            Err(error) => failed(target, &error, log),
        }
    }

    /// An answer as the guest may have it: its head scrubbed, its body looked at, the route's credential in neither.
    pub(super) async fn scrubbed(
        &self,
        route: usize,
        response: Response<Incoming>,
        log: &mut AccessLog,
    ) -> Response<Body> {
        let looked = self.looked_at(route, response, log).await;
        let looked = match &self.policy.routes[route].credential {
            Some(added) => looked.map(|body| boxed(RedactedBody::new(body, &added.secret))),
            None => looked,
        };
        if !looked.headers().contains_key(TRAILER) {
            return looked;
        }
        let policy = Arc::clone(&self.policy);
        looked.map(|body| boxed(body.map_frame(move |frame| scrubbed_trailers(&policy, frame))))
    }

    async fn looked_at(&self, route: usize, response: Response<Incoming>, log: &mut AccessLog) -> Response<Body> {
        let compiled = &self.policy.routes[route];
        let response = self.scrubbed_head(compiled, response.map(boxed));
        let scanning = &self.policy.pipelock.response_scanning;
        if scanning.is_default() {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let too_large = scanning.max_body_bytes.is_some_and(|most| body.size_hint().lower() > most.0);
        let looked = if too_large {
            Err(("answer_too_large", None))
        } else {
            match ScannedResponse::new(body, &parts.headers, &self.policy, compiled.model, log) {
                Ok(body) => body.begun().await,
                Err(found) => Err(("answer", Some(found))),
            }
        };
        match looked {
            Ok(body) => {
                // A length would have to be kept, and what is cut off can't.
                parts.headers.remove(CONTENT_LENGTH);
                Response::from_parts(parts, boxed(body))
            }
            Err((reason, found)) => {
                log.stop(Verdict::Block, reason);
                let answer = not_let_in(reason, found.as_ref());
                log.entry.finding = found;
                answer
            }
        }
    }

    /// An answer without what is for one hop, a door's own, or a credential.
    pub(super) fn scrubbed_head(&self, compiled: &CompiledRoute, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        headers::strip_hop(headers);
        headers::strip_door_headers(headers);
        if compiled.credential.is_some() {
            // What upstream gives to the credential's owner is a credential, too.
            headers.remove(SET_COOKIE);
        }
        // Over HTTP/1.1, which is spoken to egress, only trailers that are named pass, and over HTTP/2 gRPC names none.
        let grpc = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if grpc {
            headers
                .entry(TRAILER)
                .or_insert(HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin"));
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

/// What stands behind an answer's body is scrubbed as its head is.
fn scrubbed_trailers(policy: &Policy, frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::strip_hop(&mut trailers);
            headers::strip_door_headers(&mut trailers);
            trailers.remove(SET_COOKIE);
            mask_values(policy, &mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// Puts the route's credential in place of whatever the guest sent; a placeholder goes nowhere.
pub(super) fn credentials(compiled: &CompiledRoute, headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, X_API_KEY] {
        let placeholder = headers.get_all(&name).iter().any(|value| scan::is_placeholder(value.as_bytes()));
        // Beside the route's credential, another one could make the request somebody else's.
        if placeholder || compiled.credential.is_some() {
            headers.remove(&name);
        }
    }
    if let Some(added) = &compiled.credential {
        headers.insert(added.header.clone(), added.value.clone());
        // So that it is seen if it comes back.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Where a request really goes.
pub(super) fn whole_uri(target: &RequestTarget, compiled: &CompiledRoute, uri: &Uri) -> Result<Uri, http::Error> {
    let own = uri.path_and_query().map_or("/", |path| path.as_str());
    let (scheme, host, port, path) = match &compiled.upstream {
        None => (target.scheme, &target.host, target.port, own.to_owned()),
        Some(base) => (base.scheme, &base.host, base.port(), format!("{}{own}", base.path)),
    };
    let name = if scheme == Scheme::Https { "https" } else { "http" };
    Uri::builder().scheme(name).authority(authority(scheme, host, port)).path_and_query(path).build()
}

/// There is no connection.
pub(super) fn dial_refusal(dial: &DialError, log: &mut AccessLog) -> Response<Body> {
    tracing::info!("{dial}");
    if matches!(dial, DialError::Refused { .. }) {
        log.stop(Verdict::Block, "address");
        return refuse(StatusCode::FORBIDDEN, "address", dial.to_string());
    }
    log.stop(Verdict::Error, "connect");
    refuse(StatusCode::BAD_GATEWAY, "connect", dial.to_string())
}

pub(super) fn failed(
    target: &RequestTarget,
    error: &hyper_util::client::legacy::Error,
    log: &mut AccessLog,
) -> Response<Body> {
    if log.broken.load(Ordering::Relaxed) {
        log.stop(Verdict::Deny, "bad_body");
        let message = "the request's body is malformed or broke off; it was not sent as a whole";
        return refuse(StatusCode::BAD_REQUEST, "bad_body", message);
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(current) = source {
        if let Some(dial) = current.downcast_ref::<DialError>() {
            return dial_refusal(dial, log);
        }
        last = current.to_string();
        source = current.source();
    }
    log.stop(Verdict::Error, "upstream");
    refuse(StatusCode::BAD_GATEWAY, "upstream", format!("the request to {} failed: {last}", target.host))
}
