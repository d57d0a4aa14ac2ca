//! WebSockets: the handshake is judged as any request, then every message of the guest before it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bottle_policy::access::{Found, Verdict};
use bottle_policy::dlp::Mode;
use bottle_policy::websocket::{Frames, Talk};
use bytes::Bytes;
use http::header::{HOST, SEC_WEBSOCKET_EXTENSIONS};
use http::{Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::exit::{Force, credentials, failed, whole_uri};
use crate::proxy::access::Line;
use crate::proxy::answer::{BoxError, full, refuse};
use crate::proxy::target::Asked;
use crate::proxy::upgrade::{self, Passed};

/// RFC 6455, 7.4.1: a message that a policy does not allow; one that is no message.
const POLICY: u16 = 1008;
const PROTOCOL: u16 = 1002;

/// Why a WebSocket is ended by us.
struct Ended {
    code: u16,
    reason: &'static str,
    why: String,
    found: Option<Found>,
}

impl Force {
    /// Answers a request for a WebSocket.
    pub(super) async fn websocket<B>(
        self: &Arc<Self>,
        asked: &Asked,
        claimed: Option<usize>,
        mut request: Request<B>,
        line: &mut Line,
    ) -> Passed
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let route = match self.judge(asked, claimed, &request, line) {
            Ok((route, _)) => route,
            Err(answer) => return (*answer).into(),
        };
        let way = &self.policy.routes[route];
        let guest = hyper::upgrade::on(&mut request);
        let (mut parts, _) = request.into_parts();
        parts.uri = match whole_uri(asked, way, &parts.uri) {
            Ok(uri) => uri,
            Err(error) => {
                line.stop(Verdict::Error, "request");
                return refuse(StatusCode::BAD_REQUEST, "request", format!("the request can't be sent: {error}"))
                    .into();
            }
        };
        parts.version = Version::HTTP_11;
        parts.headers.remove(HOST);
        // Compression, or whatever else, would hide what is said.
        parts.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        credentials(way, &mut parts.headers);
        upgrade::ask(&mut parts.headers, upgrade::WEBSOCKET);
        line.access.credential = way.credential.as_ref().map(|added| added.name.to_string());
        let mut response = match self.switcher.request(Request::from_parts(parts, full(""))).await {
            Ok(response) => response,
            Err(error) => return failed(asked, &error, line).into(),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.scrubbed(route, response, line).await.into();
        }
        if !upgrade::agreed(&response, upgrade::WEBSOCKET) || response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS)
        {
            line.stop(Verdict::Error, "upstream");
            let message = "upstream answered the WebSocket's handshake with something that was not asked for";
            return refuse(StatusCode::BAD_GATEWAY, "upstream", message).into();
        }
        let upstream = hyper::upgrade::on(&mut response);
        let mut answer: Response<_> = self.scrubbed_head(way, response.map(|_| full("")));
        upgrade::ask(answer.headers_mut(), upgrade::WEBSOCKET);
        let (force, host) = (Arc::clone(self), asked.host.clone());
        let talk = Conversation { force, route, host, guest, upstream };
        Passed { answer, rest: Some(Box::new(move |line| Box::pin(talk.run(line)))) }
    }
}

/// Two upgraded connections, and what judges between them.
struct Conversation {
    force: Arc<Force>,
    route: usize,
    host: bottle_policy::host::HostName,
    guest: OnUpgrade,
    upstream: OnUpgrade,
}

impl Conversation {
    async fn run(self, mut line: Line) {
        let (guest, upstream) = match tokio::try_join!(self.guest, self.upstream) {
            Ok(both) => both,
            Err(error) => {
                line.stop(Verdict::Error, "upgrade");
                tracing::debug!("a WebSocket was not taken up: {error}");
                return;
            }
        };
        let (mut guest_in, mut guest_out) = tokio::io::split(TokioIo::new(guest));
        let (mut up_in, mut up_out) = tokio::io::split(TokioIo::new(upstream));
        let (got, sent) = (AtomicU64::new(0), Arc::clone(&line.sent));
        let warned = std::sync::OnceLock::new();
        let policy = &self.force.policy;
        let way = &policy.routes[self.route];
        let rules = policy.rules_for(&self.host);
        let out = async {
            let (mut frames, mut talk) = (Frames::default(), Talk::default());
            let mut buffer = vec![0; 16 << 10];
            loop {
                let read = guest_in.read(&mut buffer).await.unwrap_or(0);
                if read == 0 {
                    return Ok(());
                }
                let messages = frames.push(&buffer[..read]).map_err(|error| Ended {
                    code: PROTOCOL,
                    reason: "websocket",
                    why: error.to_string(),
                    found: None,
                })?;
                for message in messages {
                    let judged =
                        talk.judge(policy.search(way, &rules), &message.payload, way.mode.unwrap_or(Mode::Block));
                    let found = |finding: bottle_policy::dlp::Finding| Found {
                        rule: finding.rule,
                        at: "websocket".to_owned(),
                        offset: sent.load(Ordering::Relaxed),
                    };
                    match judged {
                        Ok(Some(finding)) => drop(warned.set(found(finding))),
                        Ok(None) => {}
                        Err(finding) => {
                            let found = found(finding);
                            let why = format!("not sent: {} was found", found.rule);
                            return Err(Ended { code: POLICY, reason: "dlp", why, found: Some(found) });
                        }
                    }
                    if let Err(reached) = self.force.may_send(&self.host, message.payload.len() as u64) {
                        return Err(Ended { code: POLICY, reason: "limit", why: reached.to_string(), found: None });
                    }
                    if up_out.write_all(&message.raw).await.is_err() || up_out.flush().await.is_err() {
                        return Ok(());
                    }
                    sent.fetch_add(message.payload.len() as u64, Ordering::Relaxed);
                }
            }
        };
        let ended = {
            let back = upgrade::pump(&mut up_in, &mut guest_out, &got, |_| true);
            tokio::pin!(back);
            tokio::select! {
                ended = out => {
                    if ended.is_ok() {
                        let _ = up_out.shutdown().await;
                        let _ = back.await;
                    }
                    ended
                }
                _ = &mut back => Ok(()),
            }
        };
        line.access.bytes_in = got.into_inner();
        line.access.finding = warned.into_inner();
        if let Err(ended) = ended {
            tracing::info!("ended a WebSocket to {}: {}", self.host, ended.why);
            line.stop(if ended.code == PROTOCOL { Verdict::Deny } else { Verdict::Block }, ended.reason);
            line.access.finding = ended.found;
            let _ = guest_out.write_all(&close(ended.code, &ended.why)).await;
            let _ = guest_out.shutdown().await;
        }
    }
}

/// The frame by which a server ends a WebSocket.
fn close(code: u16, why: &str) -> Vec<u8> {
    let why = &why.as_bytes()[..why.len().min(120)];
    let length = u8::try_from(why.len() + 2).unwrap_or(2);
    [&[0x88, length], &code.to_be_bytes()[..], why].concat()
}
