//! The proxy of a bottle without routes: the guest talks to pipelock itself, about hosts of `api_allowlist` alone.

use std::sync::Arc;

use bottle_policy::host::HostName;
use bottle_policy::route::Scheme;
use http::{Request, Response};
use hyper::body::Incoming;

use super::exit::Exit;
use crate::proxy::access::Line;
use crate::proxy::answer::Body;
use crate::proxy::front::Back;
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
        let response = self.exit.force().pass(&asked, None, request, &mut line).await;
        line.answer(response)
    }
}
