//! Upstreams that misbehave: `odd.toml` has what each says, byte for byte, and what a client of the doors gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::origin::{Origin, OriginStream};
use crate::world::{Setup, World, request};

const ROUTES: &str = "\n  - { host: localhost, port: PORT, methods: [GET, HEAD, POST], paths: [\"/open/**\"] }\n";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Odd {
    case: Vec<OddCase>,
}

/// What an upstream says, and what comes of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OddCase {
    name: String,
    /// HTTP/1.1: the answers of each connection in turn, the last one's again and again; a connection that has no more answers ends with
    /// the next request. `HEADERS*N` stands for so many headers; what begins with `(early)` comes before the request's body is read, and
    /// ends the connection.
    #[serde(default)]
    connections: Vec<Vec<String>>,
    /// HTTP/2: what each connection does with its requests in turn, the last one's likewise: `answer`, `refuse` (REFUSED_STREAM), `goaway`
    /// (this one was not processed), `leave` (it was, and the connection ends), `fail` (INTERNAL_ERROR).
    #[serde(default)]
    frames: Vec<Vec<String>>,
    #[serde(default = "get")]
    method: String,
    /// The body; `LARGE` stands for some megabytes.
    #[serde(default)]
    sends: String,
    /// Of each request: the status, and the body or the beginning of a refusal's message.
    expect: Vec<(u16, String)>,
    /// How many connections were made.
    made: usize,
    /// What pipelock's and egress' last lines have as their reason.
    reason: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

#[tokio::test]
async fn odd_upstreams_are_put_up_with_or_refused_with_a_reason() {
    let odd: Odd = toml::from_str(include_str!("odd.toml")).expect("cases");
    let mut wrong = vec![];
    for case in &odd.case {
        for alpn in ["http/1.1", "h2"] {
            if let Err(why) = run(case, alpn).await {
                wrong.push(format!("{} over {alpn}: {why}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn run(case: &OddCase, alpn: &str) -> Result<(), String> {
    let made = Arc::new(AtomicUsize::new(0));
    let (count, script) = (Arc::clone(&made), case.clone());
    let origin = Origin::raw(if case.frames.is_empty() { "http/1.1" } else { "h2" }, move |stream| {
        let (number, script) = (count.fetch_add(1, Ordering::Relaxed), script.clone());
        async move {
            let turn = |all: &[Vec<String>]| all.get(number).or(all.last()).cloned().unwrap_or_default();
            if script.frames.is_empty() {
                plain(stream, turn(&script.connections)).await;
            } else {
                frames(stream, turn(&script.frames)).await;
            }
        }
    })
    .await;
    let world = World::start(Setup { routes: ROUTES, origin: Some(origin), ..Setup::default() }).await;
    for (index, (status, body)) in case.expect.iter().enumerate() {
        let asked = request(&case.method, "/open/x", case.sends.replace("LARGE", &"x".repeat(3 << 20)));
        let response = world.send_to("localhost", world.origin.port, alpn, asked).await;
        let got = response.status().as_u16();
        let refused = response.headers().contains_key("proxy-status");
        let whole = response.into_body().collect().await;
        let text = whole.map(|whole| String::from_utf8_lossy(&whole.to_bytes()).into_owned());
        let text = text.unwrap_or_else(|_| "(cut off)".to_owned());
        let fits = if *status >= 500 { refused && text.contains(body.as_str()) } else { text == *body };
        if got != *status || !fits {
            return Err(format!("request {index}: {got} {text}"));
        }
    }
    let made = made.load(Ordering::Relaxed);
    if made != case.made {
        return Err(format!("{made} connections"));
    }
    for file in ["pipelock.jsonl", "egress.jsonl"] {
        let line = world.log(file, case.expect.len()).await.pop().ok_or("no line")?;
        let reason = line.reason.clone().unwrap_or_default();
        if case.reason.as_ref().map_or(line.reason.is_some(), |wanted| !reason.starts_with(wanted)) {
            return Err(format!("{file}: {line:?}"));
        }
    }
    Ok(())
}

/// Answers with these bytes in turn, and ends at the request that has none.
async fn plain(mut stream: OriginStream, answers: Vec<String>) {
    let (mut answers, mut taken) = (answers.into_iter(), vec![]);
    while let Ok(1..) = stream.read_buf(&mut taken).await {
        let Some(head) = memchr::memmem::find(&taken, b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&taken[..head]).to_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let early = answers.as_slice().first().is_some_and(|answer| answer.starts_with("(early)"));
        if !early && taken.len() < head + 4 + length.unwrap_or(0usize) {
            continue;
        }
        taken.clear();
        let Some(answer) = answers.next() else { return };
        let many =
            answer.split("HEADERS*").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok()).unwrap_or(0);
        let headers: Vec<String> = (0..many).map(|number: usize| format!("X-{number}: value")).collect();
        let answer = answer.replace(&format!("HEADERS*{many}"), &headers.join("\r\n")).replace("(early)", "");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        let _ = stream.flush().await;
        if answer.contains("HTTP/1.0") || answer.contains("(end)") || early {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// RFC 9113, 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_uint(payload.len() as u64, 3);
    frame.put_u8(kind);
    frame.put_u8(flags);
    frame.put_u32(stream);
    frame.put_slice(payload);
    frame.freeze()
}

/// An HTTP/2 server that does with each request as it is told, once all of it is there.
async fn frames(mut stream: OriginStream, deeds: Vec<String>) {
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).await.is_err() {
        return;
    }
    let _ = stream.write_all(&frame(4, 0, 0, &[])).await;
    let (mut deeds, mut last) = (deeds.into_iter(), 0_u32);
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        let (kind, flags, id) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        if kind == 4 && flags == 0 {
            let _ = stream.write_all(&frame(4, 1, 0, &[])).await;
        }
        if !(kind <= 1 && flags & 1 == 1) {
            continue;
        }
        let deed = deeds.next().unwrap_or_else(|| "leave".to_owned());
        let said = match deed.as_str() {
            // Static entry 8: `:status: 200`.
            "answer" => [frame(1, 4, id, &[0x88]), frame(0, 1, id, b"fine")].concat(),
            "refuse" => frame(3, 0, id, &7_u32.to_be_bytes()).to_vec(),
            "fail" => frame(3, 0, id, &2_u32.to_be_bytes()).to_vec(),
            "goaway" => frame(7, 0, 0, &[last.to_be_bytes(), 0_u32.to_be_bytes()].concat()).to_vec(),
            _ => frame(7, 0, 0, &[id.to_be_bytes(), 0_u32.to_be_bytes()].concat()).to_vec(),
        };
        last = id;
        if stream.write_all(&said).await.is_err() || stream.flush().await.is_err() || deed == "leave" {
            return;
        }
    }
}
