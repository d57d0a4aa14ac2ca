//! Connections that become something else: WebSockets, and tunnels that are not looked into.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::access::AccessLog;
use super::response::Body;

/// The protocol's name in RFC 6455.
pub(crate) const WEBSOCKET: &str = "websocket";
/// Between egress and pipelock: bytes to a host whose TLS is not ended.
pub(crate) const TUNNEL: &str = "bottle-tunnel";

/// Time for a guest to close when the other side has ended.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(2);

/// Work that goes on once the answer is given, with the request's access log, which is written at its end.
pub(crate) type AfterUpgrade = Box<dyn FnOnce(AccessLog) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A reply: the answer to a request, and what its connection becomes afterwards.
pub(crate) struct ProxyReply {
    pub(crate) answer: Response<Body>,
    pub(crate) after: Option<AfterUpgrade>,
}

impl From<Response<Body>> for ProxyReply {
    fn from(answer: Response<Body>) -> Self {
        Self { answer, after: None }
    }
}

impl ProxyReply {
    /// Gives the answer on; the line is written when the answer, or what the connection has become, is over.
    pub(crate) fn finish(self, mut log: AccessLog) -> Response<Body> {
        match self.after {
            None => log.answer(self.answer),
            Some(after) => {
                log.entry.status = self.answer.status().as_u16();
                tokio::spawn(after(log));
                self.answer
            }
        }
    }
}

/// Tells whether a header's list has this word.
fn names(headers: &HeaderMap, name: http::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|given| given.trim().eq_ignore_ascii_case(word))
}

/// Tells whether a request asks for a WebSocket; an error says why it is none. Anything else that it may want to become is
/// forgotten with the headers of its hop.
pub(crate) fn wants_websocket<B>(request: &Request<B>) -> Result<bool, &'static str> {
    let headers = request.headers();
    if !names(headers, UPGRADE, WEBSOCKET) || !names(headers, CONNECTION, "upgrade") {
        return Ok(false);
    }
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err("a WebSocket begins with GET in HTTP/1.1");
    }
    let only = |name| {
        let mut all = headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none())
    };
    if only(SEC_WEBSOCKET_KEY).is_none() || only(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err("a WebSocket needs one Sec-WebSocket-Key, and version 13");
    }
    if headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length != "0")
        || headers.contains_key(http::header::TRANSFER_ENCODING)
    {
        return Err("a request for a WebSocket has no body");
    }
    Ok(true)
}

/// Asks that the connection become this.
pub(crate) fn ask(headers: &mut HeaderMap, what: &'static str) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(what));
}

/// Tells whether an answer agrees to become this.
pub(crate) fn agreed<B>(response: &Response<B>, what: &str) -> bool {
    response.status() == http::StatusCode::SWITCHING_PROTOCOLS && names(response.headers(), UPGRADE, what)
}

/// Passes bytes on until there are no more, as far as they may go, and counts them.
pub(crate) async fn pump<R, W>(from: &mut R, to: &mut W, count: &AtomicU64, may: impl Fn(u64) -> bool) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        if !may(read as u64) {
            return Err(io::Error::other("a limit is reached"));
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Passes bytes both ways until both sides have ended, or one breaks off; the line has what was counted. A guest that has
/// ended may still be answered; one that is told the end has not long to say more.
pub(crate) async fn relay<A, B>(guest: A, other: B, log: &mut AccessLog, may: impl Fn(u64) -> bool)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut guest_in, mut guest_out) = tokio::io::split(guest);
    let (mut other_in, mut other_out) = tokio::io::split(other);
    let got = AtomicU64::new(0);
    let out = pump(&mut guest_in, &mut other_out, &log.sent, may);
    let back = pump(&mut other_in, &mut guest_out, &got, |_| true);
    let ended = {
        tokio::pin!(out, back);
        tokio::select! {
            ended = &mut out => match ended {
                Ok(()) => back.await,
                broken => broken,
            },
            ended = &mut back => match ended {
                Ok(()) => tokio::time::timeout(LAST_BYTES_TIMEOUT, out).await.unwrap_or(Ok(())),
                broken => broken,
            },
        }
    };
    log.entry.bytes_in = got.into_inner();
    if let Err(error) = ended {
        tracing::debug!("a tunnel to {} broke off: {error}", log.entry.host);
    }
}
