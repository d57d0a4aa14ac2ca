//! Model routes: live with recording, and from a cassette.

use std::time::Duration;

use bottle_policy::cassette::Cassette;
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::world::{Setup, World, refusal, request};

const MODEL: &str = "\n  - { host: localhost, port: PORT, methods: [POST, GET], paths: ['/v1/**'], model: true, \
                     auth: { header: x-api-key, from: ANTHROPIC_API_KEY } }\n";

const CASSETTE: &str = "version: 1\nturns:\n  - text: Let me see.\n    tools: [{ name: Bash, input: { command: ls } }]\n  \
                        - { status: 529, text: Overloaded }\n";

fn ask(assistant: usize, stream: bool) -> http::Request<crate::world::Body> {
    let mut messages = vec![json!({ "role": "user", "content": "go" })];
    messages.extend((0..assistant).map(|_| json!({ "role": "assistant", "content": "x" })));
    messages.push(json!({ "role": "system", "content": "note" }));
    let body = json!({ "model": "claude-test", "stream": stream, "messages": messages }).to_string();
    request("POST", "/v1/messages?beta=true", body)
}

#[tokio::test]
async fn a_cassette_answers_by_turn_and_nothing_goes_out() {
    let world = World::start(Setup { routes: MODEL, cassette: Some(CASSETTE), ..Setup::default() }).await;
    let response = world.send(ask(0, true)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let text = response.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8_lossy(&text);
    for event in ["message_start", "content_block_delta", "ping", "message_delta", "message_stop"] {
        assert!(text.contains(&format!("event: {event}\n")), "{event}: {text}");
    }
    assert!(text.contains("Let me see.") && text.contains("toolu_bottle0000x00"), "{text}");

    let (status, body) = refusal(world.send(ask(0, false)).await).await;
    assert_eq!(
        (status.as_u16(), &body["model"], &body["stop_reason"]),
        (200, &"claude-test".into(), &"tool_use".into())
    );
    let (status, body) = refusal(world.send(ask(1, true)).await).await;
    assert_eq!((status.as_u16(), &body["error"]["type"]), (529, &"overloaded_error".into()));
    let (status, body) = refusal(world.send(ask(2, true)).await).await;
    let message = body["error"]["message"].as_str().expect("a message");
    assert_eq!((status.as_u16(), message), (400, "cassette has no turn 2: it has 2"));
    let (_, body) = refusal(world.send(request("POST", "/v1/messages/count_tokens", "{\"messages\":[]}")).await).await;
    assert!(body["input_tokens"].is_u64());
    let (status, _) = refusal(world.send(request("GET", "/v1/models", "")).await).await;
    assert_eq!(status.as_u16(), 404);
    assert!(world.origin.state.seen.lock().expect("a lock").is_empty());

    let recorded = std::fs::read_to_string(world.path("state/log/cassette.jsonl")).expect("a record");
    let recorded = Cassette::parse(&recorded).expect("a cassette");
    let turns: Vec<_> = recorded.turns.iter().map(|turn| (turn.after, turn.status, turn.content.len())).collect();
    assert_eq!(turns, [(Some(0), None, 2), (Some(0), None, 2), (Some(1), Some(529), 0)]);
}

#[tokio::test]
async fn a_missing_or_broken_cassette_is_said_and_tried_again() {
    let world = World::start(Setup { routes: MODEL, cassette: Some("turns: 1"), ..Setup::default() }).await;
    let (status, body) = refusal(world.send(ask(0, true)).await).await;
    assert_eq!(status.as_u16(), 400);
    assert!(body["error"]["message"].as_str().expect("a message").contains("failed to read the cassette"), "{body}");
    std::fs::write(world.path("state/replay/cassette"), CASSETTE).expect("a file");
    assert_eq!(world.send(ask(0, true)).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_live_stream_is_not_held_back_and_is_recorded() {
    let world = World::start(Setup { routes: MODEL, ..Setup::default() }).await;
    let mut response = world.send(ask(0, true)).await;
    let first = tokio::time::timeout(Duration::from_secs(5), response.body_mut().frame()).await;
    let first = first.expect("before the second is sent").expect("a frame").expect("whole");
    assert!(first.data_ref().expect("data").starts_with(b"event: ping"));
    world.origin.state.go_on.notify_one();
    let rest = response.into_body().collect().await.expect("a body").to_bytes();
    assert!(rest.ends_with(b"{\"type\":\"message_stop\"}\n\n"));
    world.log("egress.jsonl", 1).await;
    let recorded = std::fs::read_to_string(world.path("state/log/cassette.jsonl")).expect("a record");
    let turn = Cassette::parse(&recorded).expect("a cassette").turns.remove(0);
    assert_eq!(turn.content, [json!({ "type": "text", "text": "hi" })]);
    assert_eq!(turn.usage, Some(json!({ "input_tokens": 3, "output_tokens": 5 })));
    assert_eq!(
        (turn.after, turn.stop_reason.as_deref(), turn.model.as_deref()),
        (Some(0), Some("end_turn"), Some("claude-test"))
    );
}
