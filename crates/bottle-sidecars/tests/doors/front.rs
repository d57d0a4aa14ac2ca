//! What egress does with a connection before any rule is asked, and what it tells where no rule allows.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::UnixStream;

use crate::world::{World, get, name, refusal, request};

async fn closed(stream: &mut UnixStream) -> bool {
    let mut rest = vec![];
    tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn what_no_route_allows_is_told_which_rule_is_missing() {
    let world = World::usual().await;
    for alpn in ["http/1.1", "h2"] {
        let response = world.send_to("undeclared.example", 443, alpn, get("/x?token=abc")).await;
        let (status, body) = refusal(response).await;
        assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"no_route".into()));
        let missing = serde_json::json!({ "host": "undeclared.example", "methods": ["GET"], "paths": ["/x"] });
        assert_eq!(body["missing"], missing);
        let message = body["message"].as_str().expect("a message");
        assert!(message.contains("request_route") && message.contains("https://undeclared.example/x"), "{message}");
    }
    let (status, body) = refusal(world.send(get("/elsewhere")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"no_route".into()));
    let (status, body) = refusal(world.send(get("/open/app.git/info/refs?service=git-upload-pack")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"git_upstream".into()));
    let (_, body) = refusal(world.send(get("/open/..%2fkey/x")).await).await;
    assert_eq!(body["error"], "bad_path");
    assert!(world.origin.state.seen.lock().expect("a lock").is_empty());
    let log = world.log("egress.jsonl", 5).await;
    assert!(log.iter().all(|line| line.status == 403 && !line.path.contains('?')), "{log:?}");
}

#[tokio::test]
async fn git_is_told_in_text_what_to_declare() {
    let world = World::usual().await;
    for alpn in ["http/1.1", "h2"] {
        let mut asked = get("/team/lib.git/info/refs?service=git-upload-pack");
        asked.headers_mut().insert("user-agent", http::HeaderValue::from_static("git/2.39.5"));
        let response = world.send_to("undeclared.example", 443, alpn, asked).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        // git shows nothing else.
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert!(response.headers().contains_key("proxy-status"));
        let text = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.starts_with("no route allows GET") && text.contains("declared under `git`"), "{text}");
    }
}

#[tokio::test]
async fn connect_to_addresses_and_other_ports_is_refused() {
    let world = World::usual().await;
    for place in ["127.0.0.1:443", "[::1]:443", "0x7f.1:443", "localhost:1", "localhost:22", "undeclared.example:80"] {
        let (_, answer) = world.connect(place).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{place}: {answer}");
    }
}

#[tokio::test]
async fn after_connect_comes_tls_or_nothing() {
    let world = World::usual().await;
    let place = format!("localhost:{}", world.origin.port);
    let first: [&[u8]; 5] = [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET /open/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /open/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // An alert's record, then text.
        b"\x15\x03\x01\x00\x02\x01\x00GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in first {
        let (mut stream, answer) = world.connect(&place).await;
        assert!(answer.starts_with("HTTP/1.1 200"));
        stream.write_all(bytes).await.expect("sent");
        assert!(closed(&mut stream).await, "{bytes:?} was left open");
    }
    // One byte that could begin a hello, and then no more.
    let (mut stream, _) = world.connect(&place).await;
    stream.write_all(b"\x16").await.expect("sent");
    assert!(closed(&mut stream).await, "a hello that does not come was waited for");
    assert!(world.origin.state.seen.lock().expect("a lock").is_empty());
    let log = world.log("egress.jsonl", 6).await;
    assert!(log.iter().all(|line| line.method == "CONNECT" && line.status == 0), "{log:?}");
}

/// Writes its bytes one by one.
struct OneByOne(UnixStream);

impl AsyncRead for OneByOne {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for OneByOne {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_hello_in_pieces_of_one_byte_is_a_hello() {
    let world = World::usual().await;
    let (stream, _) = world.connect(&format!("localhost:{}", world.origin.port)).await;
    let mut tls = world.connector("http/1.1").connect(name("localhost"), OneByOne(stream)).await.expect("TLS");
    let head = format!("GET /open/a HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", world.origin.port);
    tls.write_all(head.as_bytes()).await.expect("sent");
    tls.flush().await.expect("sent");
    let mut answer = vec![];
    let _ = tls.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn connect_sni_and_host_agree() {
    let world = World::usual().await;
    let (stream, _) = world.connect(&format!("localhost:{}", world.origin.port)).await;
    let error = world.connector("h2").connect(name("other.example"), stream).await;
    assert!(error.is_err(), "another SNI was taken");
    // The client would have refused the certificate, too: what counts is that the door refused the hello.
    let refused = world.log("egress.jsonl", 1).await.remove(0);
    assert_eq!((refused.method.as_str(), refused.reason.as_deref()), ("CONNECT", Some("sni")));
    for host in ["other.example", "localhost", "localhost:1", "a@localhost"] {
        let mut asked = get("/open/x");
        asked.headers_mut().insert("host", host.parse().expect("a host"));
        let (status, body) = refusal(world.send(asked).await).await;
        assert_eq!((status.as_u16(), &body["error"]), (421, &"host_mismatch".into()), "{host}");
    }
    assert!(world.origin.state.seen.lock().expect("a lock").is_empty());
}

#[tokio::test]
async fn a_length_and_chunks_at_once_reach_upstream_as_one_of_them() {
    let world = World::usual().await;
    let mut tls = world.tunnel("localhost", world.origin.port, "http/1.1").await;
    let head = format!(
        "POST /open/x HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nab\r\n0\r\n\r\nGET /open/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        world.origin.port
    );
    tls.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![];
    let _ = tokio::time::timeout(Duration::from_secs(5), tls.read_to_end(&mut answer)).await.expect("closed");
    let seen = world.origin.state.seen.lock().expect("a lock");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].body.as_slice(), seen[0].headers.get("content-length")), (&b"ab"[..], None));
}

#[tokio::test]
async fn plain_http_needs_a_route_of_its_own() {
    let world = World::usual().await;
    let mut stream = UnixStream::connect(world.path("doors/egress.sock")).await.expect("a connection");
    for (target, status) in [("http://localhost/open/x", "403"), ("/open/x", "400"), ("http://10.0.0.1/", "403")] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
    }
}

#[tokio::test]
async fn sigterm_ends_it_and_a_restart_keeps_the_ca() {
    let mut world = World::usual().await;
    let before = std::fs::read(world.path("state/ca/egress.crt")).expect("a certificate");
    assert_eq!(world.end(rustix::process::Signal::TERM), Some(0));
    world.daemon("egress", "routes.yaml", "doors/egress.sock").await;
    assert_eq!(std::fs::read(world.path("state/ca/egress.crt")).expect("a certificate"), before);
    let response = world.send(request("POST", "/open/x", "body")).await;
    assert_eq!(response.status(), StatusCode::OK);
}
