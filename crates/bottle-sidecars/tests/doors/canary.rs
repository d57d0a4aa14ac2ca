//! The place of the self-test at the outgoing doors: judged as any other, sent to nobody, counted by no limit; and the self-test's own
//! request, of which there is no line.

use bottle_wire::access::AccessVerdict;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::world::{Setup, World, get};

/// Put together here: no scanner shall take this file for one with a secret.
fn canary() -> String {
    ["0f1e2d3c4b", "5a69788796", "a5b4c3d2e1", "f00f1e2d3c"].concat()
}

const ROUTES: &str = r#"
  - { host: localhost, port: PORT, methods: [GET], paths: ["/open/**"] }
  - { host: api.bottle.test, auth: { bearer: BOTTLE_CANARY } }
"#;

fn knowing() -> Setup {
    let pipelock = "limits: { requests: 1 }\n";
    Setup { routes: ROUTES, pipelock, secret: Some(("BOTTLE_CANARY", canary())), ..Setup::default() }
}

/// What the guest's door says to the self-test.
async fn sent(world: &World, head: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(world.path("doors/egress.sock")).await.expect("a connection");
    let length = body.len();
    let request =
        format!("{head}\r\nHost: self-test.invalid\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

const PLACE: &str = "POST http://self-test.invalid/ HTTP/1.1";

#[tokio::test]
async fn the_self_tests_own_request_has_no_line_and_a_later_one_has() {
    let world = World::start(knowing()).await;
    let body = format!("https://deploy:{}@git.corp.internal", canary());
    for _ in 0..2 {
        let answer = sent(&world, PLACE, &body).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(
            answer.contains(r#""error":"dlp""#) && answer.contains(r#""rule":"known-secret:BOTTLE_CANARY""#),
            "{answer}"
        );
        assert!(!answer.contains("x-bottle-"), "{answer}");
    }
    for file in ["egress.jsonl", "pipelock.jsonl"] {
        let lines = world.log(file, 1).await;
        let [line] = &lines[..] else { panic!("{file}: {lines:?}") };
        assert_eq!((&*line.host, line.verdict), ("self-test.invalid", AccessVerdict::Block), "{file}");
        assert!(line.finding.as_ref().is_some_and(|found| found.rule.is_canary()), "{file}: {line:?}");
    }
    // The one request that may be made is still there.
    assert_eq!(world.send(get("/open/x")).await.status(), 200);
    assert_eq!(world.send(get("/open/x")).await.status(), 429);
}

#[tokio::test]
async fn what_has_no_canary_in_it_reaches_nobody_and_is_no_refusal_of_one() {
    let world = World::start(knowing()).await;
    let answer = sent(&world, PLACE, "nothing").await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("nobody is behind this host"), "{answer}");
    // Other ways to the same name are as those to any name without a route.
    for head in ["POST http://self-test.invalid:81/ HTTP/1.1", "POST http://x.self-test.invalid/ HTTP/1.1"] {
        let answer = sent(&world, head, "nothing").await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("no_route") || answer.contains("host_mismatch"),
            "{answer}"
        );
    }
    assert_eq!(world.log("egress.jsonl", 3).await.len(), 3);
}

#[tokio::test]
async fn a_door_that_does_not_know_the_canary_lets_it_pass() {
    let world = World::usual().await;
    let answer = sent(&world, PLACE, &canary()).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && !answer.contains("BOTTLE_CANARY"), "{answer}");
}
