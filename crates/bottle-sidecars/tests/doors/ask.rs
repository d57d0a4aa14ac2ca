//! Routes on which a person is asked about what was found: pipelock, egress and supervise together, over TLS on both sides.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bottle_policy::supervise::{Held, Request};
use bottle_wire::access::AccessVerdict;
use bottle_wire::control::{Decided, Listing};
use bottle_wire::proposal::{By, State, Verdict};
use bottle_wire::proposal::{Decide, Standing};
use http::StatusCode;
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::make::Secrets;
use crate::world::{KEY, Setup, World, control, get, refusal, request};

const ROUTES: &str = r#"
  - host: localhost
    port: PORT
    methods: [GET, POST]
    paths: ["/open/**"]
    dlp: { outbound: ask }
"#;
/// Where the third daemon is among the processes.
const SUPERVISE: usize = 2;

async fn world(supervise: &str) -> World {
    let mut world = alone().await;
    let policy = format!("version: 1\nrun: run-1\n{supervise}");
    std::fs::write(world.path("config/supervise.yaml"), policy).expect("a policy");
    start_supervise(&mut world).await;
    world
}

async fn alone() -> World {
    World::start(Setup { routes: ROUTES, ..Setup::default() }).await
}

async fn start_supervise(world: &mut World) {
    world.daemon("supervise", "supervise.yaml", "doors/supervise.sock").await;
}

/// Made here, so that no scanner finds it in this file.
fn token() -> String {
    format!("ghp_{}", "a1B2c3D4e5F6".repeat(3))
}

/// The answer to a request that waits.
fn sending(
    world: &std::sync::Arc<World>,
    asked: http::Request<crate::world::Body>,
) -> tokio::task::JoinHandle<(StatusCode, String)> {
    let world = std::sync::Arc::clone(world);
    tokio::spawn(async move {
        let answer = world.send(asked).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    })
}

fn list(world: &World) -> Vec<Standing> {
    let output = control(world.dir.path(), "list").output().expect("an end");
    let listing: Listing = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    listing.proposals
}

/// Waits for so many proposals, and gives the last.
async fn asked(world: &World, count: usize) -> Standing {
    let start = Instant::now();
    loop {
        let mut proposals = list(world);
        if proposals.len() >= count {
            assert_eq!(proposals.len(), count);
            return proposals.remove(count - 1);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nobody asks: {:?}", world.log("pipelock.jsonl", 1).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn held(standing: &Standing) -> &Held {
    match &standing.proposal.request {
        Request::HeldRequest(held) => held,
        other => panic!("{other:?}"),
    }
}

fn decide(world: &World, shown: &Standing, verdict: Verdict) -> Decided {
    let decide = Decide::on(&shown.proposal, verdict, By::Local { user: "ann".to_owned() });
    let mut command = control(world.dir.path(), "decide");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
    let input = serde_json::to_vec(&decide).expect("JSON");
    child.stdin.take().expect("a pipe").write_all(&input).expect("sent");
    let output = child.wait_with_output().expect("an end");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn deny(why: &str) -> Verdict {
    Verdict::Deny { why: why.to_owned() }
}

fn reached(world: &World) -> usize {
    world.origin.state.seen.lock().expect("a lock").len()
}

/// A refusal's body: what every block says, and what came of the question.
fn told(body: &str) -> (String, String, String, String) {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(body["error"], "dlp");
    (text("rule"), text("where"), text("proposal"), text("message"))
}

#[tokio::test]
async fn a_yes_lets_exactly_this_request_go() {
    let world = std::sync::Arc::new(world("approval: local\n").await);
    let body = format!("{} {} and so on", "a".repeat(200), token());
    let path = "/open/x?q=hidden";
    let waiting = sending(&world, request("POST", path, body.clone()));
    let shown = asked(&world, 1).await;
    let about = held(&shown);
    assert_eq!((about.method.as_str(), about.path.as_str()), ("POST", "/open/x"));
    assert_eq!(about.url(), format!("https://localhost:{}/open/x", world.origin.port));
    assert_eq!(about.found(), "github-pat in its body, at byte 201");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(reached(&world) == 0 && !waiting.is_finished(), "it did not wait");

    let edited = Verdict::Modified { request: Box::new(shown.proposal.request.clone()) };
    assert!(matches!(decide(&world, &shown, edited), Decided::Refused { .. }));
    assert!(matches!(decide(&world, &shown, Verdict::Approve), Decided::Taken(_)));
    assert_eq!(waiting.await.expect("an end"), (StatusCode::OK, "fine".to_owned()));
    {
        let seen = world.origin.state.seen.lock().expect("a lock");
        assert_eq!((seen[0].target.as_str(), seen[0].whole), (path, true));
        assert_eq!(seen[0].body, body.as_bytes());
    }
    let line = world.log("pipelock.jsonl", 1).await.remove(0);
    assert_eq!((line.verdict, line.reason, line.status), (AccessVerdict::Allow, None, 200));
    assert_eq!(
        (line.proposal.map(|id| id.to_string()), line.finding.map(|found| found.offset)),
        (Some("P1".to_owned()), Some(201))
    );

    // The same bytes need no second yes; a byte more does, and so does another place.
    let mut again = request("POST", path, body.clone());
    again.headers_mut().insert("x-attempt", http::HeaderValue::from_static("2"));
    assert_eq!(world.send(again).await.status(), StatusCode::OK);
    assert_eq!(list(&world).len(), 1);
    for (at, (path, body)) in
        [(path, format!("{body}.")), ("/open/y?q=hidden", body.clone()), ("/open/x?q=other", body)]
            .into_iter()
            .enumerate()
    {
        let waiting = sending(&world, request("POST", path, body));
        let shown = asked(&world, at + 2).await;
        assert!(matches!(decide(&world, &shown, Verdict::Approve), Decided::Taken(_)));
        assert_eq!(waiting.await.expect("an end").0, StatusCode::OK);
    }
    // What has nothing in it is not asked about.
    assert_eq!(world.send(request("POST", "/open/x", "honest")).await.status(), StatusCode::OK);
    assert_eq!(list(&world).len(), 4);
}

#[tokio::test]
async fn a_no_says_who_and_why_and_stands() {
    let world = std::sync::Arc::new(world("approval: local\n").await);
    let waiting = sending(&world, request("POST", "/open/x", token()));
    let shown = asked(&world, 1).await;
    // While it is asked, others like it ask nobody.
    let (status, body) = refusal(world.send(request("POST", "/open/x", format!("{} too", token()))).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(told(&body.to_string()).3.contains("another request like this one"), "{body}");
    decide(&world, &shown, deny("not in this repository"));
    let (status, body) = waiting.await.expect("an end");
    let (rule, at, proposal, message) = told(&body);
    assert_eq!(
        (status, rule.as_str(), at.as_str(), proposal.as_str()),
        (StatusCode::FORBIDDEN, "github-pat", "body", "P1")
    );
    assert!(message.contains("refused by ann: not in this repository"), "{message}");
    for body in [token(), format!("{} again", token())] {
        let (status, body) = refusal(world.send(request("POST", "/open/x", body)).await).await;
        assert_eq!((status, told(&body.to_string()).2.as_str()), (StatusCode::FORBIDDEN, "P1"));
    }
    assert_eq!((list(&world).len(), reached(&world)), (1, 0));
    let lines = world.log("pipelock.jsonl", 4).await;
    assert!(
        lines.iter().all(|line| line.verdict == AccessVerdict::Block && line.reason.as_deref() == Some("dlp")),
        "{lines:?}"
    );
    for file in ["proposals.jsonl", "pipelock.jsonl", "egress.jsonl"] {
        let text = std::fs::read_to_string(world.path("state/log").join(file)).expect("a record");
        assert!(!text.contains(&token()[4..]), "{file}: {text}");
    }
}

#[tokio::test]
async fn what_is_in_the_head_or_packed_is_asked_about_and_not_shown() {
    use std::io::Write as _;
    let world = std::sync::Arc::new(world("approval: local\n").await);
    let secret = token();
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    packed.write_all(format!("packed {secret}").as_bytes()).expect("packed");
    let mut zipped = request("POST", "/open/packed", packed.finish().expect("packed"));
    zipped.headers_mut().insert("content-encoding", http::HeaderValue::from_static("gzip"));
    let mut header = get("/open/header");
    header.headers_mut().insert("x-token", secret.parse().expect("a value"));
    let both = request(
        "POST",
        &format!("/open/{secret}"),
        format!("xoxb-{}", "903817264553-7719034826512-tR8wQx2LzV9mKp4YsN7uEe3b"),
    );
    for (at, (sent, path, found)) in [
        (get(&format!("/open/x?token={secret}")), "(withheld)", vec!["github-pat url"]),
        (header, "/open/header", vec!["github-pat header x-token"]),
        (zipped, "/open/packed", vec!["github-pat body"]),
        (both, "(withheld)", vec!["github-pat url", "slack-token body"]),
    ]
    .into_iter()
    .enumerate()
    {
        let waiting = sending(&world, sent);
        let shown = asked(&world, at + 1).await;
        let about = held(&shown);
        let all: Vec<String> = about.findings.iter().map(|found| format!("{} {}", found.rule, found.at)).collect();
        assert_eq!((about.path.as_str(), all), (path, found.into_iter().map(str::to_owned).collect::<Vec<_>>()));
        assert!(!serde_json::to_string(&shown).expect("JSON").contains(&secret[4..]));
        assert!(matches!(decide(&world, &shown, Verdict::Approve), Decided::Taken(_)));
        assert_eq!(waiting.await.expect("an end").0, StatusCode::OK, "{at}");
    }
    let seen = world.origin.state.seen.lock().expect("a lock");
    assert!(seen[0].target.ends_with(&secret) && seen[1].headers.get("x-token").is_some(), "{seen:?}");
    assert!(seen.len() == 4 && seen.iter().all(|seen| seen.whole));
}

#[tokio::test]
async fn a_secret_of_the_bottle_s_own_is_never_asked_about() {
    let world = world("approval: local\n").await;
    let own = Secrets::real().known;
    let reversed: String = own.chars().rev().collect();
    for (path, body) in [
        ("/open/x".to_owned(), own.clone()),
        // Behind what somebody could be asked about.
        ("/open/x".to_owned(), format!("{} {own}", token())),
        ("/open/x".to_owned(), format!("{} {}", token(), hex::encode(KEY))),
        ("/open/x".to_owned(), format!("{} {reversed}", token())),
        (format!("/open/{}", token()), KEY.to_owned()),
        (format!("/open/{}?k={own}", token()), String::new()),
        // Larger than what is held, and what can't be looked into.
        ("/open/x".to_owned(), format!("{}{}{own}", token(), " filler".repeat(200_000))),
    ] {
        let (status, body) = refusal(world.send(request("POST", &path, body)).await).await;
        let (rule, _, proposal, message) = told(&body.to_string());
        assert_eq!((status, proposal.as_str()), (StatusCode::FORBIDDEN, ""), "{message}");
        assert!(rule.starts_with("known-secret:") || message.contains("leave it out"), "{rule} {message}");
    }
    let mut strange = request("POST", "/open/x", token());
    strange.headers_mut().insert("content-encoding", http::HeaderValue::from_static("x-own"));
    assert_eq!(world.send(strange).await.status(), StatusCode::FORBIDDEN);
    assert!(list(&world).is_empty());
    for file in ["pipelock.jsonl", "egress.jsonl"] {
        let text = std::fs::read_to_string(world.path("state/log").join(file)).expect("a record");
        assert!(!text.contains(&token()[4..]) && !text.contains(&own), "{file}: {text}");
    }
    assert!(world.origin.state.seen.lock().expect("a lock").iter().all(|seen| !seen.whole));
}

#[tokio::test]
async fn what_nobody_decides_is_refused_in_time() {
    let world = world("approval: local\ntimeout: 1s\n").await;
    let (status, body) = refusal(world.send(request("POST", "/open/x", token())).await).await;
    let (_, _, proposal, message) = told(&body.to_string());
    assert_eq!((status, proposal.as_str()), (StatusCode::FORBIDDEN, "P1"));
    assert!(message.contains("nobody decided within 1s"), "{message}");
    assert_eq!(reached(&world), 0);
}

#[tokio::test]
async fn where_nobody_decides_ask_is_block() {
    let world = world("approval: deny\n").await;
    for _ in 0..3 {
        let (status, body) = refusal(world.send(request("POST", "/open/x", token())).await).await;
        assert_eq!((status, told(&body.to_string()).2.as_str()), (StatusCode::FORBIDDEN, "P1"));
        assert!(body.to_string().contains("approval is `deny`"), "{body}");
    }
    assert_eq!((list(&world).len(), reached(&world)), (1, 0));
    let without = alone().await;
    let (status, body) = refusal(without.send(request("POST", "/open/x", token())).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(told(&body.to_string()).3.contains("there is nobody to ask"), "{body}");
    assert_eq!(without.send(request("POST", "/open/x", "honest")).await.status(), StatusCode::OK);
}

/// A connection on which the request was sent, and is not waited for.
async fn sent(world: &World) -> tokio_rustls::client::TlsStream<tokio::net::UnixStream> {
    let mut tls = world.tunnel("localhost", world.origin.port, "http/1.1").await;
    let (port, body) = (world.origin.port, token());
    let head =
        format!("POST /open/x HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    tls.write_all(head.as_bytes()).await.expect("sent");
    tls
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_is_taken_back() {
    let world = world("approval: local\n").await;
    let first = sent(&world).await;
    asked(&world, 1).await;
    drop(first);
    // It may try again: that is the same question.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut second = sent(&world).await;
    tokio::time::sleep(Duration::from_secs(14)).await;
    let shown = asked(&world, 1).await;
    assert!(shown.state.is_open(), "{shown:?}");
    assert!(matches!(decide(&world, &shown, Verdict::Approve), Decided::Taken(_)));
    let mut answer = [0; 15];
    second.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(reached(&world), 1);

    let other = format!("{} other", token());
    let asking = world.send(request("POST", "/open/other", other));
    let gone = tokio::time::timeout(Duration::from_millis(500), asking).await;
    assert!(gone.is_err(), "it did not wait");
    let shown = asked(&world, 2).await;
    let start = Instant::now();
    let state = loop {
        let state = list(&world).remove(1).state;
        if !state.is_open() {
            break state;
        }
        assert!(start.elapsed() < Duration::from_secs(25), "it stays open");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let State::Denied { why, by: By::Nobody } = state else { panic!("{state:?}") };
    assert_eq!(why, "whoever sent it has gone");
    assert!(matches!(decide(&world, &shown, Verdict::Approve), Decided::Refused { .. }));
    assert_eq!(reached(&world), 1);
}

#[tokio::test]
async fn without_supervise_or_pipelock_nothing_that_waits_goes() {
    let world = world("approval: local\n").await;
    let mut waiting = sent(&world).await;
    asked(&world, 1).await;
    let mut world = world;
    world.kill(SUPERVISE);
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(5), waiting.read(&mut answer)).await.expect("in time");
    let text = String::from_utf8_lossy(&answer[..read.expect("an answer")]).into_owned();
    assert!(text.starts_with("HTTP/1.1 403") && text.contains("there is nobody to ask"), "{text}");

    start_supervise(&mut world).await;
    let first = list(&world).remove(0);
    assert!(matches!(&first.state, State::Denied { why, by: By::Nobody } if why.contains("started anew")), "{first:?}");
    assert!(matches!(decide(&world, &first, Verdict::Approve), Decided::Refused { .. }));

    let mut waiting = sent(&world).await;
    let second = asked(&world, 2).await;
    // pipelock is the first that was started.
    world.kill(0);
    let read = tokio::time::timeout(Duration::from_secs(5), waiting.read(&mut answer)).await.expect("in time");
    let text = String::from_utf8_lossy(&answer[..read.expect("an answer")]).into_owned();
    assert!(text.starts_with("HTTP/1.1 502"), "{text}");
    let start = Instant::now();
    while list(&world)[1].state.is_open() {
        assert!(start.elapsed() < Duration::from_secs(5), "it stays open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
    assert!(matches!(decide(&world, &second, Verdict::Approve), Decided::Refused { .. }));
    assert_eq!(reached(&world), 0);
}
