//! Hosts whose TLS is not ended at the doors: bytes both ways, to an address that was judged, and nothing looked into.

use std::sync::Arc;

use bottle_types::host::{HostName, HostPattern};
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use super::active::ActivePolicy;
use super::forward::dial_refusal;
use crate::proxy::access::AccessLog;
use crate::proxy::response::{Body, refuse};
use crate::proxy::target::RequestTarget;
use crate::proxy::upgrade;
use crate::upstream_proxy::ProxyStream;

impl ActivePolicy {
    /// The rule by which a host's TLS is not ended.
    pub(super) fn passes(&self, host: &HostName) -> Option<&HostPattern> {
        self.policy.pipelock.tls_interception.passthrough_domains.iter().find(|pattern| pattern.matches(host))
    }

    /// A connection to such a host, or the refusal.
    pub(super) async fn tunnel(
        &self,
        target: &RequestTarget,
        log: &mut AccessLog,
    ) -> Result<ProxyStream, Box<Response<Body>>> {
        log.entry.not_inspected = true;
        let Some(pattern) = self.passes(&target.host).filter(|_| target.port == 443) else {
            log.stop(AccessVerdict::Deny, Reason::NoRoute);
            let message = format!("{} is none of the hosts whose TLS is passed through", target.host);
            return Err(Box::new(refuse(StatusCode::FORBIDDEN, Reason::NoRoute, message)));
        };
        if let Err(reached) = self.count(pattern, &target.host) {
            log.stop(AccessVerdict::Deny, Reason::Limit);
            return Err(Box::new(refuse(StatusCode::TOO_MANY_REQUESTS, Reason::Limit, reached.to_string())));
        }
        self.dialer.plain(&target.host, target.port).await.map_err(|error| Box::new(dial_refusal(&error, log)))
    }

    /// Passes bytes both ways.
    pub(super) async fn blind<S>(self: Arc<Self>, host: HostName, guest: S, upstream: ProxyStream, mut log: AccessLog)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        upgrade::relay(guest, upstream, &mut log, |more| self.may_send(&host, more).is_ok()).await;
    }
}
