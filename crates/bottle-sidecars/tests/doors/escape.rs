//! The escape suite through both daemons over real TLS: the library's cases as requests, and `wire.toml` as bytes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::make::{Case, Made, Secrets, Suite, render};
use crate::world::{Body, Setup, World, refusal};

const ROUTES: &str = r#"
  - { host: localhost, port: PORT, methods: [POST], paths: [/model/v1/messages], model: true }
  - { host: localhost, port: PORT, methods: [GET, POST, PUT], paths: ["/open/**"] }
"#;
/// The suite has bodies of 16 MiB.
const LARGE: &str = "request_body_scanning: { max_body_bytes: 32MiB }\n";

async fn world() -> World {
    World::start(Setup { routes: ROUTES, pipelock: LARGE, ..Setup::default() }).await
}

fn request(case: &Case, made: &Made) -> Request<Body> {
    let target = if case.model { "/model/v1/messages" } else { &made.target };
    let mut request = Request::builder().method(made.method.as_str()).uri(target);
    for (name, value) in &made.headers {
        let name: HeaderName = name.parse().expect("a name");
        request = request.header(name, HeaderValue::from_bytes(value).expect("a value"));
    }
    let body = if case.chunks == 0 {
        Full::new(Bytes::from(made.body.clone())).boxed_unsync()
    } else {
        let chunks: Vec<_> =
            made.body.chunks(case.chunks).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
        StreamBody::new(stream::iter(chunks)).boxed_unsync()
    };
    request.body(body).expect("a request")
}

#[tokio::test]
async fn every_way_out_is_blocked_and_every_honest_request_passes() {
    let world = world().await;
    let suite: Suite =
        toml::from_str(include_str!("../../../bottle-scan/tests/escape/cases.toml")).expect("the library's cases");
    let (real, harmless) = (Secrets::real(), Secrets::harmless());
    let (mut wrong, mut ran) = (vec![], 0);
    for (index, case) in suite.case.iter().filter(|case| case.library_only.is_none()).enumerate() {
        ran += 1;
        let alpn = if index % 2 == 0 { "http/1.1" } else { "h2" };
        let made = case.make(&real, false);
        let response = world.send_to("localhost", world.origin.port, alpn, request(case, &made)).await;
        let (status, body) = refusal(response).await;
        if (status, &body["error"]) != (StatusCode::FORBIDDEN, &"dlp".into()) {
            wrong.push(format!("{} over {alpn}: {status} {body}", case.name));
        }
        if !body["rule"].as_str().unwrap_or_default().starts_with(&case.expect) {
            wrong.push(format!("{} over {alpn}: {body}", case.name));
        }
        for secret in [&real.known, &real.token] {
            if body.to_string().contains(secret.as_str()) {
                wrong.push(format!("{}: the refusal has the secret in it", case.name));
            }
        }
        let seen = std::mem::take(&mut *world.origin.state.seen.lock().expect("a lock"));
        if let Some(seen) = seen.iter().find(|seen| seen.whole) {
            wrong.push(format!("{} over {alpn}: it came to {}", case.name, seen.target));
        }
        passes(&world, case, alpn, &case.make(&harmless, true), &mut wrong).await;
    }
    for (index, case) in suite.honest.iter().enumerate() {
        let alpn = if index % 2 == 0 { "h2" } else { "http/1.1" };
        passes(&world, case, alpn, &case.make(&harmless, true), &mut wrong).await;
    }
    assert!(ran >= 60, "{ran}");
    assert!(wrong.is_empty(), "{} of {ran} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Sends an honest request, which arrives as it was sent.
async fn passes(world: &World, case: &Case, alpn: &str, made: &Made, wrong: &mut Vec<String>) {
    let response = world.send_to("localhost", world.origin.port, alpn, request(case, made)).await;
    let status = response.status();
    let answer = response.into_body().collect().await.expect("a body").to_bytes();
    if status != StatusCode::OK {
        return wrong.push(format!("honest {} over {alpn}: {status} {}", case.name, String::from_utf8_lossy(&answer)));
    }
    let Some(seen) = world.origin.state.seen.lock().expect("a lock").pop() else {
        return wrong.push(format!("honest {}: it did not arrive", case.name));
    };
    let target = if case.model { "/model/v1/messages" } else { &made.target };
    if seen.body != made.body || seen.target != target || seen.method != made.method || !seen.whole {
        wrong.push(format!(
            "honest {} over {alpn}: {} {} with {} bytes",
            case.name,
            seen.method,
            seen.target,
            seen.body.len()
        ));
    }
    for (name, value) in &made.headers {
        // HTTP/2 may cut a cookie; one of a name is enough to see.
        if !seen.headers.get_all(name.as_str()).iter().any(|seen| seen.as_bytes() == value) {
            wrong.push(format!("honest {} over {alpn}: {name} did not arrive", case.name));
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    case: Vec<WireCase>,
}

/// Bytes on a connection of the guest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCase {
    name: String,
    /// Outside of a tunnel.
    #[serde(default)]
    outer: bool,
    send: String,
    /// What the answer begins with; empty: the connection ends without one.
    expect: String,
    /// The same shape, done honestly, and the body that arrives; none: there is no honest form.
    honest: Option<String>,
    #[serde(default)]
    honest_body: String,
    /// What the answer says besides.
    #[serde(default)]
    told: String,
    /// Bytes are sent one by one.
    #[serde(default)]
    slowly: bool,
}

#[tokio::test]
async fn no_bytes_on_the_wire_get_round_the_doors() {
    let world = world().await;
    let wire: Wire = toml::from_str(include_str!("wire.toml")).expect("cases");
    let real = Secrets::real();
    let mut wrong = vec![];
    for case in &wire.case {
        let lines =
            || std::fs::read_to_string(world.path("state/log/egress.jsonl")).unwrap_or_default().lines().count();
        let before = lines();
        let answer = exchange(&world, case, &case.send, &real).await;
        if !case.expect.is_empty() && lines() == before {
            wrong.push(format!("{}: it left no line", case.name));
        }
        let refused =
            answer.split("\r\n\r\n").next().is_some_and(|head| head.contains(" 400 ") || head.contains(" 431 "));
        let says_nothing = !case.send.starts_with("HEAD") && !answer.contains("{\"error\":\"");
        if refused && says_nothing || !answer.contains(&case.told) {
            wrong.push(format!("{}: it does not say why: {answer}", case.name));
        }
        if !answer.starts_with(&case.expect) || case.expect.is_empty() && !answer.is_empty() {
            wrong.push(format!("{}: {answer}", case.name));
        }
        for seen in world.origin.state.seen.lock().expect("a lock").drain(..) {
            let text = format!("{} {} {:?}", seen.method, seen.target, seen.headers);
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            let secret = |text: &str| text.contains(&real.known) || text.contains(&real.known[..12]);
            if text.contains("denied") || secret(&text) || secret(&body) && seen.whole {
                wrong.push(format!("{}: it came to {text} {body}", case.name));
            }
        }
        let Some(honest) = &case.honest else { continue };
        let answer = exchange(&world, case, honest, &real).await;
        let seen = std::mem::take(&mut *world.origin.state.seen.lock().expect("a lock"));
        let arrived = seen.first().map(|seen| String::from_utf8_lossy(&seen.body).into_owned());
        if !answer.starts_with("HTTP/1.1 200") || arrived.as_deref() != Some(case.honest_body.as_str()) {
            wrong.push(format!("honest {}: {arrived:?} {answer}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), wire.case.len(), wrong.join("\n"));
}

async fn exchange(world: &World, case: &WireCase, bytes: &str, secrets: &Secrets) -> String {
    let bytes = render(&bytes.replace("PORT", &world.origin.port.to_string()), secrets);
    if case.outer {
        let stream = UnixStream::connect(world.path("doors/egress.sock")).await.expect("a connection");
        said(stream, &bytes, case.slowly).await
    } else {
        said(world.tunnel("localhost", world.origin.port, "http/1.1").await, &bytes, case.slowly).await
    }
}

/// All that comes back until a short silence.
async fn said<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8], slowly: bool) -> String {
    for piece in bytes.chunks(if slowly { 1 } else { bytes.len() }) {
        // The door may have closed already.
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        if slowly {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    let mut answer = vec![];
    let mut buffer = [0; 4096];
    // The first answer may take its time, what follows comes with it.
    let mut patience = Duration::from_secs(12);
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(patience, stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..count]);
        patience = Duration::from_millis(150);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn early_data_is_not_taken() {
    let world = world().await;
    assert!(!world.takes_early_data("localhost", world.origin.port).await);
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_followed_into_a_wall() {
    let world = world().await;
    let response = world.send(crate::world::get("/open/redirect")).await;
    assert_eq!(response.headers()["location"], "http://169.254.169.254/latest/meta-data/");
    let mut stream = UnixStream::connect(world.path("doors/egress.sock")).await.expect("a connection");
    stream
        .write_all(b"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}
