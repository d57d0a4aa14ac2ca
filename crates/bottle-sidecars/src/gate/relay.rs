//! git's way through the company's proxy: a proxy of the gate's own on loopback, for one git process and one upstream.
//!
//! git gives a proxy names, and what it says about a refusal explains nothing. Here the name is resolved, and the company's proxy is
//! asked for the address; its password stays in this process. The loopback may be the host's: whoever does not have this process's
//! own password gets nothing.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_policy::gate::{Transport, Upstream};
use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;

use super::dirs::GateDirs;
use super::process::{self, ChildError, ChildOutput, ProcessLimits};
use super::transport;
use crate::common::random_bytes;
use crate::upstream_proxy::{ProxyClient, ProxyStream, ReachError, TUNNEL_TIMEOUT};

/// For git to say where it wants to go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a git command of [`transport::git`], through the proxy where there is one for its upstream. Why the proxy made no connection is
/// the last line that the command says then.
pub(super) fn run(
    gate: &GateDirs,
    upstream: &Upstream,
    mut command: Command,
    limits: ProcessLimits,
) -> Result<ChildOutput, ChildError> {
    let failed = |why: String| ChildError::Start("the relay to the proxy".to_owned(), io::Error::other(why));
    let Some(relay) = Relay::start(gate, upstream).map_err(failed)? else {
        return process::run(command, None, limits);
    };
    transport::through(&mut command, &relay.address());
    let mut output = process::run(command, None, limits)?;
    if let Some(why) = relay.failure().filter(|_| !output.status.success()) {
        output.stderr.extend_from_slice(format!("\n{why}\n").as_bytes());
    }
    Ok(output)
}

/// A proxy on loopback; it ends when it is dropped.
struct Relay {
    at: SocketAddr,
    target: Arc<RelayTarget>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where the relay leads, and for whom.
struct RelayTarget {
    proxy: ProxyClient,
    host: String,
    port: u16,
    /// Of git's, at the relay.
    password: String,
    failure: Mutex<Option<String>>,
}

impl Relay {
    /// Starts one, if the upstream is reached through a proxy.
    fn start(gate: &GateDirs, upstream: &Upstream) -> Result<Option<Self>, String> {
        let url = &upstream.url;
        let host = url.host.to_string();
        let Some(proxy) = transport::proxy(gate).map_err(|error| error.to_string())? else { return Ok(None) };
        if url.transport != Transport::Https || proxy.is_direct(&host) {
            return Ok(None);
        }
        let password = hex::encode(random_bytes::<16>().map_err(|error| error.to_string())?);
        let port = url.port.unwrap_or(443);
        let target = Arc::new(RelayTarget { proxy, host, port, password, failure: Mutex::new(None) });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        let at = listener.local_addr().map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&target);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Some(Self { at, target, stop: Some(stop), thread: Some(thread) }))
    }

    /// The relay's address as git takes it, with git's password.
    fn address(&self) -> String {
        format!("http://gate:{}@{}", self.target.password, self.at)
    }

    /// Why there was no way.
    fn failure(&self) -> Option<String> {
        self.target.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(listener: TcpListener, target: Arc<RelayTarget>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return target.fail(error.to_string()),
    };
    while let Ok((stream, _)) = listener.accept().await {
        let target = Arc::clone(&target);
        let service = service_fn(move |request| {
            let target = Arc::clone(&target);
            async move { Ok::<_, Infallible>(target.answer(request).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}

impl RelayTarget {
    fn fail(&self, why: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Makes the one tunnel that may be asked for.
    async fn answer(&self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let answer = |status| {
            let mut response = Response::new(Empty::new());
            *response.status_mut() = status;
            response
        };
        let expected = format!("Basic {}", STANDARD.encode(format!("gate:{}", self.password)));
        if request.headers().get(PROXY_AUTHORIZATION).is_none_or(|given| given.as_bytes() != expected.as_bytes()) {
            return answer(StatusCode::FORBIDDEN);
        }
        let target = format!("{}:{}", self.host, self.port);
        let asked = request.uri().authority().map(|authority| authority.as_str().to_ascii_lowercase());
        if request.method() != Method::CONNECT || asked.as_deref() != Some(&*target) {
            self.fail(format!("git asked for another host than {target}"));
            return answer(StatusCode::FORBIDDEN);
        }
        match self.reach().await {
            Ok(mut stream) => {
                tokio::spawn(async move {
                    let Ok(git) = hyper::upgrade::on(request).await else { return };
                    // What breaks off is seen by git.
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(git), &mut stream).await;
                });
                answer(StatusCode::OK)
            }
            Err(why) => {
                self.fail(why);
                answer(StatusCode::BAD_GATEWAY)
            }
        }
    }

    /// A connection to upstream; the manifest has named it, so it may be anywhere but where the proxy is.
    async fn reach(&self) -> Result<ProxyStream, String> {
        let slow = |_| format!("no connection to {} within {} s", self.host, TUNNEL_TIMEOUT.as_secs());
        tokio::time::timeout(TUNNEL_TIMEOUT, self.reach_in_time()).await.map_err(slow)?
    }

    async fn reach_in_time(&self) -> Result<ProxyStream, String> {
        if let Some(name) = self.proxy.name_for(&self.host) {
            return self.proxy.to_name(&name, self.port).await.map_err(|error| error.to_string());
        }
        let name = self.host.trim_start_matches('[').trim_end_matches(']');
        let unresolved = |error: io::Error| format!("the name {} does not resolve: {error}", self.host);
        let found = tokio::net::lookup_host((name, self.port)).await.map_err(unresolved)?;
        let at = self.proxy.find().await.map_err(|error| error.to_string())?;
        let way = (&self.proxy, at);
        let mut last = format!("the name {} has no address", self.host);
        for address in found {
            match crate::upstream_proxy::reach(Some(&way), &self.host, address).await {
                Ok(stream) => return Ok(stream),
                Err(ReachError::Proxy(error)) if !error.is_about_the_target() => return Err(error.to_string()),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }
}
