//! Requests from egress: HTTP/1.1 on a unix socket inside the bundle, each with its place in headers of ours.

use std::sync::Arc;
use std::time::Duration;

use bottle_policy::bundle::image_user;
use bottle_policy::route::Scheme;
use bottle_types::door::Door;
use bottle_types::host::HostName;
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use http::header::{HOST, TE, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};

use super::active::{ActivePolicy, Forwarder};
use crate::proxy::access::{AccessLog, LogFile};
use crate::proxy::headers;
use crate::proxy::response::{Body, boxed, full, refuse};
use crate::proxy::server::boxed_future;
use crate::proxy::target::RequestTarget;
use crate::proxy::trailers::{self, MapTrailers};
use crate::proxy::unix_stream::QuietStream;
use crate::proxy::upgrade::{self, ProxyReply};

/// egress may pass on heads as long as it takes them, and a little more.
const HEAD_BYTES: usize = 512 << 10;

/// Takes connections for ever, from egress, root and its own user alone.
pub(super) async fn serve(listener: UnixListener, forwarder: Arc<Forwarder>, log_file: Arc<LogFile>) {
    let own_user = rustix::process::geteuid().as_raw();
    let friends = [own_user, 0, image_user(Door::Egress).id];
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) if friends.contains(&peer.uid()) => {
                    tokio::spawn(connection(stream, Arc::clone(&forwarder), Arc::clone(&log_file)));
                }
                Ok(peer) => tracing::warn!("refused a connection of user {}", peer.uid()),
                Err(error) => tracing::warn!("refused a connection of nobody known: {error}"),
            },
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, forwarder: Arc<Forwarder>, log_file: Arc<LogFile>) {
    let stream = match QuietStream::new(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!("failed to take a connection of egress: {error}"),
    };
    let service = service_fn(move |request| {
        let (forwarder, log_file) = (Arc::clone(&forwarder), Arc::clone(&log_file));
        boxed_future(async move { answer(&forwarder, &log_file, request).await })
    });
    // No deadline between two requests: egress decides how long a connection is kept.
    let served = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .max_headers(headers::MAX_HOP_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection of egress ended: {error}");
    }
}

async fn answer(forwarder: &Forwarder, log_file: &Arc<LogFile>, mut request: Request<Incoming>) -> Response<Body> {
    let Some((target, route, policy)) = read_target(request.headers()) else {
        return refuse(StatusCode::BAD_REQUEST, Reason::Hop, "pipelock takes requests from egress alone");
    };
    let tunnel = headers::text(request.headers(), UPGRADE) == Some(upgrade::TUNNEL);
    let (method, path) = match tunnel {
        true => ("CONNECT", ""),
        false => (request.method().as_str(), request.uri().path()),
    };
    let mut log =
        AccessLog::new(log_file, Door::Pipelock, target.id.clone(), method, target.host.as_str(), target.port, path);
    let from_egress = request.headers_mut();
    from_egress.remove(HOST);
    let te = from_egress.contains_key(headers::TE_TRAILERS);
    headers::strip_hop(from_egress);
    headers::strip_door_headers(from_egress);
    trailers::forget(from_egress);
    if !te {
        from_egress.remove(TE);
    }
    let active = forwarder.active_for(&policy);
    let mut reply = match tunnel {
        true => blind(active, &target, request, &mut log).await,
        false => {
            let request = request.map(|body| MapTrailers::new(body, trailers::unpack));
            active.pass(&target, Some(route), request, &mut log).await
        }
    };
    write_verdict(reply.answer.headers_mut(), &log);
    if reply.after.is_none() && !reply.answer.body().is_end_stream() {
        trailers::announce(reply.answer.headers_mut());
        reply.answer = reply.answer.map(|body| boxed(MapTrailers::new(body, trailers::pack)));
    }
    reply.finish(log)
}

/// A tunnel to a host whose TLS is not ended.
async fn blind(
    active: Arc<ActivePolicy>,
    target: &RequestTarget,
    mut request: Request<Incoming>,
    log: &mut AccessLog,
) -> ProxyReply {
    let stream = match active.tunnel(target, log).await {
        Ok(stream) => stream,
        Err(answer) => return (*answer).into(),
    };
    let guest = hyper::upgrade::on(&mut request);
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    upgrade::ask(answer.headers_mut(), upgrade::TUNNEL);
    let host = target.host.clone();
    let relay = move |log: AccessLog| async move {
        if let Ok(guest) = guest.await {
            active.blind(host, TokioIo::new(guest), stream, log).await;
        }
    };
    ProxyReply { answer, after: Some(Box::new(move |log| Box::pin(relay(log)))) }
}

/// Whom a request is for, the route that egress found, and the hash of the routes among which it found it.
fn read_target(headers_from_egress: &HeaderMap) -> Option<(RequestTarget, usize, String)> {
    let text = |name| headers::text(headers_from_egress, name);
    let scheme = match text(headers::SCHEME)? {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return None,
    };
    let target = RequestTarget {
        scheme,
        host: HostName::parse(text(headers::HOST)?).ok()?,
        port: text(headers::PORT)?.parse().ok()?,
        id: text(headers::ID)?.to_owned(),
        websocket: headers::text(headers_from_egress, UPGRADE) == Some(upgrade::WEBSOCKET),
    };
    Some((target, text(headers::ROUTE)?.parse().ok()?, text(headers::POLICY)?.to_owned()))
}

/// Tells egress what its own line should say.
fn write_verdict(headers: &mut HeaderMap, log: &AccessLog) {
    let verdict = match log.entry.verdict {
        AccessVerdict::Allow | AccessVerdict::Replay => "allow",
        AccessVerdict::Deny => "deny",
        AccessVerdict::Block => "block",
        AccessVerdict::Error => "error",
    };
    headers.insert(headers::VERDICT, HeaderValue::from_static(verdict));
    if log.is_withheld() {
        headers.insert(headers::WITHHELD, HeaderValue::from_static("1"));
    }
    if log.is_self_test {
        headers.insert(headers::SELF_TEST, HeaderValue::from_static("1"));
    }
    let finding = log.entry.finding.as_ref().and_then(|found| serde_json::to_string(found).ok());
    // What upstream has to do with may be in any letters.
    let reason = log.entry.reason.as_ref().map(|reason| reason.replace(|char| !matches!(char, ' '..='~'), "?"));
    for (name, value) in [
        (headers::REASON, reason.as_deref()),
        (headers::FINDING, finding.as_deref()),
        (headers::CREDENTIAL, log.entry.credential.as_deref()),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
}
