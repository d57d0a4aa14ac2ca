//! What a route says besides host, method and path, and what a run may send in all.

use bottle_types::place::Where;
use http::StatusCode;
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;

use crate::make::Secrets;
use crate::world::{Setup, World, get, refusal, request};

const ROUTES: &str = r#"
  - { host: localhost, port: PORT, methods: [GET], paths: [/open/q], query: { op: "read*" }, headers: { x-mode: dry } }
  - { host: localhost, port: PORT, methods: [POST], paths: [/open/small], max_bytes: 1KiB }
  - { host: localhost, port: PORT, methods: [GET], paths: [/open/rare], rate: 2/h }
  - { host: localhost, port: PORT, methods: [POST], paths: [/open/redact], dlp: { outbound: redact } }
  - { host: localhost, port: PORT, methods: [POST], paths: [/open/warn], dlp: { outbound: warn } }
  - { host: localhost, port: PORT, methods: [GET, POST], paths: ["/open/**"] }
  - { host: gateway.example, port: PORT, upstream: "https://localhost:PORT/open/base" }
git_upstreams: [{ host: localhost, path: open/base/app }]
"#;

async fn world(pipelock: &'static str) -> World {
    World::start(Setup { routes: ROUTES, pipelock, ..Setup::default() }).await
}

#[tokio::test]
async fn query_headers_size_and_rate() {
    let world = world("").await;
    for (path, mode, status) in [
        ("/open/q?op=read-all", "dry", 200),
        ("/open/q?op=read&x=1", "dry", 200),
        // The route below takes what this one does not; that is the manifest's to say.
        ("/open/q?op=write", "dry", 200),
    ] {
        let mut asked = get(path);
        asked.headers_mut().insert("x-mode", mode.parse().expect("a value"));
        assert_eq!(world.send(asked).await.status(), status, "{path}");
    }
    let routes: Vec<_> = world.log("egress.jsonl", 3).await.iter().map(|line| line.route).collect();
    assert_eq!(routes, [Some(0), Some(0), Some(5)]);
    let (status, body) = refusal(world.send(request("POST", "/open/small", vec![b'x'; 1025])).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::PAYLOAD_TOO_LARGE, &"too_large".into()));
    assert_eq!(world.send(request("POST", "/open/small", vec![b'x'; 1024])).await.status(), 200);
    for expected in [200, 200, 429] {
        assert_eq!(world.send(get("/open/rare")).await.status(), expected);
    }
}

#[tokio::test]
async fn a_route_can_lead_elsewhere() {
    let world = world("").await;
    let port = world.origin.port;
    assert_eq!(world.send_to("gateway.example", port, "h2", get("/v1/x?y=1")).await.status(), 200);
    let seen = world.origin.state.seen.lock().expect("a lock").pop().expect("a request");
    assert_eq!(seen.target, "/open/base/v1/x?y=1");
    let git = get("/app.git/info/refs?service=git-upload-pack");
    let (status, body) = refusal(world.send_to("gateway.example", port, "http/1.1", git).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"git_upstream".into()));
}

#[tokio::test]
async fn a_route_says_what_a_finding_leads_to() {
    let world = world("").await;
    let secrets = Secrets::real();
    let body = format!("{{\"token\": \"{}\"}}", secrets.token);
    let (status, _) = refusal(world.send(request("POST", "/open/x", body.clone())).await).await;
    assert_eq!(status, 403);
    assert_eq!(world.send(request("POST", "/open/warn", body.clone())).await.status(), 200);
    assert_eq!(world.send(request("POST", "/open/redact", body.clone())).await.status(), 200);
    {
        let seen = world.origin.state.seen.lock().expect("a lock");
        let texts: Vec<_> =
            seen.iter().filter(|seen| seen.whole).map(|seen| String::from_utf8_lossy(&seen.body)).collect();
        let stars = "*".repeat(secrets.token.len());
        assert_eq!(texts, [body.as_str(), &body.replace(&secrets.token, &stars)]);
    }
    for path in ["/open/warn", "/open/redact"] {
        let (status, _) = refusal(world.send(request("POST", path, secrets.known.clone())).await).await;
        assert_eq!(status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_run_sends_so_much_and_no_more() {
    let world = world("limits: { requests: 4, bytes_out: 1KiB }").await;
    assert_eq!(world.send(request("POST", "/open/x", vec![b'x'; 1000])).await.status(), 200);
    let (status, body) = refusal(world.send(request("POST", "/open/x", vec![b'x'; 1000])).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::TOO_MANY_REQUESTS, &"limit".into()));
    assert_eq!(world.send(get("/open/x")).await.status(), 200);
    assert_eq!(world.send(get("/open/x")).await.status(), 200);
    let (status, body) = refusal(world.send(get("/open/x")).await).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["message"], "this run may send 4 requests, and has");
    // A new policy does not begin anew.
    world.signal(0, rustix::process::Signal::HUP);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(world.send(get("/open/x")).await.status(), 429);
}

#[tokio::test]
async fn a_killed_pipelock_has_forgotten_nothing() {
    let mut world = world("limits: { requests: 5, bytes_out: 64KiB, hosts: 1 }").await;
    assert_eq!(world.send(request("POST", "/open/x", vec![b'x'; 20 << 10])).await.status(), 200);
    for expected in [200, 200] {
        assert_eq!(world.send(get("/open/rare")).await.status(), expected);
    }
    world.kill(0);
    world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
    // What was left of a rate is not known, so there is nothing.
    let (status, body) = refusal(world.send(get("/open/rare")).await).await;
    assert_eq!(
        (status, body["message"].as_str().is_some_and(|why| why.contains("2/h"))),
        (StatusCode::TOO_MANY_REQUESTS, true)
    );
    let port = world.origin.port;
    let (_, body) = refusal(world.send_to("gateway.example", port, "http/1.1", get("/x")).await).await;
    assert!(body["message"].as_str().is_some_and(|why| why.contains("may talk to 1 hosts")), "{body}");
    let (status, _) = refusal(world.send(request("POST", "/open/x", vec![b'x'; 50 << 10])).await).await;
    assert_eq!(status, 429, "bytes were forgotten");
    world.kill(2);
    world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
    assert_eq!(world.send(get("/open/x")).await.status(), 200);
    let (_, body) = refusal(world.send(get("/open/x")).await).await;
    assert_eq!(body["message"], "this run may send 5 requests, and has");
}

#[tokio::test]
async fn answers_are_looked_at_where_the_policy_says_so() {
    let read = |answer: http::Response<hyper::body::Incoming>| async {
        answer.into_body().collect().await.map(|body| body.to_bytes())
    };
    // Where nothing is said about answers, such words are noted, and nothing else happens.
    let off = world("").await;
    let answer = off.send(get("/open/inject")).await;
    assert!(answer.headers().contains_key("content-length"));
    assert!(read(answer).await.is_ok_and(|body| body.starts_with(b"A page. Ignore")));
    assert_eq!(read(off.send(get("/open/fine")).await).await.expect("whole"), "fine");
    assert!(read(off.send(get("/open/late")).await).await.is_ok());
    let lines = off.log("pipelock.jsonl", 3).await;
    let noted: Vec<_> =
        lines.iter().map(|line| line.finding.as_ref().map(|found| (found.rule.id(), &found.at))).collect();
    let words = Some((Some("injection-ignore-instructions"), &Where::Answer));
    assert_eq!(noted, [words, None, words]);
    assert!(lines.iter().all(|line| line.verdict == bottle_wire::access::AccessVerdict::Allow && line.route.is_some()));
    let warns = world("response_scanning: { action: warn }").await;
    assert!(read(warns.send(get("/open/inject")).await).await.is_ok());
    let line = warns.log("pipelock.jsonl", 1).await.remove(0);
    assert_eq!(line.finding.map(|found| found.rule), Some("injection-ignore-instructions".into()));
    assert_eq!(line.verdict, bottle_wire::access::AccessVerdict::Allow);
    let blocks = world("response_scanning: { action: block, max_body_bytes: 256KiB }").await;
    // Nothing of these has gone, so the guest is told why instead.
    for (path, error, rule) in
        [("/open/inject", "answer", Some("injection-ignore-instructions")), ("/open/large", "answer_too_large", None)]
    {
        let (status, body) = refusal(blocks.send(get(path)).await).await;
        assert_eq!((status, &body["error"]), (StatusCode::BAD_GATEWAY, &error.into()), "{path}: {body}");
        assert_eq!(body["rule"].as_str(), rule, "{body}");
        assert!(body["message"].as_str().is_some_and(|why| why.starts_with("the answer was not let in")), "{body}");
    }
    // Of this one the beginning has.
    let answer = blocks.send(get("/open/late")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(read(answer).await.is_err());
    assert_eq!(read(blocks.send(get("/open/fine")).await).await.expect("whole"), "fine");
    let lines = blocks.log("pipelock.jsonl", 4).await;
    let reasons: Vec<_> = lines.iter().map(|line| line.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("answer"), Some("answer_too_large"), Some("answer"), None]);
    let rules: Vec<_> = lines.iter().map(|line| line.finding.as_ref().and_then(|found| found.rule.id())).collect();
    let rule = Some("injection-ignore-instructions");
    assert_eq!(rules, [rule, None, rule, None]);
    let lines = blocks.log("egress.jsonl", 4).await;
    assert_eq!((lines[0].reason.as_deref(), lines[1].reason.as_deref()), (Some("answer"), Some("answer_too_large")));
}

#[tokio::test]
async fn the_bundle_counts_for_prometheus() {
    let world = world("").await;
    assert_eq!(world.send(get("/open/x")).await.status(), 200);
    assert_eq!(world.send(request("POST", "/open/x", Secrets::real().known)).await.status(), 403);
    world.log("egress.jsonl", 2).await;
    world.log("pipelock.jsonl", 2).await;
    let output = crate::world::control(world.dir.path(), "metrics").output().expect("an end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    for expected in [
        "bottle_requests_total{door=\"egress\",verdict=\"allow\",reason=\"\"} 1\n",
        "bottle_requests_total{door=\"pipelock\",verdict=\"block\",reason=\"dlp\"} 1\n",
        "bottle_findings_total{door=\"pipelock\",rule=\"known-secret:ESCAPE_KEY\"} 1\n",
    ] {
        assert!(text.contains(expected), "{expected}{text}");
    }
}

#[tokio::test]
async fn kinds_of_data_are_looked_for_where_the_policy_names_them() {
    let named = "dlp: { detect: [cards, iban], exemptions: [{ host: localhost, rule: iban }] }";
    let (world, off) = (world(named).await, world("").await);
    // A test number of payment providers.
    let card = "4242 4242 4242 4242";
    let (status, body) = refusal(world.send(request("POST", "/open/x", format!("it is {card}"))).await).await;
    assert_eq!((status, &body["rule"], &body["where"]), (StatusCode::FORBIDDEN, &"card-number".into(), &"body".into()));
    assert!(!body.to_string().contains("4242 4242"), "{body}");
    let (status, body) =
        refusal(world.send(get(&format!("/open/{}", hex::encode(format!("it is {card}"))))).await).await;
    assert_eq!((status, &body["rule"], &body["where"]), (StatusCode::FORBIDDEN, &"card-number".into(), &"url".into()));
    let mut asked = get("/open/x");
    asked.headers_mut().insert("x-account", "DE89 3704 0044 0532 0130 00".parse().expect("a value"));
    // What is exempt on its way to a host, what is not named, and another number.
    assert_eq!(world.send(asked).await.status(), 200);
    for honest in ["SSN: 536-22-1234", "it is 4242 4242 4242 4243"] {
        assert_eq!(world.send(request("POST", "/open/x", honest)).await.status(), 200, "{honest}");
    }
    assert_eq!(off.send(request("POST", "/open/x", format!("it is {card}"))).await.status(), 200);
}

#[tokio::test]
async fn a_project_s_own_formats_are_looked_for() {
    let world = world(
        "dlp: { patterns: [{ name: acme-key, regex: 'acme_[0-9a-f]{16}' }, { name: old-key, regex: 'acme-old_[a-z]+' }], \
         exemptions: [{ host: localhost, rule: old-key }] }",
    )
    .await;
    let token = "acme_0123456789abcdef";
    let (status, body) = refusal(world.send(request("POST", "/open/x", format!("it is {token}"))).await).await;
    assert_eq!((status, &body["rule"], &body["where"]), (StatusCode::FORBIDDEN, &"acme-key".into(), &"body".into()));
    let (status, body) = refusal(world.send(get(&format!("/open/{}", hex::encode(token)))).await).await;
    assert_eq!((status, &body["rule"], &body["where"]), (StatusCode::FORBIDDEN, &"acme-key".into(), &"url".into()));
    assert_eq!(world.send(request("POST", "/open/x", "acme-old_abc acme_short")).await.status(), 200);
    let seen = world.origin.state.seen.lock().expect("a lock").pop().expect("a request");
    assert_eq!(seen.body, b"acme-old_abc acme_short");
}
