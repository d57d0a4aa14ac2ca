//! The proxy of a bottle without routes: the guest talks to pipelock itself, about hosts of `api_allowlist` alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bottle_policy::host::HostName;
use bottle_policy::route::Scheme;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::forward::Exit;
use crate::proxy::access::Line;
use crate::proxy::response::Body;
use crate::proxy::server::Back;
use crate::proxy::target::Asked;

/// Behind pipelock's own front.
pub(super) struct Guest {
    exit: Arc<Exit>,
}

impl Guest {
    pub(super) fn new(exit: Arc<Exit>) -> Self {
        Self { exit }
    }
}

impl Back for Guest {
    fn knows(&self, scheme: Scheme, host: &HostName, port: u16) -> bool {
        self.exit.force().policy.matcher.knows(scheme, host, port)
    }

    async fn answer(&self, asked: Asked, request: Request<Incoming>, mut line: Line) -> Response<Body> {
        let passed = self.exit.force().pass(&asked, None, request, &mut line).await;
        passed.answered(line)
    }

    fn passes(&self, host: &HostName) -> bool {
        self.exit.force().passes(host).is_some()
    }

    async fn tunnel<S>(&self, asked: Asked, hello: Vec<u8>, stream: S, mut line: Line)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let force = self.exit.force();
        match force.tunnel(&asked, &mut line).await {
            Ok(mut upstream) => {
                line.access.status = StatusCode::OK.as_u16();
                line.sent.fetch_add(hello.len() as u64, Ordering::Relaxed);
                if upstream.write_all(&hello).await.is_ok() {
                    force.blind(asked.host, stream, upstream, line).await;
                }
            }
            Err(answer) => line.access.status = answer.status().as_u16(),
        }
    }
}
