//! The forward proxy that the guest talks to.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bottle_policy::route::Scheme;
use bottle_types::door::Door;
use bottle_types::host::HostName;
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::UnixListener;

use super::access::{AccessLog, LogFile};
use super::client_hello::{self, HelloReader, gone};
use super::headers;
use super::idle;
use super::resets::WatchedFrames;
use super::response::{Body, full, refuse};
use super::target::{self, RequestTarget};
use super::unix_stream::QuietStream;
use super::unreadable::{NoteUnreadable, UnreadableHead};
use super::upgrade;
use crate::ca::Ca;
use crate::common::{Error, random_bytes};

/// From CONNECT to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's own future on the heap: a connection keeps room for one, and most connections wait.
pub(crate) fn boxed_future<F>(answer: F) -> Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    Box::pin(async move { Ok(answer.await) })
}

/// A handler decides and answers behind a proxy server.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Tells whether some rule is about this host and port.
    fn knows(&self, scheme: Scheme, host: &HostName, port: u16) -> bool;
    /// Tells whether this host's TLS is passed through, not ended here.
    fn passes(&self, host: &HostName) -> bool;
    /// Carries a tunnel whose TLS is not ended, from its hello on.
    fn tunnel<S>(
        &self,
        target: RequestTarget,
        hello: Vec<u8>,
        stream: S,
        log: AccessLog,
    ) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Answers a request whose host is settled; its headers are free of what is for one hop or a door's own.
    fn answer(
        &self,
        target: RequestTarget,
        request: Request<Incoming>,
        log: AccessLog,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// The proxy server of one door.
pub(crate) struct ProxyServer<B> {
    door: Door,
    ca: Ca,
    log_file: Arc<LogFile>,
    handler: B,
    run: u32,
    count: AtomicU32,
}

impl<B: Handler> ProxyServer<B> {
    /// A proxy in front of `back`.
    pub(crate) fn new(door: Door, ca: Ca, log_file: Arc<LogFile>, handler: B) -> Result<Arc<Self>, Error> {
        let run = u32::from_ne_bytes(random_bytes()?);
        Ok(Arc::new(Self { door, ca, log_file, handler, run, count: AtomicU32::new(0) }))
    }

    /// The handler behind.
    pub(crate) fn handler(&self) -> &B {
        &self.handler
    }

    /// Accepts connections for ever.
    pub(crate) async fn serve(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await.and_then(|(stream, _)| QuietStream::new(stream)) {
                Ok(stream) => {
                    tokio::spawn(Arc::clone(&self).connection(stream));
                }
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let this = Arc::clone(&self);
        let note: NoteUnreadable = Arc::new(move |head| this.note_unreadable("", 0, head));
        let answer = move |request| {
            let this = Arc::clone(&self);
            boxed_future(async move { this.answer_outside_tunnel(request).await })
        };
        idle::serve(stream, answer, note).await;
    }

    /// Answers a request outside of any tunnel: CONNECT, or plain HTTP in absolute form.
    async fn answer_outside_tunnel(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if request.method() == Method::CONNECT {
            return self.connect(request);
        }
        if request.uri().authority().is_none() {
            let message = "this is an HTTP proxy: name it in HTTPS_PROXY and HTTP_PROXY, and ask for whole URLs";
            return self.refused(&request, "", 0, StatusCode::BAD_REQUEST, Reason::NotAProxyRequest, message);
        }
        let named = request.uri().authority().map(|authority| target::parse(authority.as_str()));
        match named {
            Some(Ok((host, port))) if request.uri().scheme_str() == Some("http") => {
                self.answer_for_host(Scheme::Http, host, port.unwrap_or(80), request).await
            }
            Some(Err(why)) => self.refused(&request, "", 0, StatusCode::FORBIDDEN, Reason::BadHost, &why),
            _ => {
                let message = "https goes through CONNECT; in absolute form it is http only";
                self.refused(&request, "", 0, StatusCode::BAD_REQUEST, Reason::BadScheme, message)
            }
        }
    }

    fn connect(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (host, port) = match target::parse_connect(request.uri()) {
            Ok(named) => named,
            Err(why) => {
                let text = request.uri().authority().map(ToString::to_string).unwrap_or_default();
                return self.refused(&request, &text, 0, StatusCode::FORBIDDEN, Reason::BadHost, &why);
            }
        };
        // A host that no rule knows gets its tunnel all the same, if it is the usual port: the refusal has to be told in
        // an answer that the client shows, and nothing leaves.
        if port != 443 && !self.handler.knows(Scheme::Https, &host, port) {
            let why =
                format!("no route allows port {port} of {host}: ask for it with the supervise tool request_route");
            return self.refused(&request, host.as_str(), port, StatusCode::FORBIDDEN, Reason::NoRoute, &why);
        }
        tokio::spawn(async move {
            match hyper::upgrade::on(request).await {
                Ok(upgraded) if port == 443 && self.handler.passes(&host) => {
                    Box::pin(self.pass_through(TokioIo::new(upgraded), host)).await;
                }
                Ok(upgraded) => self.tunnel(TokioIo::new(upgraded), host, port).await,
                Err(error) => tracing::debug!("a tunnel was not taken up: {error}"),
            }
        });
        Response::new(full(""))
    }

    /// Carries a tunnel to a host whose TLS is not ended: a hello for that very host, then whatever it may be.
    async fn pass_through<S>(self: Arc<Self>, mut stream: S, host: HostName)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut log = self.begin_log("CONNECT", host.as_str(), 443, "");
        log.entry.not_inspected = true;
        let read = async {
            let (mut hello, mut buffer) = (HelloReader::new(), vec![0; 4096]);
            loop {
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                if read == 0 {
                    return Err((Reason::Gone, "it ended before its TLS hello".to_owned()));
                }
                if let Some(name) = hello.push(&buffer[..read]).map_err(|error| (Reason::NotTls, error))? {
                    return match name.as_deref().map(HostName::parse) {
                        Some(Ok(name)) if name == host => Ok(hello.into_bytes()),
                        _ => Err((Reason::Sni, "the TLS hello does not name the host of CONNECT".to_owned())),
                    };
                }
            }
        };
        let read = tokio::time::timeout(HANDSHAKE_TIMEOUT, read).await;
        match read.unwrap_or_else(|_| Err((Reason::Deadline, "no TLS hello in time".to_owned()))) {
            Ok(hello) => {
                let id = log.entry.id.clone();
                let target = RequestTarget { scheme: Scheme::Https, host, port: 443, id, websocket: false };
                self.handler.tunnel(target, hello, stream, log).await;
            }
            Err((reason, why)) => {
                log.stop(if reason == Reason::Gone { AccessVerdict::Error } else { AccessVerdict::Deny }, reason);
                tracing::info!("closed a tunnel to {host}:443: {why}");
            }
        }
    }

    /// Serves a tunnel: TLS for this host, then requests for this host; anything else ends the connection.
    async fn tunnel<S>(self: Arc<Self>, stream: S, host: HostName, port: u16)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = async {
            let hello = client_hello::read(stream, &host).await?;
            let config = self.ca.server_config(&host).map_err(|error| (Reason::Certificate, error.to_string()))?;
            let refused =
                |error: io::Error| (if gone(&error) { Reason::Gone } else { Reason::Handshake }, error.to_string());
            // On the heap, where it stays: it is large, and what holds it moves it about.
            hello.into_stream(config).await.map(Box::new).map_err(refused)
        };
        let done = tokio::time::timeout(HANDSHAKE_TIMEOUT, Box::pin(handshake)).await;
        let stream = match done.unwrap_or_else(|_| Err((Reason::Deadline, "no TLS handshake in time".to_owned()))) {
            Ok(stream) => stream,
            Err((reason, why)) => {
                let mut log = self.begin_log("CONNECT", host.as_str(), port, "");
                log.stop(if reason == Reason::Gone { AccessVerdict::Error } else { AccessVerdict::Deny }, reason);
                tracing::info!("closed a tunnel to {host}:{port}: {why}");
                return;
            }
        };
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
        let (this, name) = (Arc::clone(&self), host.clone());
        let note: NoteUnreadable = Arc::new(move |head| this.note_unreadable(name.as_str(), port, head));
        let this = Arc::clone(&self);
        let answer = move |request| {
            let (this, host) = (Arc::clone(&this), host.clone());
            boxed_future(async move { this.answer_for_host(Scheme::Https, host, port, request).await })
        };
        if !h2 {
            return idle::serve(stream, answer, note).await;
        }
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A larger head than may be is refused by us, with a reason.
            .max_header_list_size(4 * headers::MAX_HEADER_LIST_BYTES)
            .serve_connection(TokioIo::new(WatchedFrames::new(stream, note)), service_fn(answer));
        if let Err(error) = Box::pin(served).await {
            tracing::debug!("a tunnel of the guest ended: {error}");
        }
    }

    /// Answers a request for a host that is settled, if the request's own words agree.
    async fn answer_for_host(
        self: Arc<Self>,
        scheme: Scheme,
        host: HostName,
        port: u16,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        if let Err(why) = target::agrees(&request, scheme, &host, port) {
            return self.refused(
                &request,
                host.as_str(),
                port,
                StatusCode::MISDIRECTED_REQUEST,
                Reason::HostMismatch,
                &why,
            );
        }
        if headers::is_too_large(request.headers()) {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let why = UnreadableHead::new(status, &[]).message();
            return self.refused(&request, host.as_str(), port, status, Reason::Request, &why);
        }
        let websocket = match upgrade::wants_websocket(&request) {
            Ok(websocket) => websocket,
            Err(why) => {
                return self.refused(&request, host.as_str(), port, StatusCode::BAD_REQUEST, Reason::BadWebsocket, why);
            }
        };
        let headers = request.headers_mut();
        headers.remove(http::header::HOST);
        headers::strip_hop(headers);
        headers::strip_door_headers(headers);
        let log = self.begin_log(request.method().as_str(), host.as_str(), port, request.uri().path());
        let target = RequestTarget { scheme, host, port, id: log.entry.id.clone(), websocket };
        self.handler.answer(target, request, log).await
    }

    fn begin_log(&self, method: &str, host: &str, port: u16, path: &str) -> AccessLog {
        let id = format!("{:08x}{:08x}", self.run, self.count.fetch_add(1, Ordering::Relaxed));
        AccessLog::new(&self.log_file, self.door, id, method, host, port, path)
    }

    /// Writes the line of a request whose head can't be read; its target is in no log, because nobody has looked at it.
    fn note_unreadable(&self, host: &str, port: u16, head: &UnreadableHead) {
        let mut log = self.begin_log(head.method(), host, port, "");
        log.entry.status = head.status.as_u16();
        log.stop(AccessVerdict::Deny, Reason::Request);
    }

    /// Refuses for a reason that has nothing to do with rules.
    fn refused(
        &self,
        request: &Request<Incoming>,
        host: &str,
        port: u16,
        status: StatusCode,
        error: Reason,
        why: &str,
    ) -> Response<Body> {
        let mut log = self.begin_log(request.method().as_str(), host, port, request.uri().path());
        log.stop(AccessVerdict::Deny, error);
        log.answer(refuse(status, error, why))
    }
}
