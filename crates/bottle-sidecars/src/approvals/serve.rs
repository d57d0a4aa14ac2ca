//! Sockets and HTTP around the tools.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bottle_policy::outputs::LONGEST_ANSWER;
use bottle_scan::known::KnownSecrets;
use bottle_types::door::{BUNDLE_ADDRESS, Door};
use bottle_wire::control::SUPERVISE_SOCKET;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::broker::BrokerHandle;
use super::control;
use super::error::BrokerError;
use super::output_tools::OfferedOutputs;
use super::tools::Server;
use crate::common::{self, Dirs};
use crate::confirm;

/// The longest request, in bytes; a proposal is a few hundred.
const MAX_BODY_BYTES: usize = 64 << 10;
/// The longest request where an answer may be given: the client may write it with escapes.
const MAX_ANSWER_BODY_BYTES: usize = MAX_BODY_BYTES + 2 * LONGEST_ANSWER;
/// Clients at once; more wait.
const MAX_CLIENTS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever may enter the directory may connect: the guest's user is not one of the bundle's.
const SOCKET_MODE: u32 = 0o666;

type Mcp = StreamableHttpService<Server, LocalSessionManager>;

/// Serves until the process is ended, or until its work can't go on.
pub(super) async fn serve(
    dirs: &Dirs,
    (outputs, known): (OfferedOutputs, KnownSecrets),
    (broker, work): (BrokerHandle, impl Future<Output = Result<(), BrokerError>>),
) -> Result<(), BrokerError> {
    let socket = dirs.socket(Door::Supervise);
    let mut hangup = signal(SignalKind::hangup()).map_err(BrokerError::Start)?;
    tokio::spawn(control::serve(common::listen(&dirs.internal.join(SUPERVISE_SOCKET), SOCKET_MODE)?, broker.clone()));
    let listener = common::listen(&socket, SOCKET_MODE)?;
    let mcp = service(&broker, outputs, known);
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    tracing::info!("listening on {}", socket.display());
    // It goes by no file that changes, and says that it listens.
    confirm::report(dirs, &[], None, None);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = hangup.recv() => tracing::info!("nothing to read again: who decides stays the same for a whole run"),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (mcp, clients) = (mcp.clone(), Arc::clone(&clients));
                    tokio::spawn(async move {
                        // Closed only if the semaphore were, which it never is.
                        let Ok(_permit) = clients.acquire().await else { return };
                        client(stream, mcp).await;
                    });
                }
                Err(error) => {
                    tracing::warn!("failed to accept: {error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

/// No sessions: each request stands for itself, so a restart is not noticed and nothing piles up. Answers are streams, because
/// one that takes minutes has to show that it comes.
fn service(broker: &BrokerHandle, outputs: OfferedOutputs, known: KnownSecrets) -> Mcp {
    let port = Door::Supervise.port();
    let name = Door::Supervise.name();
    let own_hosts = [name.to_owned(), BUNDLE_ADDRESS.to_string(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let longest = if outputs.rules.json.is_some() { MAX_ANSWER_BODY_BYTES } else { MAX_BODY_BYTES };
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(own_hosts.iter().flat_map(|host| [host.clone(), format!("{host}:{port}")]))
        .with_legacy_session_mode(false)
        .with_json_response(false)
        .with_max_request_body_bytes(longest);
    let server = Server::new(broker.clone(), Arc::new(outputs), Arc::new(known));
    StreamableHttpService::new(move || Ok(server.clone()), Arc::default(), config)
}

async fn client(stream: UnixStream, mcp: Mcp) {
    let service = service_fn(move |request| {
        let mcp = mcp.clone();
        async move { Ok::<_, Infallible>(route(request, &mcp).await) }
    });
    let result = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = result {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn route(request: Request<Incoming>, mcp: &Mcp) -> Response<BoxBody<Bytes, Infallible>> {
    if matches!(request.uri().path(), "/" | "/mcp") {
        return mcp.handle(request).await;
    }
    let mut response = Response::new(Full::new(Bytes::from_static(b"the MCP server is at /\n")).boxed());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
