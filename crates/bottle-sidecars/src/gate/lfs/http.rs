//! Requests of the gate's own: one connection each, to the upstream's host or to an address that was judged, over verified TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bottle_policy::gate::{Transport, UpstreamUrl};
use bottle_types::net::refusal;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt as _;

use super::LfsError;
use crate::tls::{Trust, explained};
use crate::upstream_proxy::{ProxyClient, ProxyStream, ReachError, TUNNEL_TIMEOUT, TunnelError, reach};

/// For the name, the connection and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one object to be sent and answered for, as long as a push may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1800);
/// For the next bytes of an answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const CHUNK_BYTES: usize = 64 << 10;

/// The body of a request or an answer.
pub(super) type LfsBody = UnsyncBoxBody<Bytes, io::Error>;

/// A body of these bytes.
pub(super) fn full(bytes: impl Into<Bytes>) -> LfsBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of a file's bytes, from where it stands on.
pub(super) fn file(file: std::fs::File) -> LfsBody {
    let chunks = stream::try_unfold(tokio::fs::File::from_std(file), |mut file| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = file.read(&mut chunk).await?;
        chunk.truncate(count);
        Ok::<_, io::Error>((count > 0).then(|| (Frame::data(Bytes::from(chunk)), file)))
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// The next bytes of a body; none at its end.
pub(super) async fn next_bytes(body: &mut Incoming) -> Result<Option<Bytes>, LfsError> {
    loop {
        let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await;
        let slow = |_| LfsError::Transient(format!("nothing came for {} s", IDLE_TIMEOUT.as_secs()));
        match frame.map_err(slow)? {
            None => return Ok(None),
            Some(Err(error)) => return Err(LfsError::Transient(format!("it broke off: {error}"))),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Makes requests for one upstream.
#[derive(Clone)]
pub(super) struct LfsClient {
    trust: Trust,
    upstream: UpstreamUrl,
    allowed: Vec<IpNet>,
    internal: Vec<IpNet>,
    proxy: Option<ProxyClient>,
}

impl LfsClient {
    /// A client that reaches the upstream's host as git does, wherever it is, and others by the rules of pipelock.
    pub(super) fn new(
        upstream: &UpstreamUrl,
        allowed: &[IpNet],
        internal: &[IpNet],
        proxy: Option<ProxyClient>,
    ) -> Self {
        let (allowed, internal) = (allowed.to_vec(), internal.to_vec());
        Self { trust: Trust::default(), upstream: upstream.clone(), allowed, internal, proxy }
    }

    /// Tells whether an address is at the upstream's own authority, for which its token is.
    pub(super) fn is_upstreams(&self, uri: &Uri) -> bool {
        uri.scheme_str() == Some(self.upstream.transport.scheme())
            && uri.authority().is_some_and(|authority| {
                let own = self.upstream.authority();
                let port = match self.upstream.transport {
                    Transport::Http => 80,
                    Transport::Https | Transport::Ssh => 443,
                };
                let written = authority.as_str();
                written.eq_ignore_ascii_case(&own) || written.eq_ignore_ascii_case(&format!("{own}:{port}"))
            })
    }

    /// Reads an address that upstream gave.
    pub(super) fn address(&self, text: &str) -> Result<Uri, LfsError> {
        let refused = |why: &str| LfsError::Refused(format!("upstream sends its objects to an address {why}"));
        let uri: Uri = text.parse().map_err(|_| refused("that can't be read"))?;
        let authority = uri.authority().ok_or_else(|| refused("without a host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("with a credential in it"));
        }
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if self.is_upstreams(&uri) => Ok(uri),
            _ => Err(refused("that is not https")),
        }
    }

    /// Sends a request to an address that [`Self::address`] has read; the answer is whatever it is, redirects too.
    pub(super) async fn send(&self, mut request: Request<LfsBody>) -> Result<Response<Incoming>, LfsError> {
        let uri = request.uri().clone();
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err(LfsError::Refused("an address without a host".to_owned()));
        };
        let name = HeaderValue::from_str(authority.as_str());
        let name = name.map_err(|_| LfsError::Refused("a host that can't be asked for".to_owned()))?;
        request.headers_mut().insert(header::HOST, name);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("claude-bottle-gate"));
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() =
            path.parse().map_err(|_| LfsError::Refused("a path that can't be asked for".to_owned()))?;
        let limit = if self.proxy.is_some() { TUNNEL_TIMEOUT } else { CONNECT_TIMEOUT };
        let slow = |_| LfsError::Transient(format!("no connection to {host} within {} s", limit.as_secs()));
        let stream = tokio::time::timeout(limit, self.dial(&uri, host)).await.map_err(slow)??;
        let broken = |error: hyper::Error| LfsError::Transient(format!("the connection to {host} broke: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let slow = |_| LfsError::Transient(format!("{host} did not answer within {} s", ANSWER_TIMEOUT.as_secs()));
        tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await.map_err(slow)?.map_err(broken)
    }

    async fn dial(&self, uri: &Uri, host: &str) -> Result<ProxyStream, LfsError> {
        let is_secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let stream = match self.proxy.as_ref().and_then(|proxy| Some((proxy, proxy.name_for(name)?))) {
            Some((proxy, name)) => proxy.to_name(&name, port).await.map_err(through)?,
            None => {
                let found = tokio::net::lookup_host((name, port)).await;
                let failed = |error| LfsError::Transient(format!("the name {host} does not resolve: {error}"));
                let found: Vec<SocketAddr> = found.map_err(failed)?.collect();
                self.connect(host, &found).await?
            }
        };
        if !is_secure {
            return Ok(stream);
        }
        let tls = |error: io::Error| LfsError::Refused(format!("no verified TLS with {host}: {}", explained(&error)));
        let name = ServerName::try_from(name.to_owned()).map_err(|error| tls(io::Error::other(error)))?;
        let stream = self.trust.connector(true).map_err(tls)?.connect(name, stream).await.map_err(tls)?;
        Ok(Box::new(stream))
    }

    /// Tries the addresses that pass, one after the other. Upstream's own host is where git goes too.
    async fn connect(&self, host: &str, found: &[SocketAddr]) -> Result<ProxyStream, LfsError> {
        let proxy = match &self.proxy {
            Some(proxy) => Some((proxy, proxy.find().await.map_err(through)?)),
            None => None,
        };
        let is_own = host.eq_ignore_ascii_case(&self.upstream.host.to_string());
        let mut last = LfsError::Transient(format!("the name {host} has no address"));
        for address in found {
            if let Some(class) = refusal(address.ip(), &self.allowed, &self.internal).filter(|_| !is_own) {
                let ip = address.ip();
                last = LfsError::Refused(format!(
                    "upstream sends its objects to {host}, which is at {ip} ({class}); the gate goes there only if \
                     `pipelock.allow_private` names it"
                ));
                continue;
            }
            match reach(proxy.as_ref(), host, *address).await {
                Ok(stream) => return Ok(stream),
                Err(ReachError::Proxy(error)) if !error.is_about_the_target() => return Err(through(error)),
                Err(ReachError::Proxy(error)) => last = through(error),
                Err(ReachError::Direct { error, .. }) => {
                    last = LfsError::Transient(format!("failed to connect to {host}: {error}"));
                }
            }
        }
        Err(last)
    }
}

/// No way through the proxy; what it refuses for good is not tried again.
fn through(error: TunnelError) -> LfsError {
    match error {
        TunnelError::Itself { .. } => LfsError::Refused(error.to_string()),
        error => LfsError::Transient(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::common::Dirs;
    use crate::credentials::CredentialStatus;

    fn client(upstream: &str) -> LfsClient {
        LfsClient::new(
            &UpstreamUrl::parse(upstream).expect("an upstream"),
            &[],
            &["8.8.0.0/16".parse().expect("a network")],
            None,
        )
    }

    #[test]
    fn an_address_is_https_or_upstreams_own() {
        for (upstream, address, good) in [
            ("https://git.example.org/a/b.git", "https://cdn.example.org/x?y=1", true),
            ("https://git.example.org/a/b.git", "http://git.example.org/x", false),
            ("https://git.example.org/a/b.git", "https://u:p@git.example.org/x", false),
            ("https://git.example.org/a/b.git", "ftp://git.example.org/x", false),
            ("https://git.example.org/a/b.git", "/x", false),
            ("http://git.example.org:3000/a/b.git", "http://git.example.org:3000/x", true),
            ("http://git.example.org:3000/a/b.git", "http://git.example.org/x", false),
            ("http://git.example.org:3000/a/b.git", "http://cdn.example.org:3000/x", false),
            ("ssh://git@git.example.org/a/b.git", "http://git.example.org/x", false),
            ("ssh://git@git.example.org/a/b.git", "https://git.example.org/x", true),
        ] {
            assert_eq!(client(upstream).address(address).is_ok(), good, "{upstream} {address}");
        }
    }

    #[test]
    fn the_token_is_for_upstreams_own_authority() {
        let client = client("https://git.example.org/a/b.git");
        for (address, own) in [
            ("https://git.example.org/x", true),
            ("https://GIT.example.org:443/x", true),
            ("https://git.example.org:8443/x", false),
            ("http://git.example.org/x", false),
            ("https://git.example.org.evil.example/x", false),
        ] {
            assert_eq!(client.is_upstreams(&address.parse().expect("an address")), own, "{address}");
        }
    }

    #[tokio::test]
    async fn no_other_host_is_dialled_at_an_address_that_is_not_public() {
        let client = client("https://git.example.org/a/b.git");
        for (address, class) in [
            ("127.0.0.1:9", "loopback"),
            ("10.0.0.1:9", "private"),
            ("169.254.169.254:80", "metadata"),
            ("[::ffff:10.0.0.1]:9", "private"),
            ("8.8.8.8:9", "internal"),
        ] {
            let found = [address.parse().expect("an address")];
            let refused = client.connect("cdn.example.org", &found).await.err().map(|error| error.to_string());
            assert!(refused.as_ref().is_some_and(|why| why.contains(&format!("({class})"))), "{address}: {refused:?}");
        }
        // Upstream itself is where git goes, too.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = [listener.local_addr().expect("an address")];
        assert!(client.connect("git.example.org", &own).await.is_ok());
    }

    /// Upstream's server chooses where its objects are; what it writes as an address is never a name for the proxy.
    #[tokio::test]
    async fn an_address_is_judged_also_where_the_proxy_resolves_names() {
        let proxy = r#"{"url": "http://127.0.0.1:1", "remote_dns": true}"#;
        let dirs =
            Dirs { doors: PathBuf::new(), internal: PathBuf::new(), state: PathBuf::new(), secrets: PathBuf::new() };
        let proxy = serde_json::from_str(proxy).expect("a proxy");
        let proxy = ProxyClient::new(&dirs, &CredentialStatus::default(), &proxy, &Trust::default());
        let mut client = client("https://git.example.org/a/b.git");
        client.proxy = Some(proxy.expect("a client"));
        for host in ["169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]", "10.0.0.1", "127.1"] {
            let uri = format!("https://{host}/x").parse().expect("an address");
            let error = client.dial(&uri, host).await.err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|why| why.contains("which is at")), "{host}: {error:?}");
        }
        let uri = "https://cdn.example.org/x".parse().expect("an address");
        let error = client.dial(&uri, "cdn.example.org").await.err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|why| why.contains("failed to connect to the proxy")), "{error:?}");
    }
}
