//! The proxy of a bottle without routes: the guest talks to pipelock itself, about hosts of `api_allowlist` alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bottle_policy::route::Scheme;
use bottle_types::host::HostName;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::active::Forwarder;
use crate::proxy::access::AccessLog;
use crate::proxy::response::Body;
use crate::proxy::server::Handler;
use crate::proxy::target::RequestTarget;

/// Behind pipelock's own front.
pub(super) struct StandaloneHandler {
    forwarder: Arc<Forwarder>,
}

impl StandaloneHandler {
    pub(super) fn new(forwarder: Arc<Forwarder>) -> Self {
        Self { forwarder }
    }
}

impl Handler for StandaloneHandler {
    fn knows(&self, scheme: Scheme, host: &HostName, port: u16) -> bool {
        self.forwarder.active().policy.matcher.knows(scheme, host, port)
    }

    async fn answer(&self, target: RequestTarget, request: Request<Incoming>, mut log: AccessLog) -> Response<Body> {
        let reply = self.forwarder.active().pass(&target, None, request, &mut log).await;
        reply.finish(log)
    }

    fn passes(&self, host: &HostName) -> bool {
        self.forwarder.active().passes(host).is_some()
    }

    async fn tunnel<S>(&self, target: RequestTarget, hello: Vec<u8>, stream: S, mut log: AccessLog)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let active = self.forwarder.active();
        match active.tunnel(&target, &mut log).await {
            Ok(mut upstream) => {
                log.entry.status = StatusCode::OK.as_u16();
                log.sent.fetch_add(hello.len() as u64, Ordering::Relaxed);
                if upstream.write_all(&hello).await.is_ok() {
                    active.blind(target.host, stream, upstream, log).await;
                }
            }
            Err(answer) => log.entry.status = answer.status().as_u16(),
        }
    }
}
