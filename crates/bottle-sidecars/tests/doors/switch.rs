//! Connections that become something else: WebSockets, tunnels that are not looked into, and what is neither.

use std::time::Duration;

use bottle_wire::access::AccessVerdict;
use pretty_assertions::assert_eq;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_rustls::client::TlsStream;

use crate::make::Secrets;
use crate::world::{PLACEHOLDER, Setup, World, get, name, refusal};

const ROUTES: &str = r#"
  - { host: localhost, port: PORT, paths: [/open/socket], websocket: true, auth: { header: x-api-key, from: ANTHROPIC_API_KEY } }
  - { host: localhost, port: PORT, methods: [GET, POST], paths: ["/open/**"] }
passthrough: [pinned.example, localhost]
"#;

async fn world() -> World {
    World::start(Setup { routes: ROUTES, ..Setup::default() }).await
}

pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame") | 0x80;
    let mut out = vec![first, length, 1, 2, 3, 4];
    out.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// A WebSocket through the doors to this path, and the head of the answer.
pub(crate) async fn socket(world: &World, path: &str) -> (TlsStream<UnixStream>, String) {
    let mut tls = world.tunnel("localhost", world.origin.port, "http/1.1").await;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nX-Api-Key: {PLACEHOLDER}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        world.origin.port
    );
    tls.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![];
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tls.read_u8().await.expect("an answer"));
    }
    (tls, String::from_utf8(answer).expect("text"))
}

/// Waits until this was said to the origin.
async fn said(world: &World, what: &[u8]) {
    for _ in 0..500 {
        if world.origin.state.said.lock().expect("a lock").as_slice() == what {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the origin heard {:02x?}", world.origin.state.said.lock().expect("a lock"));
}

#[tokio::test]
async fn messages_pass_and_a_secret_cut_over_frames_does_not() {
    let world = world().await;
    let (mut tls, head) = socket(&world, "/open/socket").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut hello = [0; 7];
    tls.read_exact(&mut hello).await.expect("a message");
    assert_eq!(&hello, b"\x81\x05hello");
    let honest = frame(0x81, b"an honest message");
    tls.write_all(&honest).await.expect("sent");
    said(&world, &honest).await;
    {
        let seen = world.origin.state.seen.lock().expect("a lock");
        assert!(!seen[0].headers.contains_key("sec-websocket-extensions"), "compression was offered");
        assert_eq!(
            seen[0].headers.get("x-api-key").map(http::HeaderValue::as_bytes),
            Some(crate::world::KEY.as_bytes())
        );
    }
    let secret = Secrets::real().known;
    let (front, back) = secret.as_bytes().split_at(secret.len() / 2);
    tls.write_all(&[frame(0x01, front), frame(0x80, back)].concat()).await.expect("sent");
    let mut rest = vec![];
    tls.read_to_end(&mut rest).await.ok();
    assert!(rest.len() > 4 && rest[0] == 0x88 && rest[2..4] == 1008u16.to_be_bytes(), "{rest:02x?}");
    assert_eq!(world.origin.state.said.lock().expect("a lock").as_slice(), honest);
    let line = world.log("pipelock.jsonl", 1).await.remove(0);
    assert_eq!((line.status, line.verdict, line.reason.as_deref()), (101, AccessVerdict::Block, Some("dlp")));
    assert_eq!(
        line.finding.map(|found| (found.rule, found.at.to_string())),
        Some(("known-secret:ESCAPE_KEY".into(), "websocket".to_owned()))
    );
    let line = world.log("egress.jsonl", 1).await.remove(0);
    assert_eq!(
        (line.status, line.bytes_out, line.credential.as_deref()),
        (101, line.bytes_out, Some("ANTHROPIC_API_KEY"))
    );
    assert!(line.bytes_in >= 7 && line.bytes_out >= honest.len() as u64, "{line:?}");
}

#[tokio::test]
async fn a_secret_cut_over_messages_stops_at_its_last_piece() {
    let world = world().await;
    let (mut tls, _) = socket(&world, "/open/socket").await;
    let mut hello = [0; 7];
    tls.read_exact(&mut hello).await.expect("a message");
    let secret = Secrets::real().known;
    let (front, back) = secret.as_bytes().split_at(secret.len() / 2);
    // Nobody can know yet what it will be.
    let first = frame(0x81, front);
    tls.write_all(&first).await.expect("sent");
    said(&world, &first).await;
    tls.write_all(&frame(0x81, back)).await.expect("sent");
    let mut rest = vec![];
    let ended = tokio::time::timeout(Duration::from_secs(20), tls.read_to_end(&mut rest)).await;
    let _ = ended.expect("a WebSocket that is ended");
    assert!(rest.len() > 4 && rest[0] == 0x88 && rest[2..4] == 1008u16.to_be_bytes(), "{rest:02x?}");
    assert_eq!(world.origin.state.said.lock().expect("a lock").as_slice(), first);
}

#[tokio::test]
async fn compressed_and_unmasked_frames_end_a_websocket() {
    let world = world().await;
    for bytes in [frame(0xc1, b"deflated"), b"\x81\x01a".to_vec(), frame(0x80, b"of nothing")] {
        let (mut tls, _) = socket(&world, "/open/socket").await;
        let mut hello = [0; 7];
        tls.read_exact(&mut hello).await.expect("a message");
        tls.write_all(&bytes).await.expect("sent");
        let mut close = vec![];
        tls.read_to_end(&mut close).await.ok();
        assert!(
            close.len() > 4 && close[0] == 0x88 && close[2..4] == 1002u16.to_be_bytes(),
            "{bytes:02x?}: {close:02x?}"
        );
    }
    assert!(world.origin.state.said.lock().expect("a lock").is_empty());
}

#[tokio::test]
async fn no_route_no_websocket() {
    let world = world().await;
    let (_, head) = socket(&world, "/open/other").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    // RFC 8441 is not offered, so a client that asks for it all the same is broken.
    let io = hyper_util::rt::TokioIo::new(world.tunnel("localhost", world.origin.port, "h2").await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut request = get(&format!("https://localhost:{}/open/socket", world.origin.port));
    *request.method_mut() = http::Method::CONNECT;
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let answer = sender.send_request(request).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| !answer.status().is_success()));
    // What else a request may want to become is forgotten.
    let mut plain = get("/open/x");
    for (header, value) in
        [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")]
    {
        plain.headers_mut().insert(header, value.parse().expect("a value"));
    }
    assert_eq!(world.send(plain).await.status(), 200);
    assert!(world.origin.state.seen.lock().expect("a lock").iter().all(|seen| !seen.headers.contains_key("upgrade")));
}

#[tokio::test]
async fn a_tunnel_that_is_not_ended_is_for_its_host_alone() {
    let world = world().await;
    let hello = |host: &str| {
        let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let mut client = rustls::ClientConnection::new(config.into(), name(host)).expect("a client");
        let mut bytes = vec![];
        client.write_tls(&mut bytes).expect("a hello");
        bytes
    };
    for (host, first, reason) in [
        ("pinned.example", hello("other.example"), "sni"),
        ("pinned.example", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not_tls"),
        // The doors resolve it, and find nothing; nobody else would.
        ("pinned.example", hello("pinned.example"), "no_route"),
        ("localhost", hello("localhost"), "no_route"),
    ] {
        let before = std::fs::read_to_string(world.path("state/log/egress.jsonl")).unwrap_or_default().lines().count();
        let (mut stream, answer) = world.connect(&format!("{host}:443")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stream.write_all(&first).await.expect("sent");
        let mut rest = vec![];
        stream.read_to_end(&mut rest).await.ok();
        assert!(rest.is_empty(), "{rest:?}");
        let line = world.log("egress.jsonl", before + 1).await.remove(before);
        assert_eq!(
            (line.method.as_str(), line.reason.as_deref(), line.not_inspected),
            ("CONNECT", Some(reason), true),
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_malformed_body_is_the_guest_s_fault() {
    let world = world().await;
    let mut tls = world.tunnel("localhost", world.origin.port, "http/1.1").await;
    let head =
        format!("POST /open/x HTTP/1.1\r\nHost: localhost:{}\r\nTransfer-Encoding: chunked\r\n\r\n", world.origin.port);
    tls.write_all(head.as_bytes()).await.expect("sent");
    tls.write_all(b"5\r\nhello\r\nzz\r\n").await.expect("sent");
    let mut answer = vec![];
    tls.read_to_end(&mut answer).await.ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("bad_body"), "{answer}");
    let line = world.log("egress.jsonl", 1).await.remove(0);
    assert_eq!((line.verdict, line.reason.as_deref()), (AccessVerdict::Deny, Some("bad_body")));
}

#[tokio::test]
async fn pipelock_alone_serves_websockets_and_tunnels_too() {
    let world = World::start(Setup {
        guest_proxy: true,
        pipelock: "api_allowlist: [localhost]\ntls_interception: { passthrough_domains: [pinned.example] }\n",
        ..Setup::default()
    })
    .await;
    let (mut stream, _) = world.connect("pinned.example:443").await;
    stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.expect("sent");
    let mut rest = vec![];
    stream.read_to_end(&mut rest).await.ok();
    let line = world.log("pipelock.jsonl", 1).await.remove(0);
    assert_eq!((line.reason.as_deref(), line.not_inspected, rest.is_empty()), (Some("not_tls"), true, true));
    let (status, _) = refusal(world.send_to("elsewhere.example", 443, "http/1.1", get("/")).await).await;
    assert_eq!(status, 403);
}
