//! Both sides talking: gRPC's messages, each of which waits for its answer, and what stands behind a body.

use std::time::Duration;

use bottle_wire::access::AccessVerdict;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use pretty_assertions::assert_eq;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::world::{Body, KEY, Setup, World, refusal};

fn envelope(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// A request whose frames are sent one by one.
fn talk(kind: &str) -> (mpsc::UnboundedSender<Frame<Bytes>>, Request<Body>) {
    let (sender, frames) = mpsc::unbounded_channel();
    let frames = stream::unfold(frames, |mut frames| async { Some((frames.recv().await?, frames)) });
    let body = StreamBody::new(frames.map(Ok)).boxed_unsync();
    let request = Request::post("/open/echo").header("content-type", kind).header("te", "trailers").body(body);
    (sender, request.expect("a request"))
}

#[tokio::test]
async fn each_message_gets_its_answer_before_the_next_is_sent() {
    for pipelock in ["", "response_scanning: { action: block }\n", "response_scanning: { action: warn }\n"] {
        let world = World::start(Setup { pipelock, ..Setup::default() }).await;
        for kind in ["application/grpc", "application/grpc+proto", "application/connect+json"] {
            let (sender, request) = talk(kind);
            sender.send(Frame::data(envelope(b"first"))).expect("sent");
            let mut response = world.send_to("localhost", world.origin.port, "h2", request).await;
            for message in [&b"first"[..], b"second", &[b'x'; 100_000], b"", b"last"] {
                if message != b"first" {
                    sender.send(Frame::data(envelope(message))).expect("sent");
                }
                let mut heard = vec![];
                while heard.len() < message.len() + 5 {
                    let frame = tokio::time::timeout(Duration::from_secs(5), response.body_mut().frame()).await;
                    let frame =
                        frame.unwrap_or_else(|_| panic!("{kind}, {pipelock}: no answer to {} bytes", message.len()));
                    heard.extend_from_slice(frame.expect("a frame").expect("whole").data_ref().expect("data"));
                }
                assert_eq!(heard, envelope(message));
            }
            let trailers = [("grpc-status", "0"), ("x-sum", "42"), ("x-sum", "43")];
            let trailers =
                trailers.map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)));
            sender.send(Frame::trailers(trailers.into_iter().collect())).expect("sent");
            drop(sender);
            let end = response.into_body().collect().await.expect("an end");
            let trailers = end.trailers().cloned().expect("trailers");
            assert_eq!(trailers["grpc-status"], "0");
            assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["42", "43"], "{pipelock}");
        }
    }
}

#[tokio::test]
async fn a_secret_in_messages_or_behind_them_is_blocked() {
    let world = World::usual().await;
    let (before, after) = KEY.as_bytes().split_at(12);
    let trailer = |value: &str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", value.parse().expect("a value"));
        Frame::trailers(trailers)
    };
    for frames in [
        vec![Frame::data(envelope(KEY.as_bytes()))],
        vec![Frame::data(envelope(b"hello")), Frame::data(envelope(KEY.as_bytes()))],
        vec![Frame::data(envelope(KEY.as_bytes()).slice(..12)), Frame::data(envelope(KEY.as_bytes()).slice(12..))],
        vec![Frame::data(envelope(&[b"x", before].concat())), Frame::data(Bytes::copy_from_slice(after)), trailer(KEY)],
        vec![Frame::data(envelope(b"hello")), trailer(KEY)],
    ] {
        let (sender, request) = talk("application/grpc");
        for frame in frames {
            sender.send(frame).expect("sent");
        }
        drop(sender);
        let (mut parts, body) = request.into_parts();
        parts.uri = "/open/x".parse().expect("a path");
        let response = world.send_to("localhost", world.origin.port, "h2", Request::from_parts(parts, body)).await;
        let (status, body) = refusal(response).await;
        assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"dlp".into()), "{body}");
        assert!(
            world.origin.state.seen.lock().expect("a lock").drain(..).all(|seen| !seen.whole),
            "it came to its end"
        );
    }
}

#[tokio::test]
async fn trailers_of_a_request_arrive_and_carry_no_credential() {
    let world = World::usual().await;
    for (alpn, named) in [("h2", false), ("http/1.1", true)] {
        let (sender, mut request) = talk("text/plain");
        *request.uri_mut() = "/key/x".parse().expect("a path");
        if named {
            request.headers_mut().insert("trailer", HeaderValue::from_static("x-sum, x-api-key"));
        }
        sender.send(Frame::data(Bytes::from_static(b"a body"))).expect("sent");
        let trailers = [("x-sum", "42"), ("x-api-key", "mine")];
        let trailers = trailers.map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)));
        sender.send(Frame::trailers(trailers.into_iter().collect())).expect("sent");
        drop(sender);
        let response = world.send_to("localhost", world.origin.port, alpn, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        let seen = world.origin.state.seen.lock().expect("a lock").pop().expect("a request");
        assert_eq!(
            (seen.body.as_slice(), &seen.headers["x-sum"], &seen.headers["x-api-key"]),
            (&b"a body"[..], &"42".parse().expect("a value"), &KEY.parse().expect("a value"))
        );
        assert_eq!(seen.headers.get_all("x-api-key").iter().count(), 1);
    }
}

#[tokio::test]
async fn many_headers_pass_and_too_many_are_refused_with_a_line() {
    let world = World::usual().await;
    let many = |count: usize| {
        let mut request = crate::world::get("/open/x");
        for number in 0..count {
            let name: http::HeaderName = format!("x-{number}").parse().expect("a name");
            request.headers_mut().insert(name, HeaderValue::from_static("value"));
        }
        request
    };
    for alpn in ["http/1.1", "h2"] {
        for count in [150, 990] {
            assert_eq!(world.send_to("localhost", world.origin.port, alpn, many(count)).await.status(), 200, "{count}");
            let seen = world.origin.state.seen.lock().expect("a lock").pop().expect("a request");
            assert_eq!(seen.headers.keys().filter(|name| name.as_str().starts_with("x-")).count(), count);
        }
    }
    for (index, alpn) in ["http/1.1", "h2"].into_iter().enumerate() {
        let response = world.send_to("localhost", world.origin.port, alpn, many(1001)).await;
        let (status, body) = refusal(response).await;
        assert_eq!((status.as_u16(), &body["error"]), (431, &"request".into()));
        let line = world.log("egress.jsonl", 5 + index).await.pop().expect("a line");
        assert_eq!((line.verdict, line.status), (AccessVerdict::Deny, 431));
    }
    // A target that HTTP/2's library can't read is reset by it, and leaves a line all the same.
    let mut tls = world.tunnel("localhost", world.origin.port, "h2").await;
    let path = b"/open/a<b";
    let authority = format!("localhost:{}", world.origin.port);
    // `:method: GET`, `:scheme: https`, and literals for `:authority` and `:path`.
    let text = |name: u8, text: &[u8]| [&[name, u8::try_from(text.len()).expect("short")], text].concat();
    let head = [&[0x82, 0x87][..], &text(1, authority.as_bytes()), &text(4, path)].concat();
    let length = u8::try_from(head.len()).expect("short");
    let frames =
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], &[0, 0, length, 1, 5, 0, 0, 0, 1], &head];
    tls.write_all(&frames.concat()).await.expect("sent");
    let line = world.log("egress.jsonl", 7).await.pop().expect("a line");
    assert_eq!((line.verdict, line.reason.as_deref()), (AccessVerdict::Deny, Some("request")));
}
