//! Which route a request takes: to the model's own way, or straight on to pipelock.

use std::sync::{Arc, PoisonError, RwLock};

use bottle_policy::route::Scheme;
use bottle_types::host::HostName;
use bottle_wire::access::AccessVerdict;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::PipelockClient;
use super::forge::{self, ForgeCall};
use super::mcp::{McpCall, McpServers};
use super::model::Model;
use super::policy::RoutePolicy;
use crate::common::Dirs;
use crate::proxy::access::{AccessLog, CountedBody};
use crate::proxy::headers;
use crate::proxy::response::{self, Body, boxed, drain};
use crate::proxy::server::Handler;
use crate::proxy::target::{self, RequestTarget};

/// The handler behind egress' proxy server.
pub(super) struct EgressHandler {
    policy: RwLock<Arc<RoutePolicy>>,
    model: Model,
    mcp: McpServers,
    client: PipelockClient,
}

impl EgressHandler {
    pub(super) fn new(policy: RoutePolicy, model: Model, dirs: &Dirs) -> Self {
        let (mcp, client) = (McpServers::default(), PipelockClient::new(dirs));
        Self { policy: RwLock::new(Arc::new(policy)), model, mcp, client }
    }

    /// From now on requests are judged by this policy; those under way finish under theirs.
    pub(super) fn replace(&self, policy: RoutePolicy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    fn policy(&self) -> Arc<RoutePolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Handler for EgressHandler {
    fn knows(&self, scheme: Scheme, host: &HostName, port: u16) -> bool {
        self.policy().matcher.knows(scheme, host, port)
    }

    fn passes(&self, host: &HostName) -> bool {
        self.policy().routes.passes_through(host).is_some()
    }

    async fn tunnel<S>(&self, target: RequestTarget, hello: Vec<u8>, stream: S, log: AccessLog)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.client.tunnel(self.policy(), &target, hello, stream, log).await;
    }

    async fn answer(&self, target: RequestTarget, request: Request<Incoming>, mut log: AccessLog) -> Response<Body> {
        let policy = self.policy();
        let seen = headers::pairs(request.headers());
        let decided = match target.is_self_test() {
            // pipelock has a route more, behind all others, which judges and leads nowhere.
            true => Ok(policy.routes.routes.len()),
            false => policy.matcher.decide(target::for_rules(&target, &request, &seen)),
        };
        let route = match decided {
            Ok(route) => route,
            Err(denied) => {
                log.stop(AccessVerdict::Deny, denied.error);
                tracing::info!("refused {} {}: {}", request.method(), target.host, denied.error);
                drop(seen);
                let answer = response::denied(request.headers(), &denied);
                drain(request.into_body());
                return log.answer(answer);
            }
        };
        drop(seen);
        log.entry.route = Some(route).filter(|route| *route < policy.routes.routes.len());
        // What is longer than most is in a box: each connection has room for what its answer waits for, and most are idle.
        if target.websocket {
            return Box::pin(self.client.websocket(&policy, &target, route, request, log)).await;
        }
        let request = request.map(|body| CountedBody::new(body, &log));
        if let Some(Some(judge)) = policy.mcp.get(route) {
            let call = McpCall { pipelock: &self.client, policy: &policy, target: &target, route, judge };
            return Box::pin(self.mcp.answer(call, request, log)).await;
        }
        if let Some(Some(judge)) = policy.forge.get(route) {
            let call = ForgeCall { pipelock: &self.client, policy: &policy, target: &target, route, judge };
            return Box::pin(forge::answer(call, request, log)).await;
        }
        if policy.routes.routes.get(route).is_some_and(|route| route.model) {
            return Box::pin(self.model.answer(&self.client, &policy, &target, route, request, log)).await;
        }
        let response = self.client.forward(&policy, &target, route, request.map(boxed), &mut log).await;
        log.answer(response)
    }
}
