//! Judges one request, adds the credential of its route, sends it, and gives the answer back.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bottle_policy::route::Scheme;
use bottle_scan::dlp::{Mode, Packing, Rules};
use bottle_types::place::Where;
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::active::ActivePolicy;
use super::aws::{self, Unsigned};
use super::dial::DialError;
use super::policy::{Added, CompiledRoute, Credential};
use super::refusal::{blocked, stopped, too_large};
use super::scan::{self, BodyScan, ScannedRequest, X_API_KEY};
use crate::proxy::access::{AccessLog, CountedBody};
use crate::proxy::headers;
use crate::proxy::response::{self, Body, BoxError, boxed, drain, refuse};
use crate::proxy::target::{self, RequestTarget, authority};
use crate::proxy::upgrade::ProxyReply;
use crate::sigv4::chunked::{ChunkedUpload, Unframed};
use crate::upstream_proxy::TunnelError;

impl ActivePolicy {
    /// Answers a request whose headers are free of what is for one hop or a door's own. `claimed` is the route that
    /// egress found; it is found again here, and both have to agree.
    pub(super) async fn pass<B>(
        self: &Arc<Self>,
        target: &RequestTarget,
        claimed: Option<usize>,
        request: Request<B>,
        log: &mut AccessLog,
    ) -> ProxyReply
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        if target.websocket {
            return self.websocket(target, claimed, request, log).await;
        }
        let reply = match self.judge(target, claimed, &request, log) {
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
        };
        let is_canary = log.entry.finding.as_ref().is_some_and(|found| found.rule.is_canary());
        // The self-test is over before the agent starts: what comes there later is the agent's.
        log.is_self_test = target.is_self_test() && is_canary && self.is_first_self_test();
        reply
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
        let route = match target.is_self_test() {
            true => policy.self_test_route(),
            false => self.route(target, request, log)?,
        };
        if claimed.is_some_and(|claimed| claimed != route) {
            log.stop(AccessVerdict::Deny, Reason::RouteMismatch);
            let message = "the doors don't agree about the route; the policy may be changing: try again";
            return Err(Box::new(refuse(StatusCode::FORBIDDEN, Reason::RouteMismatch, message)));
        }
        let compiled = &policy.routes[route];
        if let Some(answer) = self.judge_head(target, compiled, request, log) {
            return Err(Box::new(answer));
        }
        if let Some(base) = &compiled.upstream
            && policy.matcher.is_git_behind(base, request.uri().path())
        {
            log.stop(AccessVerdict::Deny, Reason::GitUpstream);
            let message = "git over https to a declared upstream would go round the gate; use git://git-gate:9418/";
            return Err(Box::new(refuse(StatusCode::FORBIDDEN, Reason::GitUpstream, message)));
        }
        let rated = |rate| self.count_rate(route, rate);
        if !compiled.leads_nowhere
            && let Err(reached) =
                compiled.rate.map_or(Ok(()), rated).and_then(|()| self.count(&compiled.host, &target.host))
        {
            log.stop(AccessVerdict::Deny, Reason::Limit);
            return Err(Box::new(refuse(StatusCode::TOO_MANY_REQUESTS, Reason::Limit, reached.to_string())));
        }
        scan::packings(request.headers()).map(|packings| (route, packings)).map_err(|found| {
            log.stop(AccessVerdict::Block, Reason::Dlp);
            let answer = blocked(&found);
            log.entry.finding = Some(found);
            Box::new(answer)
        })
    }

    /// The route that the rules have for a request, or the refusal.
    fn route<B>(
        &self,
        target: &RequestTarget,
        request: &Request<B>,
        log: &mut AccessLog,
    ) -> Result<usize, Box<Response<Body>>> {
        let seen = headers::pairs(request.headers());
        match self.policy.matcher.decide(target::for_rules(target, request, &seen)) {
            Ok(route) => {
                log.entry.route = Some(route);
                Ok(route)
            }
            Err(denied) => {
                log.stop(AccessVerdict::Deny, denied.error);
                Err(Box::new(response::denied(request.headers(), &denied)))
            }
        }
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
            log.stop(AccessVerdict::Block, Reason::TooLarge);
            return Some(too_large(compiled.max_bytes));
        }
        let rules = self.policy.rules_for(&target.host);
        let search = self.policy.search(compiled, &rules);
        let found = scan::head(search, target.host.as_str(), request.uri(), request.headers())?;
        let may_pass = !found.rule.is_always_refused();
        if compiled.ask && may_pass && !target.websocket {
            // It is looked for again with the body, and asked about together with what is there.
            return None;
        }
        if compiled.mode == Some(Mode::Warn) && may_pass {
            log.entry.finding = Some(found);
            return None;
        }
        if found.at == Where::Url {
            log.withhold();
        }
        log.stop(AccessVerdict::Block, Reason::Dlp);
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
        if let Some(answer) = ended(compiled, log) {
            drain(request.into_body());
            return answer;
        }
        let warned = Arc::new(OnceLock::new());
        let (mut parts, body) = request.into_parts();
        let upload = match compiled.upload(&parts) {
            Ok(upload) => upload,
            Err(why) => {
                drain(body);
                return unsigned(&why, log);
            }
        };
        let body = CountedBody::new(Unframed::new(body, upload.clone()), log);
        let stream_verdict = Arc::clone(&log.stream_verdict);
        let windows = Arc::clone(&self.windows);
        let scan = BodyScan::new(packings, &parts.headers, &windows.before(&target.host));
        let judge =
            scan::BodyRules { rules, policy: Arc::clone(&self.policy), route, host: target.host.clone(), windows };
        let (this, host) = (Arc::clone(self), target.host.clone());
        let leads_nowhere = compiled.leads_nowhere;
        let may = Box::new(move |more| leads_nowhere || this.may_send(&host, more).is_ok());
        let body = ScannedRequest::new(body, scan, judge, stream_verdict, Arc::clone(&warned), may);
        parts.uri = match whole_uri(target, compiled, &parts.uri) {
            Ok(uri) => uri,
            Err(error) => {
                log.stop(AccessVerdict::Error, Reason::Request);
                return refuse(StatusCode::BAD_REQUEST, Reason::Request, format!("the request can't be sent: {error}"));
            }
        };
        parts.version = Version::HTTP_11;
        parts.headers.remove(HOST);
        credentials(compiled, &mut parts.headers);
        log.entry.credential = compiled.credential.as_ref().map(|added| added.name.to_string());
        let result = match compiled.leads_nowhere {
            true => Box::pin(nowhere(boxed(body))).await,
            false => self.dispatch(compiled, parts, boxed(body), upload).await,
        };
        if let Some(found) = warned.get() {
            log.entry.finding.get_or_insert_with(|| found.clone());
        }
        if let Some((reason, found)) = log.stream_verdict.get() {
            let (reason, found) = (*reason, found.clone());
            log.stop(AccessVerdict::Block, reason);
            log.entry.finding.clone_from(&found);
            return match found {
                Some(found) => blocked(&found),
                None => stopped(reason, compiled.max_bytes),
            };
        }
        match result {
            Ok(response) => self.scrubbed(route, response, log).await,
            Err(NotSent::Failed(error)) => failed(target, &error, log),
            Err(NotSent::Unsigned(why)) => unsigned(&why, log),
            Err(NotSent::Ended(why)) => credential_ended(&why, log),
            Err(NotSent::Nowhere) => {
                log.stop(AccessVerdict::Error, Reason::Upstream);
                let message = "nothing was found in the request, and nobody is behind this host: it is the self-test's";
                refuse(StatusCode::BAD_GATEWAY, Reason::Upstream, message)
            }
        }
    }

    /// Sends a request, signed where the route says so: what is signed is what the scan has let through.
    async fn dispatch(
        &self,
        compiled: &CompiledRoute,
        parts: Parts,
        body: Body,
        upload: Option<ChunkedUpload>,
    ) -> Result<Response<Incoming>, NotSent> {
        let request = match compiled.signer() {
            Some(signer) => {
                let request = aws::signed(signer, parts, body, upload).await.map_err(NotSent::Unsigned)?;
                // A body that is hashed first may have taken long to come.
                match compiled.credential.as_ref().and_then(Credential::why_ended) {
                    Some(why) => return Err(NotSent::Ended(why)),
                    None => request,
                }
            }
            None => Request::from_parts(parts, body),
        };
        self.upstream.request(request).await.map_err(NotSent::Failed)
    }
}

/// Why there is no answer of upstream's.
enum NotSent {
    Unsigned(Unsigned),
    /// Its credential has ended meanwhile, for this reason.
    Ended(String),
    Failed(hyper_util::client::legacy::Error),
    /// It was let through where nobody is.
    Nowhere,
}

/// Takes a body as an upstream would, and gives it to nobody. What stops it is in the line of the request.
async fn nowhere(body: Body) -> Result<Response<Incoming>, NotSent> {
    // Its bytes are of no use; only its end is waited for.
    drop(body.collect().await);
    Err(NotSent::Nowhere)
}

/// The refusal of a request that can't be signed.
fn unsigned(why: &Unsigned, log: &mut AccessLog) -> Response<Body> {
    if log.broken.load(Ordering::Relaxed) {
        return broken(log);
    }
    log.stop(AccessVerdict::Deny, Reason::Unsigned);
    refuse(why.status(), Reason::Unsigned, format!("the request was not sent: {why}"))
}

/// The refusal of a request whose body ended with an error.
fn broken(log: &mut AccessLog) -> Response<Body> {
    log.stop(AccessVerdict::Deny, Reason::BadBody);
    let message = "the request's body is malformed or broke off; it was not sent as a whole";
    refuse(StatusCode::BAD_REQUEST, Reason::BadBody, message)
}

/// The refusal, if the route's credential has ended; looked at as late as can be, because a person may have been asked meanwhile.
pub(super) fn ended(compiled: &CompiledRoute, log: &mut AccessLog) -> Option<Response<Body>> {
    compiled.credential.as_ref()?.why_ended().map(|why| credential_ended(&why, log))
}

fn credential_ended(why: &str, log: &mut AccessLog) -> Response<Body> {
    log.stop(AccessVerdict::Deny, Reason::Credential);
    let message = format!("the request was not sent: {why}; try again later, or go on without it");
    refuse(StatusCode::SERVICE_UNAVAILABLE, Reason::Credential, message)
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
    if compiled.model && compiled.credential.is_some() {
        // By these Foundry and Google know a client.
        ["api-key", "x-goog-api-key"].iter().for_each(|name| drop(headers.remove(*name)));
    }
    if let Some(credential) = &compiled.credential {
        if let Added::Header(name, value) = &credential.added {
            headers.insert(name.clone(), value.clone());
        }
        // So that it is seen if it comes back.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Where a request really goes.
pub(super) fn whole_uri(target: &RequestTarget, compiled: &CompiledRoute, uri: &Uri) -> Result<Uri, http::Error> {
    let path_of_request = uri.path_and_query().map_or("/", |path| path.as_str());
    let (scheme, host, port, path) = match &compiled.upstream {
        None => (target.scheme, &target.host, target.port, path_of_request.to_owned()),
        Some(base) => (base.scheme, &base.host, base.port(), format!("{}{path_of_request}", base.path)),
    };
    let name = if scheme == Scheme::Https { "https" } else { "http" };
    Uri::builder().scheme(name).authority(authority(scheme, host, port)).path_and_query(path).build()
}

/// There is no connection.
pub(super) fn dial_refusal(dial: &DialError, log: &mut AccessLog) -> Response<Body> {
    tracing::info!("{dial}");
    if matches!(dial, DialError::Refused { .. } | DialError::Proxy(TunnelError::Itself { .. })) {
        log.stop(AccessVerdict::Block, Reason::Address);
        return refuse(StatusCode::FORBIDDEN, Reason::Address, dial.to_string());
    }
    log.fail(Reason::Connect, dial);
    refuse(StatusCode::BAD_GATEWAY, Reason::Connect, dial.to_string())
}

pub(super) fn failed(
    target: &RequestTarget,
    error: &hyper_util::client::legacy::Error,
    log: &mut AccessLog,
) -> Response<Body> {
    if log.broken.load(Ordering::Relaxed) {
        return broken(log);
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
    log.fail(Reason::Upstream, &last);
    refuse(StatusCode::BAD_GATEWAY, Reason::Upstream, format!("the request to {} failed: {last}", target.host))
}
