//! Connections upstream: a name is resolved once, its addresses are judged, and one that passed is dialled as it is, or asked for at
//! the company's proxy.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bottle_policy::pipelock::PipelockPolicy;
use bottle_types::host::HostName;
use bottle_types::net::{Class, refusal};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls_pki_types::ServerName;

use super::resend::Answered;
use super::scan::shown;
use crate::proxy::unsent::AnsweredStream;
use crate::tls::{Trust, explained};
use crate::upstream_proxy::{ProxyClient, ProxyStream, ReachError, TUNNEL_TIMEOUT, TunnelError, reach};

/// For the name, the connection and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The name has addresses, and none may be dialled.
    #[error("{host} is at {} ({class}), which pipelock does not dial unless `allow_private` names it", shown(*address))]
    Refused { host: String, address: IpAddr, class: Class },
    /// No address.
    #[error("the name {host} does not resolve: {error}")]
    Resolve { host: String, error: io::Error },
    /// No connection.
    #[error("failed to connect to {host}: {error}")]
    Connect { host: String, error: io::Error },
    /// No verified TLS.
    #[error("no verified TLS with {host}: {}", explained(error))]
    Tls { host: String, error: io::Error },
    /// Too slow.
    #[error("no connection to {host} within {} seconds", limit.as_secs())]
    Time { host: String, limit: Duration },
    /// No way through the proxy.
    #[error(transparent)]
    Proxy(#[from] TunnelError),
}

/// Makes connections for a client.
#[derive(Clone)]
pub(super) struct Dialer {
    trust: Trust,
    allowed: Arc<[IpNet]>,
    internal: Arc<[IpNet]>,
    proxy: Option<ProxyClient>,
    /// HTTP/1.1 alone is spoken.
    http1: bool,
}

impl Dialer {
    /// Addresses that are not public, or in an internal network, are dialled only in those that are allowed.
    pub(super) fn new(trust: Trust, policy: &PipelockPolicy, proxy: Option<ProxyClient>) -> Self {
        let (allowed, internal) = (&policy.ssrf.ip_allowlist, &policy.internal);
        Self { trust, allowed: allowed.as_slice().into(), internal: internal.as_slice().into(), proxy, http1: false }
    }

    /// The same for HTTP/1.1 alone.
    pub(super) fn http1(&self) -> Self {
        Self { http1: true, ..self.clone() }
    }

    /// A connection in the clear, for a tunnel whose TLS is not ours.
    pub(super) async fn plain(&self, host: &HostName, port: u16) -> Result<ProxyStream, DialError> {
        self.in_time(host.as_str(), self.open(host.as_str(), port)).await
    }

    /// Gives up when it takes too long.
    async fn in_time<T>(
        &self,
        host: &str,
        dialled: impl Future<Output = Result<T, DialError>>,
    ) -> Result<T, DialError> {
        let limit = if self.proxy_for(host).is_some() { TUNNEL_TIMEOUT } else { CONNECT_TIMEOUT };
        let slow = |_| Err(DialError::Time { host: host.to_owned(), limit });
        tokio::time::timeout(limit, dialled).await.unwrap_or_else(slow)
    }

    /// The proxy through which a host is reached, if one is.
    fn proxy_for(&self, host: &str) -> Option<&ProxyClient> {
        self.proxy.as_ref().filter(|proxy| !proxy.is_direct(host))
    }

    async fn open(&self, host: &str, port: u16) -> Result<ProxyStream, DialError> {
        if let Some((proxy, name)) = self.proxy.as_ref().and_then(|proxy| Some((proxy, proxy.name_for(host)?))) {
            return Ok(proxy.to_name(&name, port).await?);
        }
        let found = resolve(host, port).await?;
        self.connect(host, &found).await
    }

    async fn dial(&self, uri: Uri) -> Result<UpstreamConn, DialError> {
        let host = uri.host().unwrap_or_default().to_owned();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = self.open(&host, port).await?;
        if !secure {
            return Ok(UpstreamConn { io: TokioIo::new(Box::new(AnsweredStream::new(stream))), h2: false });
        }
        let tls = |error| DialError::Tls { host: host.clone(), error };
        let name = ServerName::try_from(host.clone()).map_err(|error| tls(io::Error::other(error)))?;
        let stream = self.trust.connector(self.http1).map_err(tls)?.connect(name, stream).await.map_err(tls)?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
        Ok(UpstreamConn { io: TokioIo::new(Box::new(AnsweredStream::new(stream))), h2 })
    }

    /// Tries the addresses that pass, one after the other.
    async fn connect(&self, host: &str, found: &[SocketAddr]) -> Result<ProxyStream, DialError> {
        let proxy = match &self.proxy {
            Some(proxy) => Some((proxy, proxy.find().await?)),
            None => None,
        };
        let mut last = None;
        for address in found {
            // A name that is at a public and at a private address gets the public one.
            if let Some(class) = refusal(address.ip(), &self.allowed, &self.internal) {
                let refused = DialError::Refused { host: host.to_owned(), address: address.ip(), class };
                last.get_or_insert(refused);
                continue;
            }
            match reach(proxy.as_ref(), host, *address).await {
                Ok(stream) => return Ok(stream),
                Err(ReachError::Proxy(error)) if !error.is_about_the_target() => return Err(error.into()),
                Err(ReachError::Proxy(error)) => last = Some(error.into()),
                Err(ReachError::Direct { error, .. }) => {
                    last = Some(DialError::Connect { host: host.to_owned(), error });
                }
            }
        }
        let none = || io::Error::new(io::ErrorKind::NotFound, "no address");
        Err(last.unwrap_or_else(|| DialError::Resolve { host: host.to_owned(), error: none() }))
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let failed = |error| DialError::Resolve { host: host.to_owned(), error };
    Ok(tokio::net::lookup_host((host, port)).await.map_err(failed)?.collect())
}

impl tower_service::Service<Uri> for Dialer {
    type Response = UpstreamConn;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<UpstreamConn, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().to_owned();
        let dialer = self.clone();
        Box::pin(async move { dialer.in_time(&host, dialer.dial(uri)).await })
    }
}

/// One connection upstream.
pub(super) struct UpstreamConn {
    io: TokioIo<ProxyStream>,
    h2: bool,
}

impl Connection for UpstreamConn {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(Answered::default());
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for UpstreamConn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for UpstreamConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_internal_address_is_refused_before_it_is_dialled() {
        let policy = PipelockPolicy {
            version: 1,
            internal: vec!["192.0.3.0/24".parse().expect("a network")],
            ..serde_json::from_str(r#"{"version": 1}"#).expect("a policy")
        };
        let dialer = Dialer::new(Trust::default(), &policy, None);
        for address in ["192.0.3.1:443", "[::ffff:192.0.3.1]:443"] {
            let refused = dialer.connect("x.example", &[address.parse().expect("an address")]).await;
            let Err(error) = refused else { panic!("{address} was dialled") };
            assert!(error.to_string().contains("at 192.0.3.1 (internal)"), "{error}");
        }
    }

    /// A name that leads elsewhere when it is asked for again, or nowhere, as this one does, changes nothing: it is not asked for.
    #[tokio::test]
    async fn what_is_dialled_is_the_address_that_was_judged() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let judged = listener.local_addr().expect("an address");
        let policy = r#"{"version": 1, "ssrf": {"ip_allowlist": ["127.0.0.1/32"]}}"#;
        let dialer = Dialer::new(Trust::default(), &serde_json::from_str(policy).expect("a policy"), None);
        let refused = SocketAddr::from(([127, 0, 0, 2], judged.port()));
        let stream = dialer.connect("rebinds.invalid", &[refused, judged]).await.expect("a connection");
        let (mut there, _) = listener.accept().await.expect("the judged one");
        drop(stream);
        assert_eq!(tokio::io::AsyncReadExt::read(&mut there, &mut [0]).await.expect("its end"), 0);
    }
}
