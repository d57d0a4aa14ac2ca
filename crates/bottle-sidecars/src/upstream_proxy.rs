//! The company's proxy: a tunnel through it by CONNECT (RFC 9110, 9.3.6), to an address that was judged.
//!
//! Always: what the proxy says beside its status is neither shown nor believed; whoever answers through the tunnel is verified by TLS
//! above. Which address is asked for is the caller's to judge, but one: the proxy's own, which is nobody's upstream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_policy::gate::GitHost;
use bottle_policy::proxy::UpstreamProxy;
use bottle_types::host::HostName;
use bottle_types::secret::SecretName;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::common::{Dirs, Error};
use crate::credentials::{CredentialEnd, CredentialStatus};
use crate::tls::{Trust, explained};

/// For the proxy's name, the connection to it and its TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For its answer to CONNECT, in which it makes a connection itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// For all of it, by several addresses.
pub(crate) const TUNNEL_TIMEOUT: Duration = Duration::from_secs(25);
/// The longest head of an answer; proxies put a few lines there.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Bytes both ways, in the clear or in TLS.
pub(crate) trait ProxyIo: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ProxyIo for T {}

/// A connection, direct or in a tunnel.
pub(crate) type ProxyStream = Box<dyn ProxyIo>;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// No address of the proxy's.
    #[error("the name of the proxy {proxy} does not resolve: {error}")]
    Resolve { proxy: String, error: io::Error },
    /// No connection to it.
    #[error("failed to connect to the proxy {proxy}: {error}")]
    Connect { proxy: String, error: io::Error },
    /// No connection to it in time.
    #[error("no connection to the proxy {proxy} within {} seconds", CONNECT_TIMEOUT.as_secs())]
    ConnectTime { proxy: String },
    /// No verified TLS with it.
    #[error("no verified TLS with the proxy {proxy}: {}", explained(error))]
    Tls { proxy: String, error: io::Error },
    /// Its credential has ended.
    #[error("the proxy {proxy} was not asked: {why}")]
    Ended { proxy: String, why: String },
    /// It wants to know who asks.
    #[error(
        "the proxy {proxy} asks for credentials ({}): give `proxy.user` and `proxy.password_from`, or write both into HTTPS_PROXY",
        status.as_u16()
    )]
    NoCredential { proxy: String, status: StatusCode },
    /// It knows better.
    #[error(
        "the proxy {proxy} does not take the credential {credential} ({}): check user and password, and that the proxy takes Basic",
        status.as_u16()
    )]
    Credential { proxy: String, credential: SecretName, status: StatusCode },
    /// It does not want to.
    #[error("the proxy {proxy} refused CONNECT {target}: {status}{}", advice(*status))]
    Refused { proxy: String, target: String, status: StatusCode },
    /// What it said is not HTTP, or too much, or nothing.
    #[error("the proxy {proxy} gave no answer to CONNECT {target} that is HTTP: {error}")]
    Malformed { proxy: String, target: String, error: hyper::Error },
    /// It spoke before upstream could.
    #[error("the proxy {proxy} sent bytes behind its answer to CONNECT {target}, before anything was asked of it")]
    Early { proxy: String, target: String },
    /// It did not answer.
    #[error("the proxy {proxy} did not answer CONNECT {target} within {} seconds", ANSWER_TIMEOUT.as_secs())]
    Time { proxy: String, target: String },
    /// The proxy itself was asked for.
    #[error("{host} is at {address}, where the proxy {proxy} is: no request goes to the proxy itself")]
    Itself { proxy: String, host: String, address: IpAddr },
}

impl TunnelError {
    /// Whether another address of the same host may be had.
    pub(crate) fn is_about_the_target(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Itself { .. })
    }
}

/// What a refusal may mean.
fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "; a redirection is not followed",
        403 | 405 => {
            "; its rules have to allow CONNECT to this port and to addresses, or `proxy.remote_dns` gives it names"
        }
        502..=504 => "; it did not reach it",
        _ => "",
    }
}

/// The addresses of a proxy, as its name resolved just now.
pub(crate) struct ProxyAt(Vec<SocketAddr>);

/// Why an address was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    /// Through the proxy.
    #[error(transparent)]
    Proxy(#[from] TunnelError),
    /// Directly.
    #[error("failed to connect to {address}: {error}")]
    Direct { address: SocketAddr, error: io::Error },
}

/// A connection to an address that was judged: through the proxy, or directly where there is none for this host, or the address is this
/// machine's own loopback, which is not the proxy's.
pub(crate) async fn reach(
    proxy: Option<&(&ProxyClient, ProxyAt)>,
    host: &str,
    address: SocketAddr,
) -> Result<ProxyStream, ReachError> {
    if let Some((proxy, at)) = proxy {
        proxy.refuse_itself(at, host, address)?;
        if !proxy.is_direct(host) && !address.ip().to_canonical().is_loopback() {
            return Ok(proxy.to_address(at, address).await?);
        }
    }
    let connected = TcpStream::connect(address).await;
    let stream = connected.map_err(|error| ReachError::Direct { address, error })?;
    let _ = stream.set_nodelay(true);
    Ok(Box::new(stream))
}

/// Makes tunnels through one proxy.
#[derive(Clone)]
pub(crate) struct ProxyClient(Arc<ProxySettings>);

struct ProxySettings {
    policy: UpstreamProxy,
    trust: Trust,
    login: Option<Login>,
}

/// Who the doors are at the proxy.
struct Login {
    header: HeaderValue,
    credential: SecretName,
    end: CredentialEnd,
}

impl Login {
    /// Reads the password.
    fn new(dirs: &Dirs, status: &CredentialStatus, policy: &UpstreamProxy) -> Result<Option<Self>, Error> {
        let Some(login) = &policy.login else { return Ok(None) };
        let password = dirs.secret(&login.password)?;
        let basic = [login.user.as_bytes(), b":", password.expose().trim_ascii()].concat();
        let header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(basic)));
        let mut header =
            header.map_err(|error| Error::Policy { path: dirs.secrets.clone(), reason: error.to_string() })?;
        header.set_sensitive(true);
        Ok(Some(Self { header, credential: login.password.clone(), end: status.end(&login.password) }))
    }
}

impl ProxyClient {
    /// A client of this proxy, with its password.
    pub(crate) fn new(
        dirs: &Dirs,
        status: &CredentialStatus,
        policy: &UpstreamProxy,
        trust: &Trust,
    ) -> Result<Self, Error> {
        let login = Login::new(dirs, status, policy)?;
        Ok(Self(Arc::new(ProxySettings { policy: policy.clone(), trust: trust.clone(), login })))
    }

    /// Whether a host is reached without the proxy.
    pub(crate) fn is_direct(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match (address, HostName::parse(host)) {
            (Ok(address), _) => self.0.policy.is_direct_address(address),
            (Err(_), Ok(name)) => self.0.policy.is_direct(&name),
            (Err(_), Err(_)) => false,
        }
    }

    /// The name that the proxy is given for a host, where it resolves names; none: the host is resolved here, as every host is that is
    /// written as an address, in whatever way.
    pub(crate) fn name_for(&self, host: &str) -> Option<HostName> {
        let name = HostName::parse(host).ok().filter(|_| self.0.policy.remote_dns)?;
        (!self.0.policy.is_direct(&name)).then_some(name)
    }

    /// Refuses an address where the proxy itself is, whoever wants to go there and however: at this machine's own loopback its port
    /// alone.
    fn refuse_itself(&self, at: &ProxyAt, host: &str, address: SocketAddr) -> Result<(), TunnelError> {
        let ip = address.ip().to_canonical();
        let is_there =
            |own: &SocketAddr| own.ip().to_canonical() == ip && (!ip.is_loopback() || own.port() == address.port());
        if at.0.iter().any(is_there) {
            return Err(TunnelError::Itself { proxy: self.shown(), host: host.to_owned(), address: ip });
        }
        Ok(())
    }

    /// A tunnel to an address that was judged, and is not the proxy's own.
    async fn to_address(&self, at: &ProxyAt, address: SocketAddr) -> Result<ProxyStream, TunnelError> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        self.tunnel(at, address.to_string()).await
    }

    /// A tunnel to whatever the proxy resolves a name to.
    pub(crate) async fn to_name(&self, host: &HostName, port: u16) -> Result<ProxyStream, TunnelError> {
        let at = self.find().await?;
        let itself = self.0.policy.url.host.name() == Some(host);
        if let Some(address) = at.0.first().filter(|_| itself) {
            return Err(TunnelError::Itself { proxy: self.shown(), host: host.to_string(), address: address.ip() });
        }
        self.tunnel(&at, format!("{host}:{port}")).await
    }

    fn shown(&self) -> String {
        self.0.policy.url.to_string()
    }

    /// Finds where the proxy is.
    pub(crate) async fn find(&self) -> Result<ProxyAt, TunnelError> {
        let url = &self.0.policy.url;
        let name = match &url.host {
            GitHost::Address(address) => return Ok(ProxyAt(vec![SocketAddr::new(*address, url.port)])),
            GitHost::Name(name) => name,
        };
        let found = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name.as_str(), url.port))).await;
        let found = found.map_err(|_| TunnelError::ConnectTime { proxy: self.shown() })?;
        let resolve = |error| TunnelError::Resolve { proxy: self.shown(), error };
        let found: Vec<SocketAddr> = found.map_err(resolve)?.collect();
        if found.is_empty() { Err(resolve(io::ErrorKind::NotFound.into())) } else { Ok(ProxyAt(found)) }
    }

    async fn tunnel(&self, at: &ProxyAt, target: String) -> Result<ProxyStream, TunnelError> {
        let login = self.0.login.as_ref();
        if let Some(why) = login.and_then(|login| login.end.why_ended(&login.credential)) {
            return Err(TunnelError::Ended { proxy: self.shown(), why });
        }
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(at)).await;
        let stream = connected.map_err(|_| TunnelError::ConnectTime { proxy: self.shown() })??;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.ask(stream, &target)).await;
        answered.map_err(|_| TunnelError::Time { proxy: self.shown(), target })?
    }

    /// A connection to the proxy, in TLS where its address says so.
    async fn connect(&self, at: &ProxyAt) -> Result<ProxyStream, TunnelError> {
        let stream = TcpStream::connect(at.0.as_slice()).await;
        let stream = stream.map_err(|error| TunnelError::Connect { proxy: self.shown(), error })?;
        let _ = stream.set_nodelay(true);
        let url = &self.0.policy.url;
        if !url.tls {
            return Ok(Box::new(stream));
        }
        let tls = |error| TunnelError::Tls { proxy: self.shown(), error };
        let name = match &url.host {
            GitHost::Name(name) => {
                ServerName::try_from(name.to_string()).map_err(|error| tls(io::Error::other(error)))?
            }
            GitHost::Address(address) => ServerName::from(*address),
        };
        let stream = self.0.trust.connector(true).map_err(tls)?.connect(name, stream).await.map_err(tls)?;
        Ok(Box::new(stream))
    }

    /// Asks for the tunnel.
    async fn ask(&self, stream: ProxyStream, target: &str) -> Result<ProxyStream, TunnelError> {
        let malformed = |error| TunnelError::Malformed { proxy: self.shown(), target: target.to_owned(), error };
        let mut client = hyper::client::conn::http1::Builder::new();
        client.max_buf_size(MAX_HEAD_BYTES);
        let (mut sender, connection) =
            client.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(malformed)?;
        // It ends with this function: what is upgraded has been given away by then.
        let mut serving = JoinSet::new();
        serving.spawn(connection.with_upgrades());
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        let unsendable = |_| TunnelError::Refused {
            proxy: self.shown(),
            target: target.to_owned(),
            status: StatusCode::BAD_REQUEST,
        };
        *request.uri_mut() = target.parse().map_err(unsendable)?;
        let host = HeaderValue::from_str(target);
        request.headers_mut().extend(host.ok().map(|host| (HOST, host)));
        request.headers_mut().extend(self.0.login.as_ref().map(|login| (PROXY_AUTHORIZATION, login.header.clone())));
        let response = sender.send_request(request).await.map_err(malformed)?;
        self.accept(&response, target)?;
        let upgraded = hyper::upgrade::on(response).await.map_err(malformed)?;
        let early = || TunnelError::Early { proxy: self.shown(), target: target.to_owned() };
        let parts = upgraded.downcast::<TokioIo<ProxyStream>>().map_err(|_| early())?;
        if parts.read_buf.is_empty() { Ok(parts.io.into_inner()) } else { Err(early()) }
    }

    /// Takes any 2xx for the tunnel, as RFC 9110 says, and nothing else.
    fn accept(&self, response: &Response<Incoming>, target: &str) -> Result<(), TunnelError> {
        let (proxy, status) = (self.shown(), response.status());
        match (status, &self.0.login) {
            (status, _) if status.is_success() => Ok(()),
            // tinyproxy says 401 to a password that it does not know.
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED, None) => {
                Err(TunnelError::NoCredential { proxy, status })
            }
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED, Some(login)) => {
                Err(TunnelError::Credential { proxy, credential: login.credential.clone(), status })
            }
            (status, _) => Err(TunnelError::Refused { proxy, target: target.to_owned(), status }),
        }
    }
}
